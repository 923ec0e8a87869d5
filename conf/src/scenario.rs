//! The simulator's scenario file: a pretended world, its traffic, and the policies to compare in it.
//!
//! The product's own configuration is embedded as a `[config]` table or named as a file, so that what is simulated is
//! what would run. Findings are those of [`crate::parse`]: all at once, with their place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foretide_routing::settings::{Policy, ScalingRule};

use crate::finding::Finding;
use crate::parse::read_text;
use crate::read;
use crate::settings::Settings;

/// One simulation, described.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// For people.
    pub name: String,
    /// Seed of the world; independent of the configuration's.
    pub seed: u64,
    /// Virtual time to simulate.
    pub duration: Duration,
    /// Machines and network.
    pub world: World,
    /// When requests come.
    pub arrivals: Arrivals,
    /// What they are; at least one. Shares are relative to their sum.
    pub mix: Vec<Traffic>,
    /// What to compare, in order; at least one.
    pub contenders: Vec<Contender>,
    /// The configuration that all contenders share but for their policy and rule.
    pub config: Settings,
}

/// Machines and network.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Speeds of instances in order of their start, again from the first when used up; 1: as the costs say.
    pub speeds: Vec<f64>,
    /// From the start of an instance until it is ready.
    pub cold_start: Duration,
    /// One way between proxy and instance.
    pub network_delay: Duration,
    /// Time-outs of instances' speed: neighbours, garbage collection.
    pub disturbance: Option<Disturbance>,
    /// Instances that die, in order of time.
    pub crashes: Vec<Crash>,
}

/// Every instance is slow for a share of the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// Share of the time, 0 to 1.
    pub ratio: f64,
    /// Speed is multiplied by this meanwhile, 0 to 1.
    pub factor: f64,
    /// Mean length of a disturbance; exponentially distributed.
    pub mean: Duration,
}

/// An instance dies with all it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// After the start of the simulation.
    pub at: Duration,
    /// Which of the instances alive then, in order of their start; counted round if there are fewer.
    pub instance: usize,
}

/// When requests come. Open loop: they do not wait for answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    /// Rate over time; arrivals at that rate are a Poisson process.
    pub shape: ArrivalShape,
    /// A crowd on top.
    pub campaign: Option<Campaign>,
}

/// Rate over time.
#[derive(Clone, Debug, PartialEq)]
pub enum ArrivalShape {
    /// Always the same.
    Poisson {
        /// Requests a second.
        rate_per_s: f64,
    },
    /// `rate × (1 − amplitude · cos(2π · t / day))`: lowest at the start.
    Daily {
        /// Mean requests a second.
        rate_per_s: f64,
        /// Length of a day.
        day: Duration,
        /// 0 to 1.
        amplitude: f64,
    },
    /// Counts from a file: CSV (also gzipped) with a header, a column `count`, `y` or `requests` of requests
    /// per step.
    TraceCsv {
        /// The file.
        path: PathBuf,
        /// Width of a step in virtual time.
        step: Duration,
        /// Counts are multiplied by this.
        scale: f64,
    },
}

/// A crowd for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Campaign {
    /// After the start of the simulation.
    pub start: Duration,
    /// How long.
    pub duration: Duration,
    /// Rate meanwhile as a multiple of the usual.
    pub ratio: f64,
    /// Whether the controller is told beforehand, as a scheduled event.
    pub announced: bool,
}

/// One kind of request.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Name of a route of the configuration; `conf` guarantees it exists.
    pub route: String,
    /// Different consumers that send it, equally often.
    pub consumers: u32,
    /// Relative share of all requests, > 0.
    pub share: f64,
    /// Work at speed 1.
    pub cost: CostShape,
    /// A parameter that the cost depends on; `None`: nothing of the request tells its cost but its route.
    pub parameter: Option<Dependence>,
}

/// Distribution of a request's work at speed 1, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CostShape {
    /// Always the mean.
    Constant {
        /// Mean.
        mean_ms: f64,
    },
    /// Log-normal.
    Lognormal {
        /// Mean, not median.
        mean_ms: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Pareto.
    Pareto {
        /// Mean.
        mean_ms: f64,
        /// Tail index, > 1.
        alpha: f64,
    },
    /// Few heavy ones among light ones.
    Bimodal {
        /// Work of a light one.
        light_ms: f64,
        /// Work of a heavy one.
        heavy_ms: f64,
        /// Share of heavy ones, 0 to 1.
        heavy_ratio: f64,
    },
}

/// The drawn work is multiplied by `(value / midpoint)^power`, value uniform in `low..=high`, midpoint their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependence {
    /// A numeric parameter of the route; `conf` guarantees it exists.
    pub name: String,
    /// Smallest value, > 0.
    pub low: f64,
    /// Largest value.
    pub high: f64,
    /// 0: visible but useless; 1: proportional.
    pub power: f64,
}

/// A way to run the scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// For people; unique.
    pub name: String,
    /// How instances are chosen, in all pools.
    pub policy: Policy,
    /// What sizes the fleets.
    pub rule: ScalingRule,
}

/// A scenario with warnings, or every error (and warning) at once, in order of place. `open` reads the file that
/// `config = "FILE"` names; it is taken from the directory of `file`, like all relative paths.
pub fn parse(
    file: &str,
    text: &str,
    open: impl FnOnce(&Path) -> std::io::Result<String>,
) -> Result<(Scenario, Vec<Finding>), Vec<Finding>> {
    read_text(file, text, |root| read::scenario::scenario(root, open)).and_then(|(scenario, findings)| {
        match scenario {
            Some(scenario) => Ok((scenario, findings)),
            None => Err(findings),
        }
    })
}
