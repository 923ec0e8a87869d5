//! `[pools.NAME]` and its `manager` and `scaling`.

use std::time::Duration;

use foretide_routing::settings::{
    AdmissionSettings, ClientHints, Policy, PoolSettings, ProcessManager, QueueSettings, ScalingMode,
    ScalingRule, ScalingSettings, ServingSettings,
};
use foretide_steering::admission::MARGIN;
use foretide_steering::score::Form;

use super::{choice, endpoint, hedge, sight, upstream};
use crate::document::{Says, Section};
use crate::finding::names_a_secret;
use crate::item::Item;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const POLICIES: [(&str, Policy); 9] = [
    ("predictive", Policy::Predictive),
    ("round-robin", Policy::RoundRobin),
    ("weighted", Policy::Weighted),
    ("least-request", Policy::LeastRequest),
    ("p2c", Policy::P2c),
    ("peak-ewma", Policy::PeakEwma),
    ("prequal", Policy::Prequal),
    ("ketama", Policy::Ketama),
    ("maglev", Policy::Maglev),
];

/// How instances serve; found out where it is not said.
const SERVES: [(&str, Option<Form>); 3] = [
    ("auto", None),
    ("processor-sharing", Some(Form::ProcessorSharing)),
    ("worker-pool", Some(Form::WorkerPool)),
];

pub(crate) const RULES: [(&str, ScalingRule); 2] =
    [("predictive", ScalingRule::Predictive), ("request-rate", ScalingRule::RequestRate)];

const HINTS: [(&str, ClientHints); 3] =
    [("ignore", ClientHints::Ignore), ("lower", ClientHints::Lower), ("trust", ClientHints::Trust)];

const MODES: [(&str, ScalingMode); 3] =
    [("observe", ScalingMode::Observe), ("advise", ScalingMode::Advise), ("act", ScalingMode::Act)];

/// Names go into metrics and addresses of the admin API; each pool has tables and history of its own.
const MOST_POOLS: usize = 1024;
/// More instances of one pool than a scan of all should read on the hot path.
const MOST_INSTANCES: u32 = 1000;

pub(super) fn pools(table: &Section<'_>) -> Vec<PoolSettings> {
    let named = table.named();
    if named.len() > MOST_POOLS {
        table.error(
            Says::new(format!("more than {MOST_POOLS} pools")).help("split them over several proxies"),
        );
    }
    named.iter().filter_map(|(name, item)| Some(pool(name, item, &item.section()?))).collect()
}

fn pool(name: &str, item: &Item<'_>, section: &Section<'_>) -> PoolSettings {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        item.error(Says::new("is no name for a pool").help("at most 64 letters, digits, `-` and `_`"));
    }
    let endpoints = endpoint::endpoints(section);
    let policy = section.item("policy").and_then(|item| item.choice(&POLICIES)).unwrap_or_default();
    let manager_section = section.section("manager");
    let scaling_section = section.section("scaling");
    let scaling = scaling(&scaling_section, manager_section.is_written());
    let manager = manager_section.is_written().then(|| manager(&manager_section, scaling.ceiling));
    if manager.is_none() && section.item("endpoints").is_none() {
        section.error(
            Says::new("has neither endpoints nor a manager, so nothing could answer")
                .help(format!("add `endpoints = [\"127.0.0.1:9000\"]` or a [pools.{name}.manager] table")),
        );
    }
    let duration = |key, range| section.item(key).and_then(|item: Item<'_>| item.duration(range));
    let hedge_section = section.section("hedge");
    let settings = PoolSettings {
        name: name.to_owned(),
        policy,
        choice: choice::choice(section, policy, &endpoints),
        endpoints,
        manager,
        scaling,
        // A small server's cores: too few would spread work needlessly, too many would pile it up. It is learned.
        concurrency: section.item("concurrency").and_then(|item| item.count(1..=100_000)).unwrap_or(4),
        serving: ServingSettings {
            form: section.item("serves").and_then(|item| item.choice(&SERVES)).flatten(),
            heavy_yields: section.item("heavy_yields").and_then(|item| yields(&item)),
        },
        queue: queue(&section.section("queue")),
        admission: admission(&section.section("admission")),
        sight: sight::sight(&section.section("sight"), policy),
        slow_start: duration("slow_start", Duration::ZERO..=HOUR).unwrap_or(10 * SECOND),
        objective: duration("objective", MS..=HOUR).unwrap_or(SECOND),
        health: upstream::health(&section.section("health")),
        ejection: upstream::ejection(&section.section("ejection")),
        retry: upstream::retry(&section.section("retry")),
        hedge: hedge::hedge(&hedge_section),
        upstream: upstream::upstream(&section.section("upstream")),
    };
    if let (Some(most), Some(_)) = (settings.choice.max_requests, settings.queue)
        && most < settings.concurrency
        && let Some(item) = section.section("limits").item("max_requests")
    {
        item.error(
            Says::new(format!(
                "is below the {} slots of an instance that the queue gives out",
                settings.concurrency
            ))
            .help("lower `concurrency` or remove `limits.max_requests`"),
        );
    }
    hedge::check(&hedge_section, &settings);
    section.close();
    settings
}

