//! `[pools.NAME.hedge]`: a second instance for light requests that wait for too long.

use std::time::Duration;

use foretide_routing::settings::{HedgeAfter, HedgeSettings, PoolSettings};

use crate::document::{Says, Section};
use crate::item::Item;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The slowest twentieth: what Dean and Barroso wait for.
const USUAL: f64 = 0.95;
/// As much more load at most, theirs too.
const SHARE: f64 = 0.05;

/// Nothing is hedged unless the table is written.
pub(super) fn hedge(section: &Section<'_>) -> Option<HedgeSettings> {
    let after = section.item("after").as_ref().and_then(after);
    let budget = section.item("budget").and_then(|item| item.number(0.0..=0.5));
    let written = section.is_written();
    section.close();
    let after = after.unwrap_or(HedgeAfter::Quantile(USUAL));
    written.then_some(HedgeSettings { after, budget: budget.unwrap_or(SHARE) })
}

/// `"p95"` or a duration.
fn after(item: &Item<'_>) -> Option<HedgeAfter> {
    let Some(digits) = item.as_str().and_then(|text| text.strip_prefix('p')) else {
        return item.duration(MS..=MINUTE).map(HedgeAfter::Fixed);
    };
    let percent: Option<f64> = digits.parse().ok().filter(|percent| (50.0..=99.9).contains(percent));
    if percent.is_none() {
        let help =
            "write \"p95\" for the time within which 95 % of instances answer, or a duration like \"50ms\"";
        item.error(Says::new("is no percentile from p50 to p99.9").help(help));
    }
    percent.map(|percent| HedgeAfter::Quantile(percent / 100.0))
}

/// What else the pool does decides whether anything can be hedged at all.
pub(super) fn check(section: &Section<'_>, pool: &PoolSettings) {
    if pool.hedge.is_none() {
        return;
    }
    let reasons = [
        (
            pool.queue.is_some(),
            "has no effect with a queue, which gives each request one slot of the pool",
            "queue",
        ),
        (
            pool.choice.affinity.is_some(),
            "has no effect with affinity: clients would move to whoever answered first",
            "affinity",
        ),
        (pool.upstream.http2, "has no effect: only instances that speak HTTP/1 are hedged", "upstream.http2"),
    ];
    for (_, says, other) in reasons.into_iter().filter(|(holds, ..)| *holds) {
        section.warn(Says::new(says).help(format!("remove `hedge` or `{other}`")));
    }
    if pool.retry.attempts < 2 {
        section.warn(
            Says::new("has no effect: `retry.attempts` allows one try a request")
                .help("raise it to 2 or more"),
        );
    }
}
