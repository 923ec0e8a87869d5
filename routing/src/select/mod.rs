//! Selection policies: which of a pool's instances gets a request.
//!
//! | policy | looks at | measure | source |
//! |---|---|---|---|
//! | predictive | all, up to 128 | predicted interference, see [`predictive`] | `ARCHITECTURE.md` |
//! | round robin | the next | none | |
//! | least request | all | requests in flight | |
//! | P2C | two at random | requests in flight | Mitzenmacher 2001 |
//! | peak EWMA | two at random | peak EWMA of latency × requests in flight | Finagle |
//! | ketama | the next on a ring | none | libketama, see [`ring`] |
//!
//! All but round robin and ketama divide by the warm-up factor, so that a new instance is not flooded. A policy is an
//! enum, not a trait: the set is closed and the hot path calls it without indirection. Whoever cannot be ranked (a
//! score that is not a number) is left out; when nobody is left the caller falls back to P2C.

pub mod eligible;
pub mod explore;
pub mod predictive;
pub mod reactive;
pub mod ring;
pub mod shortlist;

use crate::live::Taken;
use crate::select::predictive::Scan;
use crate::select::ring::Ring;
use crate::settings::{Policy, PoolSettings};
use crate::table::InstanceEntry;
use foretide_predictor::blend::TierWeights;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A policy with its prepared state.
#[derive(Debug)]
pub enum Selector {
    /// Smallest score of all.
    Predictive(Scan),
    /// In turn; holds the next turn.
    RoundRobin(AtomicU64),
    /// Fewest in flight of all.
    LeastRequest,
    /// Fewer in flight of two.
    P2c,
    /// Smaller latency × load of two.
    PeakEwma,
    /// The consumer's place on a ring.
    Ketama(Arc<Ring>),
}

impl Selector {
    /// Prepares a pool's policy for these instances. `previous` is the last generation's: a ring is kept while its members
    /// are. Turns go on where the instances' own counters stand, so that a new generation every second does not always
    /// begin with the first instance.
    pub fn new(
        settings: &PoolSettings,
        instances: &[InstanceEntry],
        weights: TierWeights,
        previous: Option<&Self>,
    ) -> Self {
        match settings.policy {
            Policy::Predictive => Self::Predictive(Scan::new(instances, weights, settings.slow_start)),
            Policy::RoundRobin => {
                let taken = |entry: &InstanceEntry| entry.live.taken().since(Taken::default()).0;
                Self::RoundRobin(AtomicU64::new(instances.iter().map(taken).sum()))
            }
            Policy::LeastRequest => Self::LeastRequest,
            Policy::P2c => Self::P2c,
            Policy::PeakEwma => Self::PeakEwma,
            Policy::Ketama => {
                let previous = previous.and_then(|selector| match selector {
                    Self::Ketama(ring) => Some(ring),
                    _ => None,
                });
                Self::Ketama(Ring::new(instances, previous))
            }
        }
    }

    /// Which policy.
    pub fn policy(&self) -> Policy {
        match self {
            Self::Predictive(_) => Policy::Predictive,
            Self::RoundRobin(_) => Policy::RoundRobin,
            Self::LeastRequest => Policy::LeastRequest,
            Self::P2c => Policy::P2c,
            Self::PeakEwma => Policy::PeakEwma,
            Self::Ketama(_) => Policy::Ketama,
        }
    }
}
