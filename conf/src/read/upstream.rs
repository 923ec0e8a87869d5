//! How a pool talks to its instances: `health`, `ejection`, `retry`, `upstream`.

use std::time::Duration;

use foretide_routing::settings::{
    EjectionSettings, HealthSettings, ReportedCost, RetrySettings, SuccessRateSettings, UpstreamSettings,
};

use crate::document::{Says, Section, closest};
use crate::item::Item;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn health(section: &Section<'_>) -> HealthSettings {
    let duration = |key, range| section.item(key).and_then(|item: Item<'_>| item.duration(range));
    let count =
        |key, default| section.item(key).and_then(|item: Item<'_>| item.count(1..=1000)).unwrap_or(default);
    let path = section.item("path");
    if let Some(item) = &path
        && item.as_str().is_some_and(|path| !path.starts_with('/'))
    {
        item.error(Says::new("is not a path").help("it starts with a slash, like \"/health\""));
    }
    // Loopback and one data centre answer in milliseconds; a second without an answer is a failure.
    let settings = HealthSettings {
        path: path.and_then(|item| item.text()).map(str::to_owned),
        every: duration("every", 10 * MS..=HOUR).unwrap_or(2 * SECOND),
        timeout: duration("timeout", MS..=HOUR).unwrap_or(SECOND),
        unhealthy_after: count("unhealthy_after", 3),
        healthy_after: count("healthy_after", 2),
    };
    section.close();
    settings
}

pub(super) fn ejection(section: &Section<'_>) -> EjectionSettings {
    let duration = |key| section.item(key).and_then(|item: Item<'_>| item.duration(10 * MS..=24 * HOUR));
    let ratio =
        |key, default| section.item(key).and_then(|item: Item<'_>| item.number(0.0..=1.0)).unwrap_or(default);
    let failures = section.item("consecutive_failures").and_then(|item| item.count(0..=10_000));
    let base = duration("base").unwrap_or(10 * SECOND);
    let longest = duration("longest");
    if section.is_written() && longest.unwrap_or(300 * SECOND) < base {
        section.error(Says::new("`longest` is shorter than `base`").help("raise `longest` or lower `base`"));
    }
    // Envoy's five in a row and five minutes; half a pool, since small pools are the usual case here.
    let settings = EjectionSettings {
        consecutive_failures: failures.unwrap_or(5),
        success_rate: success_rate(&section.section("success_rate")),
        base,
        longest: longest.unwrap_or(300 * SECOND),
        cap_ratio: ratio("cap_ratio", 0.5),
        panic_ratio: ratio("panic_ratio", 0.5),
    };
    section.close();
    settings
}

/// Envoy's defaults.
fn success_rate(section: &Section<'_>) -> Option<SuccessRateSettings> {
    let count = |key| section.item(key).and_then(|item: Item<'_>| item.count(1..=1_000_000));
    let settings = SuccessRateSettings {
        stdev_factor: section.item("stdev_factor").and_then(|item| item.number(0.0..=100.0)).unwrap_or(1.9),
        hosts: count("hosts").unwrap_or(5),
        requests: count("requests").unwrap_or(100),
        every: section.item("every").and_then(|item| item.duration(100 * MS..=HOUR)).unwrap_or(10 * SECOND),
    };
    section.close();
    (settings.stdev_factor > 0.0).then_some(settings)
}

pub(super) fn retry(section: &Section<'_>) -> RetrySettings {
    let number = |key, most, default| {
        section.item(key).and_then(|item: Item<'_>| item.number(0.0..=most)).unwrap_or(default)
    };
    // Finagle's budget: a fifth more load at worst, and a few retries always, so that quiet pools may retry too.
    let settings = RetrySettings {
        attempts: section.item("attempts").and_then(|item| item.count(1..=10)).unwrap_or(3),
        budget_ratio: number("budget_ratio", 1.0, 0.2),
        budget_floor_per_s: number("budget_floor_per_s", 10_000.0, 3.0),
    };
    section.close();
    settings
}

pub(super) fn upstream(section: &Section<'_>) -> UpstreamSettings {
    let duration = |key| section.item(key).and_then(|item: Item<'_>| item.duration(MS..=24 * HOUR));
    let tls_server_name = section.item("tls_server_name").and_then(|item| item.text()).map(str::to_owned);
    let ca = section.item("tls_ca");
    if let (Some(item), None) = (&ca, &tls_server_name) {
        item.error(
            Says::new("names authorities, but nothing says that instances talk TLS")
                .help("add `tls_server_name`, the name in the instances' certificate"),
        );
    }
    let settings = UpstreamSettings {
        tls_server_name,
        tls_ca: ca.and_then(|item| item.path()),
        http2: section.item("http2").and_then(|item| item.flag()).unwrap_or(false),
        // One lost SYN is sent again after a second: a connection that takes longer is better made elsewhere.
        connect_timeout: duration("connect_timeout").unwrap_or(SECOND),
        first_byte_timeout: duration("first_byte_timeout").unwrap_or(60 * SECOND),
        idle_timeout: duration("idle_timeout").unwrap_or(60 * SECOND),
        cost_from: cost_from(section),
        pass_load_report: section.item("pass_load_report").and_then(|item| item.flag()).unwrap_or(false),
        load_stream: section.item("load_stream").and_then(|item| item.duration(100 * MS..=5 * SECOND)),
    };
    section.close();
    settings
}

/// `cost_from` and `cost_unit`: measured service, or a number of the instances' load reports.
fn cost_from(section: &Section<'_>) -> Option<ReportedCost> {
    let item = section.item("cost_from");
    let unit_item = section.item("cost_unit");
    let unit = unit_item.as_ref().and_then(|item| item.duration(Duration::from_nanos(1)..=HOUR));
    let text = item.as_ref().and_then(|item| item.text());
    match text.filter(|text| *text != MEASURED) {
        None => {
            if let Some(item) = unit_item {
                let help = "add `cost_from = \"request_cost.NAME\"` or remove it";
                item.warn(Says::new("has no effect while costs are measured").help(help));
            }
            None
        }
        Some(text) => {
            if let (Some(item), Err(says)) = (&item, reported(text)) {
                item.error(says);
            }
            Some(ReportedCost { field: text.to_owned(), unit: unit.unwrap_or(SECOND) })
        }
    }
}

/// Costs are what was measured here.
const MEASURED: &str = "measured";
/// Groups of named numbers in a load report that may be costs.
const GROUPS: [&str; 2] = ["request_cost", "named_metrics"];

fn reported(text: &str) -> Result<(), Says> {
    let (group, name) = text.split_once('.').unwrap_or((text, ""));
    let known = GROUPS.contains(&group);
    if known && !name.is_empty() && !name.contains([',', '=']) {
        return Ok(());
    }
    let meant = closest(group, GROUPS.into_iter().chain([MEASURED]));
    let help = match meant {
        Some(MEASURED) => "did you mean \"measured\"?".to_owned(),
        Some(group) => format!("did you mean \"{group}.{}\"?", if name.is_empty() { "NAME" } else { name }),
        None => "write \"measured\", or \"request_cost.NAME\" or \"named_metrics.NAME\" of the load reports"
            .to_owned(),
    };
    Err(Says::new(format!("\"{text}\" is no source of costs")).help(help))
}
