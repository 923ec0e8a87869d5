//! Contenders side by side in the same world.

use foretide_conf::scenario::Scenario;
use serde::Serialize;

use crate::page::Page;
use crate::sim::arrivals::{self, ScenarioError};
use crate::sim::outcome::Figures;
use crate::sim::run::{self, RunOutcome};

/// What one contender came to.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Latencies and cost.
    #[serde(flatten)]
    pub figures: Figures,
    /// Mean latency, milliseconds.
    pub mean_ms: f64,
    /// Hash of all its decisions.
    pub digest: String,
    /// Instances asked for or released: (seconds, why).
    pub scaling: Vec<(f64, String)>,
    /// Broken invariants; empty in a sound run.
    pub violations: Vec<String>,
}

impl Standing {
    /// From a run.
    pub fn new(name: &str, outcome: RunOutcome) -> Self {
        Self {
            name: name.to_owned(),
            figures: outcome.figures,
            mean_ms: outcome.mean_ms,
            digest: outcome.digest.to_string(),
            scaling: outcome.scaling.into_iter().map(|(at, words)| (at.as_secs_f64(), words)).collect(),
            violations: outcome
                .violations
                .into_iter()
                .map(|violation| format!("{:.3} s: {}", violation.at.as_secs_f64(), violation.what))
                .collect(),
        }
    }
}

/// Runs all contenders of a scenario, telling `progress` the name of each before it starts.
///
/// # Errors
/// The scenario's trace or mix cannot be used.
pub fn run_all(scenario: &Scenario, mut progress: impl FnMut(&str)) -> Result<Vec<Standing>, ScenarioError> {
    scenario
        .contenders
        .iter()
        .map(|contender| {
            progress(&contender.name);
            let world = arrivals::world(scenario, contender)?;
            Ok(Standing::new(&contender.name, run::run(&world)))
        })
        .collect()
}

/// Heads of [`row`].
pub const HEADS: [&str; 8] =
    ["", "requests", "errors", "p50 ms", "p99 ms", "p99.9 ms", "over objective", "instance-seconds"];

/// One line of a comparison.
pub fn row(name: &str, figures: &Figures) -> Vec<String> {
    vec![
        name.to_owned(),
        figures.requests.to_string(),
        figures.errors.to_string(),
        format!("{:.1}", figures.p50_ms),
        format!("{:.1}", figures.p99_ms),
        format!("{:.1}", figures.p999_ms),
        format!("{:.2} %", 100.0 * figures.over_objective_ratio),
        format!("{:.0}", figures.instance_seconds),
    ]
}

/// A table for a terminal: first column to the left, numbers to the right.
pub fn text_table(rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(HEADS.map(str::to_owned).to_vec()).chain(rows.iter().cloned());
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            all().filter_map(|row| row.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
        })
        .collect();
    all()
        .map(|row| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ") + "\n"
        })
        .collect()
}

/// The whole comparison as a page.
pub fn page(scenario: &Scenario, standings: &[Standing]) -> String {
    let mut page = Page::new(&format!("foretide simulate: {}", scenario.name));
    page.paragraph(&format!(
        "Seed {}, {} s of virtual time; the same arrivals for every contender.",
        scenario.seed,
        scenario.duration.as_secs_f64()
    ));
    let rows: Vec<_> = standings.iter().map(|standing| row(&standing.name, &standing.figures)).collect();
    page.table(&HEADS, &rows);
    for standing in standings {
        page.paragraph(&format!("{}: digest {}", standing.name, standing.digest));
        page.list(standing.scaling.iter().map(|(at, words)| format!("{at:.1} s: {words}")));
        page.list(standing.violations.iter().map(|violation| format!("BROKEN {violation}")));
    }
    page.finish()
}
