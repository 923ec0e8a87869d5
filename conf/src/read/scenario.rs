//! The scenario file, table by table.

use std::path::Path;
use std::time::Duration;

use foretide_routing::settings::{ParameterKind, RouteSettings};

use super::pool::{POLICIES, RULES};
use crate::document::{Says, Section, closest};
use crate::item::Item;
use crate::parse::parse;
use crate::scenario::{
    ArrivalShape, Arrivals, Campaign, Contender, CostShape, Crash, Dependence, Disturbance, Scenario,
    Traffic, World,
};
use crate::settings::Settings;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MOST_MS: f64 = 3_600_000.0;

/// The whole scenario; `None` if there is no configuration to run, which has been reported.
pub(crate) fn scenario(
    root: &Section<'_>,
    open: impl FnOnce(&Path) -> std::io::Result<String>,
) -> Option<Scenario> {
    let name = root.required("name", "\"campaign\"").and_then(|item| item.text()).unwrap_or("scenario");
    let seed = root.item("seed").and_then(|item| item.whole(0..=u64::MAX)).unwrap_or(1);
    let duration = root.required("duration", "\"10m\"").and_then(|item| item.duration(SECOND..=60 * DAY));
    let config = root.required("config", "\"foretide.toml\"").and_then(|item| config(&item, open));
    let routes = config.as_ref().map(|config| config.routing.routes.as_slice());
    let world = world(&root.section("world"));
    let arrivals = arrivals(&root.section("arrivals"));
    let mix: Vec<Traffic> = root.sections("mix").iter().map(|table| traffic(table, routes)).collect();
    let contenders = contenders(root);
    for (key, empty) in [("mix", mix.is_empty()), ("policies", contenders.is_empty())] {
        if empty {
            root.error(Says::new(format!("there is no `{key}`")).help(format!("add a [[{key}]] table")));
        }
    }
    root.close();
    let duration = duration.unwrap_or(600 * SECOND);
    Some(Scenario {
        name: name.to_owned(),
        seed,
        duration,
        world,
        arrivals,
        mix,
        contenders,
        config: config?,
    })
}

fn config(item: &Item<'_>, open: impl FnOnce(&Path) -> std::io::Result<String>) -> Option<Settings> {
    if item.is_table() {
        return item.section().map(|section| super::settings(&section));
    }
    let path = item.path()?;
    let text = open(&path)
        .map_err(|error| item.error(Says::new(format!("cannot be read: {error}")).help("check the path")))
        .ok()?;
    let shown = path.display().to_string();
    match parse(&shown, &text) {
        Ok((settings, _)) => Some(settings),
        Err(findings) => {
            let first = findings.iter().max_by_key(|finding| finding.severity);
            let first = first.map(ToString::to_string).unwrap_or_default();
            item.error(
                Says::new(format!("`{shown}` has errors; {}", first.lines().next().unwrap_or_default()))
                    .help(format!("see all of them: foretide validate {shown}")),
            );
            None
        }
    }
}

