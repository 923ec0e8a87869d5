//! Selection policies: which of a pool's instances gets a request.
//!
//! | policy | looks at | measure | source |
//! |---|---|---|---|
//! | predictive | all, up to 128, or 64 of more | predicted interference, see [`predictive`] | `ARCHITECTURE.md` |
//! | round robin | the next | none | |
//! | weighted | the next | weights | nginx, see [`weighted`] |
//! | least request | all | requests in flight | |
//! | P2C | two at random | requests in flight | Mitzenmacher 2001 |
//! | peak EWMA | two at random | peak EWMA of latency × requests in flight | Finagle |
//! | prequal | sixteen probed lately | latency, of those with few requests in flight | Wydrowski 2024, see [`prequal`] |
//! | ketama | the next on a ring | none, or a bound | libketama, see [`ring`], [`hashed`] |
//! | maglev | a place in a table | none, or a bound | Eisenbud 2016, see [`maglev`], [`hashed`] |
//!
//! All but the two that hash mind the warm-up factor, so that a new instance is not flooded, and all but round robin and
//! predictive, which measures, the endpoints' weights. A policy is an
//! enum, not a trait: the set is closed and the hot path calls it without indirection. Whoever cannot be ranked (a
//! score that is not a number) is left out; when nobody is left the caller falls back to P2C.

pub mod affinity;
pub mod eligible;
pub mod explore;
pub mod groups;
pub mod hashed;
pub mod maglev;
pub mod narrow;
pub mod predictive;
pub mod prequal;
pub mod reactive;
pub mod ring;
pub mod sample;
pub mod shortlist;
pub mod weighted;

use crate::live::Taken;
use crate::select::maglev::Maglev;
use crate::select::predictive::Scan;
use crate::select::prequal::Probes;
use crate::select::ring::Ring;
use crate::select::weighted::{Schedule, Turns};
use crate::settings::{Policy, PoolSettings};
use crate::table::InstanceEntry;
use foretide_predictor::blend::TierWeights;
use foretide_steering::score::Form;
use std::sync::Arc;

/// A policy with its prepared state. A schedule is there where the endpoints' weights differ.
#[derive(Debug)]
pub enum Selector {
    /// Smallest score of all.
    Predictive(Scan),
    /// In turn.
    RoundRobin(Turns),
    /// In turn by weight.
    Weighted(Turns),
    /// Fewest in flight of all.
    LeastRequest(Option<Arc<Schedule>>),
    /// Fewer in flight of two.
    P2c(Option<Arc<Schedule>>),
    /// Smaller latency × load of two.
    PeakEwma(Option<Arc<Schedule>>),
    /// Lowest latency of those probed lately.
    Prequal(Arc<Probes>, Option<Arc<Schedule>>),
    /// The consumer's place on a ring.
    Ketama(Arc<Ring>),
    /// The consumer's place in a table.
    Maglev(Arc<Maglev>),
}

impl Selector {
    /// Prepares a pool's policy for these instances, which serve in this form. `previous` is the last generation's: a ring is kept while its members
    /// are. Turns go on where the instances' own counters stand, so that a new generation every second does not always
    /// begin with the first instance.
    pub fn new(
        settings: &PoolSettings,
        form: Form,
        instances: &[InstanceEntry],
        weights: TierWeights,
        previous: Option<&Self>,
    ) -> Self {
        let turns = |weighted| {
            let taken = |entry: &InstanceEntry| entry.live.taken().since(Taken::default()).0;
            let before = previous.and_then(Self::turns);
            Turns::new(instances, weighted, instances.iter().map(taken).sum(), before)
        };
        let schedule = || Schedule::unequal(instances, previous.and_then(Self::schedule));
        match settings.policy {
            Policy::Predictive => Self::Predictive(Scan::new(settings, form, instances, weights)),
            Policy::RoundRobin => Self::RoundRobin(turns(false)),
            Policy::Weighted => Self::Weighted(turns(true)),
            Policy::LeastRequest => Self::LeastRequest(schedule()),
            Policy::P2c => Self::P2c(schedule()),
            Policy::PeakEwma => Self::PeakEwma(schedule()),
            Policy::Prequal => {
                let previous = previous.and_then(|selector| match selector {
                    Self::Prequal(probes, _) => Some(probes),
                    _ => None,
                });
                Self::Prequal(Probes::new(instances, previous), schedule())
            }
            Policy::Ketama => {
                let previous = previous.and_then(|selector| match selector {
                    Self::Ketama(ring) => Some(ring),
                    _ => None,
                });
                Self::Ketama(Ring::new(instances, previous))
            }
            Policy::Maglev => {
                let previous = previous.and_then(|selector| match selector {
                    Self::Maglev(table) => Some(table),
                    _ => None,
                });
                Self::Maglev(Maglev::new(instances, previous))
            }
        }
    }

    fn turns(&self) -> Option<&Turns> {
        match self {
            Self::RoundRobin(turns) | Self::Weighted(turns) => Some(turns),
            _ => None,
        }
    }

    fn schedule(&self) -> Option<&Arc<Schedule>> {
        match self {
            Self::LeastRequest(schedule) | Self::P2c(schedule) | Self::PeakEwma(schedule) => {
                schedule.as_ref()
            }
            _ => None,
        }
    }

    /// Which policy.
    pub fn policy(&self) -> Policy {
        match self {
            Self::Predictive(_) => Policy::Predictive,
            Self::RoundRobin(_) => Policy::RoundRobin,
            Self::Weighted(_) => Policy::Weighted,
            Self::LeastRequest(_) => Policy::LeastRequest,
            Self::P2c(_) => Policy::P2c,
            Self::PeakEwma(_) => Policy::PeakEwma,
            Self::Prequal(..) => Policy::Prequal,
            Self::Ketama(_) => Policy::Ketama,
            Self::Maglev(_) => Policy::Maglev,
        }
    }
}
