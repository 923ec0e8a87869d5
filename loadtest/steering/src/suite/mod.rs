//! The table of targets: what steering must reach, in which setting, against whom; and what it reaches.
//!
//! Every figure is a mean over [`SEEDS`]; every ratio a geometric mean over the six distributions. All policies of a cell
//! meet the same arrivals. Comparators have their published defaults. *Best* means best per distribution and metric,
//! after the fact; *best single* is the policy with the lowest mean response time in that distribution.
//!
//! Constants were found on one distribution and one load ([`TUNED_ON`]). Scored settings were looked at between changes,
//! so they are not fully blind.

pub mod cells;
pub mod report;
pub mod targets;

use serde::Serialize;

/// Where constants were found.
pub const TUNED_ON: &str = "logn1.5 at 70 % load, seed 77";
/// Seeds of the suite: with two of them tails differ by one or two per cent from those of the next two.
pub const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// World and load.
    pub setting: String,
    /// What is compared.
    pub metric: String,
    /// With whom, or with what.
    pub against: String,
    /// Ours over theirs, or the share itself.
    pub ratio: f64,
    /// What is asked.
    pub target: f64,
    /// Whether the target is a lower bound.
    pub at_least: bool,
    /// Whether it is reached.
    pub met: bool,
    /// The ratio of each distribution.
    pub by_distribution: Vec<(String, f64)>,
    /// Requests a run.
    pub requests: usize,
    /// Seeds.
    pub seeds: Vec<u64>,
}

impl Row {
    /// Heads of a table of rows.
    pub const HEADS: [&str; 6] = ["setting", "metric", "against", "ratio", "target", "met"];

    /// As a line of that table.
    pub fn cells(&self) -> Vec<String> {
        let bound = if self.at_least { ">=" } else { "<=" };
        vec![
            self.setting.clone(),
            self.metric.clone(),
            self.against.clone(),
            format!("{:.3}", self.ratio),
            format!("{bound} {:.2}", self.target),
            if self.met { "yes".into() } else { "NO".into() },
        ]
    }
}