fn world(section: &Section<'_>) -> World {
    let duration = |key| {
        section.item(key).and_then(|item: Item<'_>| item.duration(Duration::ZERO..=DAY)).unwrap_or_default()
    };
    let speeds = section.item("speeds").map(|item| item.list()).unwrap_or_default();
    let mut speeds: Vec<f64> = speeds.iter().filter_map(|item| item.number(0.01..=100.0)).collect();
    if speeds.is_empty() {
        speeds.push(1.0);
    }
    let disturbance_section = section.section("disturbance");
    let disturbance = disturbance_section.is_written().then(|| disturbance(&disturbance_section));
    let mut crashes: Vec<Crash> = section.sections("crashes").iter().map(crash).collect();
    crashes.sort_by_key(|crash| crash.at);
    let world = World {
        speeds,
        cold_start: duration("cold_start"),
        network_delay: duration("network_delay"),
        disturbance,
        crashes,
    };
    section.close();
    world
}

fn disturbance(section: &Section<'_>) -> Disturbance {
    let number = |key, range| section.item(key).and_then(|item: Item<'_>| item.number(range));
    let disturbance = Disturbance {
        ratio: number("ratio", 0.0..=0.95).unwrap_or(0.2),
        factor: number("factor", 0.01..=1.0).unwrap_or(0.5),
        mean: section.item("mean").and_then(|item| item.duration(MS..=DAY)).unwrap_or(SECOND),
    };
    section.close();
    disturbance
}

fn crash(table: &Section<'_>) -> Crash {
    let at = table.required("at", "\"2m\"").and_then(|item| item.duration(Duration::ZERO..=60 * DAY));
    let instance = table.item("instance").and_then(|item| item.count(0..=100_000)).unwrap_or(0);
    table.close();
    Crash { at: at.unwrap_or_default(), instance: instance as usize }
}

#[derive(Clone, Copy)]
enum ArrivalKind {
    Poisson,
    Daily,
    TraceCsv,
}

fn arrivals(section: &Section<'_>) -> Arrivals {
    let kinds = [
        ("poisson", ArrivalKind::Poisson),
        ("daily", ArrivalKind::Daily),
        ("trace-csv", ArrivalKind::TraceCsv),
    ];
    let kind_item = section.item("kind");
    let kind = kind_item.as_ref().map_or(Some(ArrivalKind::Poisson), |item| item.choice(&kinds));
    let duration = |key, default| {
        section.item(key).and_then(|item: Item<'_>| item.duration(10 * MS..=60 * DAY)).unwrap_or(default)
    };
    let rate = || {
        let item = section.required("rate_per_s", "50.0");
        item.and_then(|item| item.number(0.001..=1e6)).unwrap_or(1.0)
    };
    let shape = match kind {
        None => {
            // A misspelt kind does not make the keys of all kinds unknown.
            let _ = ["rate_per_s", "day", "amplitude", "path", "step", "scale"].map(|key| section.item(key));
            ArrivalShape::Poisson { rate_per_s: 1.0 }
        }
        Some(ArrivalKind::Poisson) => ArrivalShape::Poisson { rate_per_s: rate() },
        Some(ArrivalKind::Daily) => ArrivalShape::Daily {
            rate_per_s: rate(),
            day: duration("day", DAY),
            amplitude: section.item("amplitude").and_then(|item| item.number(0.0..=1.0)).unwrap_or(0.5),
        },
        Some(ArrivalKind::TraceCsv) => ArrivalShape::TraceCsv {
            path: section.required("path", "\"load.csv\"").and_then(|item| item.path()).unwrap_or_default(),
            step: duration("step", 60 * SECOND),
            scale: section.item("scale").and_then(|item| item.number(1e-9..=1e9)).unwrap_or(1.0),
        },
    };
    let campaign_section = section.section("campaign");
    let campaign = campaign_section.is_written().then(|| campaign(&campaign_section));
    section.close();
    Arrivals { shape, campaign }
}

fn campaign(section: &Section<'_>) -> Campaign {
    let duration = |key, example| {
        section.required(key, example).and_then(|item| item.duration(Duration::ZERO..=60 * DAY))
    };
    let ratio = section.required("ratio", "3.0").and_then(|item| item.number(0.01..=1000.0));
    let campaign = Campaign {
        start: duration("start", "\"3m\"").unwrap_or_default(),
        duration: duration("duration", "\"1m\"").unwrap_or_default(),
        ratio: ratio.unwrap_or(1.0),
        announced: section.item("announced").and_then(|item| item.flag()).unwrap_or(false),
    };
    section.close();
    campaign
}

fn traffic(table: &Section<'_>, routes: Option<&[RouteSettings]>) -> Traffic {
    let route_item = table.required("route", "\"search\"");
    let name = route_item.as_ref().and_then(Item::text).unwrap_or_default();
    let route = routes.and_then(|routes| routes.iter().find(|route| route.name == name));
    if let (Some(item), Some(routes), None) = (&route_item, routes, route) {
        let names = routes.iter().map(|route| route.name.as_str());
        let help = match closest(name, names.clone()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("routes of the configuration: {}", names.collect::<Vec<_>>().join(", ")),
        };
        item.error(Says::new(format!("the configuration has no route \"{name}\"")).help(help));
    }
    let share = table.item("share").and_then(|item| item.number(1e-6..=1e6)).unwrap_or(1.0);
    let consumers = table.item("consumers").and_then(|item| item.count(1..=1_000_000)).unwrap_or(1);
    let cost = cost(table);
    let parameter_section = table.section("parameter");
    let parameter = parameter_section.is_written().then(|| dependence(&parameter_section, route));
    table.close();
    Traffic { route: name.to_owned(), consumers, share, cost, parameter }
}

#[derive(Clone, Copy)]
enum CostKind {
    Constant,
    Lognormal,
    Pareto,
    Bimodal,
}

fn cost(table: &Section<'_>) -> CostShape {
    let kinds = [
        ("constant", CostKind::Constant),
        ("lognormal", CostKind::Lognormal),
        ("pareto", CostKind::Pareto),
        ("bimodal", CostKind::Bimodal),
    ];
    let kind_item = table.item("distribution");
    let kind = kind_item.as_ref().map_or(Some(CostKind::Constant), |item| item.choice(&kinds));
    let ms = |key| {
        let item = table.required(key, "20.0");
        item.and_then(|item| item.number(0.001..=MOST_MS)).unwrap_or(1.0)
    };
    let number = |key, range, default| {
        table.item(key).and_then(|item: Item<'_>| item.number(range)).unwrap_or(default)
    };
    match kind {
        None => {
            let keys = ["mean_ms", "sigma", "alpha", "light_ms", "heavy_ms", "heavy_ratio"];
            let _ = keys.map(|key| table.item(key));
            CostShape::Constant { mean_ms: 1.0 }
        }
        Some(CostKind::Constant) => CostShape::Constant { mean_ms: ms("mean_ms") },
        Some(CostKind::Lognormal) => {
            CostShape::Lognormal { mean_ms: ms("mean_ms"), sigma: number("sigma", 0.0..=5.0, 1.0) }
        }
        Some(CostKind::Pareto) => {
            CostShape::Pareto { mean_ms: ms("mean_ms"), alpha: number("alpha", 1.05..=100.0, 1.5) }
        }
        Some(CostKind::Bimodal) => CostShape::Bimodal {
            light_ms: ms("light_ms"),
            heavy_ms: ms("heavy_ms"),
            heavy_ratio: number("heavy_ratio", 0.0..=1.0, 0.05),
        },
    }
}

fn dependence(section: &Section<'_>, route: Option<&RouteSettings>) -> Dependence {
    let item = section.required("name", "\"n\"");
    let name = item.as_ref().and_then(Item::text).unwrap_or_default();
    let numeric = |route: &RouteSettings| {
        route.parameters.iter().any(|rule| rule.name == name && rule.kind == ParameterKind::Number)
    };
    if let (Some(item), Some(route)) = (&item, route)
        && !numeric(route)
    {
        item.error(
            Says::new(format!("route \"{}\" reads no number \"{name}\"", route.name))
                .help(format!("add \"query:{name}:number\" to its `parameters`")),
        );
    }
    let number = |key, default| {
        section.item(key).and_then(|item: Item<'_>| item.number(1e-6..=1e12)).unwrap_or(default)
    };
    let (low, high) = (number("low", 1.0), number("high", 100.0));
    if low > high {
        section.error(Says::new("`low` is above `high`").help("swap them"));
    }
    let power = section.item("power").and_then(|item| item.number(0.0..=4.0)).unwrap_or(1.0);
    section.close();
    Dependence { name: name.to_owned(), low, high: high.max(low), power }
}

fn contenders(root: &Section<'_>) -> Vec<Contender> {
    let mut contenders: Vec<Contender> = Vec::new();
    for table in root.sections("policies") {
        let name = table.required("name", "\"reactive\"").and_then(|item| item.text()).unwrap_or_default();
        let policy = table.item("policy").and_then(|item| item.choice(&POLICIES)).unwrap_or_default();
        let rule = table.item("rule").and_then(|item| item.choice(&RULES)).unwrap_or_default();
        if contenders.iter().any(|other| other.name == name) {
            table.error(
                Says::new(format!("a second policy named \"{name}\"")).help("give it a name of its own"),
            );
        }
        table.close();
        contenders.push(Contender { name: name.to_owned(), policy, rule });
    }
    contenders
}
