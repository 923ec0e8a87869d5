//! The runs of the suite: which policies in which worlds, done on all processors, each once.

use crate::figures::Figures;
use crate::policy::{Policy, Steering};
use crate::run;
use crate::sizes::{SIX, Sizes};
use crate::suite::SEEDS;
use crate::world::{Predictor, Replacement, World};
use foretide_steering::prequal;
use foretide_steering::score::Form;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// Distributions of a setting.
pub const DISTRIBUTIONS: usize = SIX.len();
/// Log-error of the usual predictor.
pub const SIGMA: f64 = 0.6;
/// A small and a large log-error.
pub const SIGMAS: [f64; 2] = [0.3, 1.0];
/// Predictors that know nothing or worse.
pub const USELESS: [(&str, Predictor); 3] = [
    ("constant", Predictor::Constant),
    ("random", Predictor::Random),
    ("ten times wrong", Predictor::TenTimes),
];
/// Those that know only what has happened.
pub const REACTIVE: [Policy; 4] = [Policy::RoundRobin, Policy::P2c, Policy::LeastRequest, Policy::PeakEwma];
/// Those and the two that ask the instances.
pub const ALL: [Policy; 6] = [
    Policy::RoundRobin,
    Policy::P2c,
    Policy::LeastRequest,
    Policy::PeakEwma,
    Policy::Prequal(prequal::POOL),
    Policy::C3,
];

/// Overload lasts so long, seconds.
const OVERLOAD_S: f64 = 60.0;

/// A world of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// 20 sidecars, processor sharing, 80 %.
    SidecarsSharing,
    /// 20 sidecars, four FIFO workers, 80 %.
    SidecarsWorkers,
    /// One gateway, processor sharing, 80 %.
    GatewaySharing,
    /// One gateway, workers, bound late, 90 %.
    GatewayWorkers90,
    /// The same at 95 %.
    GatewayWorkers95,
    /// The same at 120 %.
    Overload,
    /// One gateway, processor sharing, 70 %, an instance replaced every three seconds.
    ColdStart,
    /// One gateway, processor sharing, 80 %, equal and undisturbed.
    Quiet,
}

impl Setting {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::SidecarsSharing,
        Self::SidecarsWorkers,
        Self::GatewaySharing,
        Self::GatewayWorkers90,
        Self::GatewayWorkers95,
        Self::Overload,
        Self::ColdStart,
        Self::Quiet,
    ];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::SidecarsSharing => "20 sidecars, processor sharing, 80 %",
            Self::SidecarsWorkers => "20 sidecars, 4 workers FIFO, 80 %",
            Self::GatewaySharing => "one gateway, processor sharing, 80 %",
            Self::GatewayWorkers90 => "one gateway, workers, late binding, 90 %",
            Self::GatewayWorkers95 => "one gateway, workers, late binding, 95 %",
            Self::Overload => "one gateway, workers, overload 1.2, a minute",
            Self::ColdStart => "cold starts, one gateway, processor sharing, 70 %",
            Self::Quiet => "quiet, equal fleet, one gateway, processor sharing, 80 %",
        }
    }

    /// Its world for a distribution.
    pub fn world(self, sizes: Sizes) -> World {
        let (sharing, workers) = (Form::ProcessorSharing, Form::WorkerPool);
        match self {
            Self::SidecarsSharing => World::unequal(sharing, sizes, 20, 0.8),
            Self::SidecarsWorkers => World::unequal(workers, sizes, 20, 0.8),
            Self::GatewaySharing => World::unequal(sharing, sizes, 1, 0.8),
            Self::GatewayWorkers90 => World::unequal(workers, sizes, 1, 0.9),
            Self::GatewayWorkers95 => World::unequal(workers, sizes, 1, 0.95),
            Self::Overload => World::unequal(workers, sizes, 1, 1.2),
            Self::ColdStart => {
                let replacement = Some(Replacement { every_s: 3.0, factor: 0.2, cold_s: 5.0 });
                World { replacement, ..World::unequal(sharing, sizes, 1, 0.7) }
            }
            Self::Quiet => World::quiet(sharing, sizes, 1, 0.8),
        }
    }

    /// Requests of a run where so many are asked for. Overload lasts a minute at least: in a few seconds most of what is too
    /// much still finds room in everybody's patience of one second.
    fn requests(self, world: &World, asked: usize) -> usize {
        if self == Self::Overload { asked.max((world.rate_per_s() * OVERLOAD_S) as usize) } else { asked }
    }

    /// Foretide as it runs there.
    pub fn foretide(self, predictor: Predictor) -> Policy {
        Policy::Foretide(match self {
            Self::SidecarsSharing | Self::SidecarsWorkers => Steering::shared(predictor),
            Self::GatewaySharing | Self::ColdStart | Self::Quiet => Steering::gateway(predictor),
            Self::GatewayWorkers90 | Self::GatewayWorkers95 => Steering::late(predictor),
            Self::Overload => Steering { admission: true, ..Steering::late(predictor) },
        })
    }

    /// Who runs there.
    fn policies(self) -> Vec<Policy> {
        let usual = self.foretide(Predictor::LogError(SIGMA));
        match self {
            Self::Overload => vec![usual],
            Self::ColdStart => vec![usual, Policy::LeastRequestSlowStart, Policy::LeastRequest],
            Self::Quiet => ALL.into_iter().chain([usual]).collect(),
            _ => {
                let sigmas = SIGMAS.map(|sigma| self.foretide(Predictor::LogError(sigma)));
                let useless = USELESS.map(|(_, predictor)| self.foretide(predictor));
                ALL.into_iter().chain([usual]).chain(sigmas).chain(useless).collect()
            }
        }
    }
}