/// `None`: as the fleet's speeds say.
fn yields(item: &Item<'_>) -> Option<f32> {
    item.number_or("auto", 0.0..=10.0).map(|yields| yields as f32)
}

/// Requests wait in the proxy only if the table is written.
fn queue(section: &Section<'_>) -> Option<QueueSettings> {
    let limit = section.item("limit").and_then(|item| item.count(1..=100_000)).unwrap_or(1_000);
    let timeout = section.item("timeout").and_then(|item| item.duration(MS..=HOUR)).unwrap_or(10 * SECOND);
    let written = section.is_written();
    section.close();
    written.then_some(QueueSettings { limit: limit as usize, timeout })
}

/// Everybody comes in unless the table is written, and it may be switched off where it is.
fn admission(section: &Section<'_>) -> Option<AdmissionSettings> {
    let enabled = section.item("enabled").and_then(|item| item.flag()).unwrap_or(true);
    let margin = section.item("margin").and_then(|item| item.number(0.05..=1.0)).unwrap_or(MARGIN);
    let hints = section.item("client_hints").and_then(|item| item.choice(&HINTS)).unwrap_or_default();
    let per_slot = |key| section.item(key).and_then(|item: Item<'_>| item.count(1..=100_000));
    // Below two a slot idles while the next request is on its way; at 200 a slot everything is over its objective.
    let least_per_slot = per_slot("least_per_slot").unwrap_or(2);
    let most_per_slot = per_slot("most_per_slot").unwrap_or(200.max(least_per_slot));
    if let Some(item) = section.item("most_per_slot").filter(|_| most_per_slot < least_per_slot) {
        item.error(
            Says::new(format!("{most_per_slot} is below `least_per_slot`, {least_per_slot}"))
                .help("the limit moves between the two: raise this one or lower the other"),
        );
    }
    let written = section.is_written();
    section.close();
    let settings = AdmissionSettings { margin, client_hints: hints, least_per_slot, most_per_slot };
    (written && enabled).then_some(settings)
}

fn scaling(section: &Section<'_>, managed: bool) -> ScalingSettings {
    let count = |key, range| section.item(key).and_then(|item: Item<'_>| item.count(range));
    let duration = |key, range| section.item(key).and_then(|item: Item<'_>| item.duration(range));
    let mode_item = section.item("mode");
    let mode = mode_item.as_ref().and_then(|item| item.choice(&MODES)).unwrap_or_default();
    let rule = section.item("rule").and_then(|item| item.choice(&RULES)).unwrap_or_default();
    let floor = count("floor", 1..=MOST_INSTANCES);
    let ceiling_item = section.item("ceiling");
    let ceiling = ceiling_item.as_ref().and_then(|item| item.count(1..=MOST_INSTANCES));
    if let (Some(item), Some(floor), Some(ceiling)) = (&ceiling_item, floor, ceiling)
        && floor > ceiling
    {
        item.error(
            Says::new(format!("the ceiling {ceiling} is below the floor {floor}"))
                .help("raise `ceiling` or lower `floor`"),
        );
    }
    if let (Some(item), ScalingMode::Act) = (&mode_item, mode) {
        if !managed {
            item.error(
                Says::new("nothing can act: this pool has no manager").help(
                    "add a `manager` table to the pool, or use \"advise\" to be told what one would do",
                ),
            );
        }
        if ceiling_item.is_none() {
            item.error(
                Says::new("starting instances costs money, and no `ceiling` limits it")
                    .help("add `ceiling = 10`"),
            );
        }
    }
    let rate_item = section.item("target_rate_per_s");
    let target_rate_per_s = rate_item.as_ref().and_then(|item| item.number(0.001..=1e6));
    if let (Some(item), ScalingRule::Predictive) = (&rate_item, rule) {
        item.warn(
            Says::new("has no effect with this rule").help("add `rule = \"request-rate\"` or remove it"),
        );
    }
    let floor = floor.unwrap_or(1);
    let settings = ScalingSettings {
        mode,
        rule,
        floor,
        // Ten of anything is still affordable; whoever lets it act has to choose a number.
        ceiling: ceiling.unwrap_or(10).max(floor),
        step_up: count("step_up", 1..=MOST_INSTANCES).unwrap_or(4),
        // Release slowly: a wrong release costs clients, a late one only money.
        step_down: count("step_down", 1..=MOST_INSTANCES).unwrap_or(1),
        // Kubernetes' stabilisation window of a scale-down.
        cooldown: duration("cooldown", Duration::ZERO..=24 * HOUR).unwrap_or(300 * SECOND),
        // Prediction makes 0.85 to 0.9 safe where it is good; below that until the scorecard says so.
        target_utilisation: section
            .item("target_utilisation")
            .and_then(|item| item.number(0.05..=0.98))
            .unwrap_or(0.8),
        target_rate_per_s,
        assumed_lead: duration("assumed_lead", MS..=HOUR).unwrap_or(30 * SECOND),
        drain_timeout: duration("drain_timeout", Duration::ZERO..=24 * HOUR).unwrap_or(30 * SECOND),
    };
    section.close();
    settings
}

fn manager(section: &Section<'_>, ceiling: u32) -> ProcessManager {
    section.item("kind").and_then(|item| item.choice(&[("process", ())]));
    let environment = environment(&section.section("environment"));
    let told = environment.iter().any(|(_, value)| value.contains("{port}"));
    let command = command(section, told);
    let ports = ports(section, ceiling);
    let path = |item: &Item<'_>| {
        let path = item.text().filter(|path| path.starts_with('/')).map(str::to_owned);
        if path.is_none() && item.as_str().is_some_and(|text| !text.is_empty()) {
            item.error(Says::new("is not a path").help("it starts with a slash, like \"/health\""));
        }
        path
    };
    let ready_path = section.item("ready_path").as_ref().and_then(path);
    let warm = section.item("warm_paths").map(|item| item.list()).unwrap_or_default();
    let duration = |key, range| section.item(key).and_then(|item: Item<'_>| item.duration(range));
    let settings = ProcessManager {
        command,
        environment,
        ports,
        ready_path: ready_path.unwrap_or_else(|| "/health".to_owned()),
        warm_paths: warm.iter().filter_map(path).collect(),
        // Generous: killing a slow starter only starts it again.
        start_timeout: duration("start_timeout", 100 * MS..=HOUR).unwrap_or(60 * SECOND),
        stop_grace: duration("stop_grace", Duration::ZERO..=HOUR).unwrap_or(10 * SECOND),
    };
    section.close();
    settings
}

/// `told`: the environment names the port.
fn command(section: &Section<'_>, told: bool) -> Vec<String> {
    let Some(item) = section.required("command", "[\"./producer\", \"--port\", \"{port}\"]") else {
        return Vec::new();
    };
    let items = item.list();
    let command: Vec<String> = items.iter().filter_map(Item::text).map(str::to_owned).collect();
    if items.is_empty() {
        item.error(
            Says::new("names no program").help("write it like [\"./producer\", \"--port\", \"{port}\"]"),
        );
    } else if !told && !command.iter().any(|word| word.contains("{port}")) {
        item.error(Says::new("has no `{port}`: all instances would use the same one").help(
            "put \"{port}\" where the program expects its port, or `environment = { PORT = \"{port}\" }`",
        ));
    }
    for item in &items {
        let Some(word) = item.as_str() else { continue };
        for name in placeholders(word).filter(|name| !["port", "instance"].contains(name)) {
            item.warn(
                Says::new(format!("`{{{name}}}` is not replaced"))
                    .help("only {port} and {instance} are; pass anything else by `environment`"),
            );
        }
        if let Some((option, value)) = word.split_once('=')
            && names_a_secret(option)
            && !value.is_empty()
        {
            item.warn(
                Says::new("hands a secret over in plain text, which every user of the machine can see")
                    .help("set it in the environment that foretide itself starts in: instances inherit that"),
            );
        }
    }
    command
}

/// Words in braces that look like placeholders.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    inner.filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

fn environment(section: &Section<'_>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (name, item) in section.named() {
        if name.is_empty() || name.contains(['=', '\0']) {
            item.error(Says::new("is no name for a variable").help("write it like LOG_LEVEL = \"info\""));
            continue;
        }
        let Some(value) = item.as_str() else {
            item.text();
            continue;
        };
        if names_a_secret(&name) && !value.is_empty() {
            item.warn_at_key(
                Says::new("looks like a secret in plain text")
                    .help("set it in the environment that foretide itself starts in: instances inherit that"),
            );
        }
        variables.push((name, value.to_owned()));
    }
    variables
}

fn ports(section: &Section<'_>, ceiling: u32) -> (u16, u16) {
    // Above most registered services and below the range that clients take ports from.
    let default = (9100, 9199);
    let Some(item) = section.item("ports") else { return default };
    let Some(text) = item.text() else { return default };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Ok(first @ 1..), Ok(last @ 1..)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) else {
        item.error(Says::new("is not a range of ports").help("first and last, like \"9100-9199\""));
        return (0, 0);
    };
    if first > last {
        item.error(Says::new("ends before it starts").help(format!("write \"{last}-{first}\"")));
    } else if u32::from(last - first) + 1 < ceiling {
        let have = u32::from(last - first) + 1;
        item.error(
            Says::new(format!("{have} ports are fewer than the ceiling of {ceiling} instances"))
                .help("widen the range or lower `scaling.ceiling`"),
        );
    }
    (first, last)
}
