//! Who chooses: the published policies with their published defaults, and Foretide.

pub mod steerer;

use crate::world::Predictor;
use foretide_shadow::reactive::Rule;

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// Anybody.
    Random,
    /// In turn.
    RoundRobin,
    /// Fewer in flight of two at random.
    P2c,
    /// Fewest in flight of all, ties at random.
    LeastRequest,
    /// The same divided by a linear ramp over the time an instance is cold, as slow start does it.
    LeastRequestSlowStart,
    /// Smaller peak EWMA of latency × load of two at random, ten seconds.
    PeakEwma,
    /// Prequal's HCL with a pool of so many answers.
    Prequal(usize),
    /// C3 without its rate control.
    C3,
    /// Predicted interference.
    Foretide(Steering),
}

/// What Foretide is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steering {
    /// Where its predictions come from.
    pub predictor: Predictor,
    /// Probes a request where several balancers share what they see; 0: each sees only its own.
    pub probes: usize,
    /// Requests wait in the proxy for a free worker.
    pub late_binding: bool,
    /// Requests that would be late are refused.
    pub admission: bool,
    /// See `foretide_steering::score`; `None`: as the fleet's speeds say.
    pub heavy_yields: Option<f32>,
}

impl Steering {
    /// One gateway that binds at once.
    pub fn gateway(predictor: Predictor) -> Self {
        Self { predictor, probes: 0, late_binding: false, admission: false, heavy_yields: None }
    }

    /// One of several that share what they see: as many probes a request as Prequal sends.
    pub fn shared(predictor: Predictor) -> Self {
        Self { probes: 3, ..Self::gateway(predictor) }
    }

    /// One gateway that binds late.
    pub fn late(predictor: Predictor) -> Self {
        Self { late_binding: true, ..Self::gateway(predictor) }
    }
}

impl Policy {
    /// The published rule it goes by; `None`: Foretide's own.
    pub fn rule(self) -> Option<Rule> {
        Some(match self {
            Self::Random => Rule::Random,
            Self::RoundRobin => Rule::RoundRobin,
            Self::P2c => Rule::P2c,
            Self::LeastRequest | Self::LeastRequestSlowStart => Rule::LeastRequest,
            Self::PeakEwma => Rule::PeakEwma,
            Self::Prequal(room) => Rule::Prequal(room),
            Self::C3 => Rule::C3,
            Self::Foretide(_) => return None,
        })
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "rr",
            Self::P2c => "p2c_lr",
            Self::LeastRequest => "lr_full",
            Self::LeastRequestSlowStart => "lr_slow_start",
            Self::PeakEwma => "p2c_peak_ewma",
            Self::Prequal(_) => "prequal_hcl",
            Self::C3 => "c3",
            Self::Foretide(_) => "foretide",
        }
    }
}