/// A finished run.
#[derive(Clone, Debug)]
struct Cell {
    setting: Setting,
    distribution: usize,
    policy: Policy,
    figures: Figures,
}

/// All finished runs.
#[derive(Clone, Debug, Default)]
pub struct Cells(Vec<Cell>);

impl Cells {
    /// Runs everything with so many requests a run; `progress` hears how many are done, of how many.
    pub fn run(settings: &[Setting], requests: usize, progress: impl Fn(usize, usize) + Sync) -> Self {
        let worlds: Vec<(Setting, usize, u64)> = settings
            .iter()
            .flat_map(|&setting| (0..DISTRIBUTIONS).map(move |distribution| (setting, distribution)))
            .flat_map(|(setting, distribution)| SEEDS.map(|seed| (setting, distribution, seed)))
            .collect();
        let all: usize = worlds.iter().map(|(setting, ..)| setting.policies().len()).sum();
        let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let cells = Mutex::new(Vec::with_capacity(all));
        let work = || {
            while let Some(&(setting, distribution, seed)) = worlds.get(next.fetch_add(1, Relaxed)) {
                let world = setting.world(SIX[distribution].1);
                let requests = setting.requests(&world, requests);
                let world = world.with(requests, seed);
                let arrivals = world.arrivals();
                for policy in setting.policies() {
                    let figures = run::run(&world, &arrivals, policy);
                    if let Ok(mut cells) = cells.lock() {
                        cells.push(Cell { setting, distribution, policy, figures });
                    }
                    progress(finished.fetch_add(1, Relaxed) + 1, all);
                }
            }
        };
        thread::scope(|scope| {
            let threads = thread::available_parallelism().map_or(1, usize::from);
            (0..threads).for_each(|_| {
                scope.spawn(work);
            });
        });
        Self(cells.into_inner().unwrap_or_default())
    }

    /// Mean over the seeds of a figure of a policy; NaN where it was not run.
    pub fn mean(
        &self,
        setting: Setting,
        distribution: usize,
        policy: Policy,
        figure: impl Fn(&Figures) -> f64,
    ) -> f64 {
        let these = self.0.iter().filter(|cell| {
            cell.setting == setting && cell.distribution == distribution && cell.policy == policy
        });
        let mut values: Vec<f64> = these.map(|cell| figure(&cell.figures)).collect();
        // Whichever run finished first, the sum is the same to the bit.
        values.sort_by(f64::total_cmp);
        values.iter().sum::<f64>() / values.len() as f64
    }
}
