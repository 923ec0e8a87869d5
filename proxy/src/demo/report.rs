//! The demo's summary: a table for the terminal, one line of JSON, a page of charts.

use foretide_loadtest::page::{Chart, Line, Page};
use foretide_loadtest::sim::contest::{HEADS, row, text_table};
use foretide_loadtest::sim::outcome::Figures;
use serde_json::{Value, json};

use crate::demo::DemoOutcome;
use crate::demo::replay::REACTIVE_UTILISATIONS;

/// With fewer requests than this the 99th percentile hangs on fewer than twenty of them.
const TELLING_REQUESTS: u64 = 2_000;

/// The table with what it means.
pub fn summary(outcome: &DemoOutcome) -> String {
    format!(
        "\n{}\nlive: what clients saw. predictive, reactive: this run's own arrivals and measured costs again in the \
         simulator;\nlive against predictive tells how true the replay is. reactive: least-request and an autoscaler on \
         request rate,\nsame limits; its target ({:.1} requests/s per instance) is the best of {} for this very run that \
         costs no more\ninstance-seconds than predictive.\n{}",
        text_table(&rows(outcome)),
        outcome.reactive_target_rate_per_s,
        REACTIVE_UTILISATIONS.len(),
        caution(outcome.predictive.requests)
    )
}

/// What figures of a short run are worth.
fn caution(requests: u64) -> String {
    if requests >= TELLING_REQUESTS {
        return String::new();
    }
    format!(
        "The slowest 1 % of {requests} requests are {}: chance has a say in the p99. Run it longer (150 s is usual) or \
         with another --seed.\n",
        requests / 100
    )
}

/// One object.
pub fn json(outcome: &DemoOutcome) -> Value {
    json!({
        "seed": outcome.plan.seed,
        "requests": outcome.live.requests,
        "errors": outcome.live.errors,
        "live": figures(&outcome.live),
        "predictive": figures(&outcome.predictive),
        "reactive": figures(&outcome.reactive),
    })
}

/// One self-contained page.
pub fn page(outcome: &DemoOutcome) -> String {
    let timeline = &outcome.timeline;
    let campaign = outcome.plan.campaign();
    let span = (campaign.start.as_secs_f64(), (campaign.start + campaign.duration).as_secs_f64());
    let mut page = Page::new("foretide demo");
    page.paragraph(&format!("Seed {}. {}", outcome.plan.seed, outcome.plan.introduction()));
    page.table(&HEADS, &rows(outcome));
    page.paragraph(&format!(
        "live: what clients saw. predictive and reactive: the same arrivals and measured costs in the simulator. \
         reactive is least-request with an autoscaler on request rate under the same limits; its target ({:.1} \
         requests/s per instance) is the best of {} for this very run that costs no more instance-seconds than \
         predictive. {}",
        outcome.reactive_target_rate_per_s,
        REACTIVE_UTILISATIONS.len(),
        caution(outcome.predictive.requests)
    ));
    page.chart(&Chart {
        title: "Load: what came, and what had been forecast a lead time before (90 % interval)".into(),
        unit: "seconds of service per second".into(),
        band: timeline.forecast.iter().map(|&(at, low, _, high)| (at, low, high)).collect(),
        lines: vec![
            Line { name: "forecast".into(), points: timeline.forecast.iter().map(|f| (f.0, f.2)).collect() },
            Line { name: "actual".into(), points: timeline.actual.clone() },
        ],
        spans: vec![span],
    });
    let fleet = |pick: fn(&(f64, usize, usize)) -> usize| {
        timeline.fleet.iter().map(|point| (point.0, pick(point) as f64)).collect()
    };
    page.chart(&Chart {
        title: "Instances: asked for and warm (shaded: the campaign)".into(),
        unit: "instances".into(),
        lines: vec![
            Line { name: "asked for".into(), points: fleet(|point| point.2) },
            Line { name: "warm".into(), points: fleet(|point| point.1) },
        ],
        spans: vec![span],
        ..Chart::default()
    });
    page.list(timeline.decisions.iter().map(|(second, words)| format!("{second:.1} s: {words}")));
    page.finish()
}

fn rows(outcome: &DemoOutcome) -> Vec<Vec<String>> {
    vec![
        row("live", &outcome.live),
        row("predictive", &outcome.predictive),
        row("reactive", &outcome.reactive),
    ]
}

fn figures(figures: &Figures) -> Value {
    json!({
        "p50_ms": figures.p50_ms,
        "p99_ms": figures.p99_ms,
        "p999_ms": figures.p999_ms,
        "over_objective_ratio": figures.over_objective_ratio,
        "instance_seconds": figures.instance_seconds,
    })
}
