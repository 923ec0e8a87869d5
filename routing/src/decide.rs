//! One request, one decision (contract; body to come).
use crate::extract::RequestFacts;
use crate::live::Ticket;
use crate::table::{PoolTable, RoutingTable};
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Why this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Smallest score, all tiers sound.
    Predicted,
    /// Smallest score, with running means instead of a model.
    NoModel,
    /// The model answered nonsense: running means.
    ModelFailed,
    /// The table is too old: P2C on load in flight.
    StaleTable,
    /// No score could be had: P2C on load in flight.
    NoScore,
    /// There was only one.
    OnlyChoice,
    /// The pool's policy is not predictive.
    Policy,
    /// A second or later try.
    Retry,
    /// Too few healthy instances: all are used.
    Panic,
}

/// Candidates kept with a decision.
pub const CANDIDATES: usize = 4;

/// One candidate and its score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who.
    pub instance: InstanceId,
    /// Its score for this request, microseconds; smaller is better.
    pub score_us: f32,
    /// In flight there at the time.
    pub in_flight: u32,
}

/// The choice, with what it rested on. `Copy`, fixed size: it is kept for `/api/v1/decisions`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Unique in this process, made by the caller.
    pub id: u64,
    /// Generation of the table.
    pub generation: u64,
    /// Index into `PoolTable::instances` of that generation.
    pub index: usize,
    /// Who.
    pub instance: InstanceId,
    /// Why.
    pub reason: Reason,
    /// Predicted cost with its features.
    pub prediction: CostPrediction,
    /// Best few, best first, the chosen one among them; `None` beyond what was compared.
    pub candidates: [Option<Candidate>; CANDIDATES],
    /// Work in flight on the chosen one at the time, microseconds.
    pub work_in_flight_us: u64,
    /// Requests in flight on the chosen one at the time.
    pub in_flight: u32,
}

/// Predicts a request once. Call once a request, also if it is retried.
pub fn predict(_table: &RoutingTable, _facts: &RequestFacts, _now: Timestamp) -> CostPrediction {
    todo!()
}

/// What a single try brings with it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Instances not to use again (ignored if nothing else is left); empty on the first try.
    pub tried: &'a [InstanceId],
    /// Id of the decision, unique in this process.
    pub id: u64,
    /// 64 random bits.
    pub chance: u64,
    /// Now.
    pub now: Timestamp,
}

/// Chooses an instance and takes the cost on. `None`: the pool has no instance. No lock, no allocation, cannot fail.
pub fn decide(
    _table: &RoutingTable,
    _pool: &PoolTable,
    _facts: &RequestFacts,
    _prediction: &CostPrediction,
    _attempt: Attempt<'_>,
) -> Option<(Decision, Ticket)> {
    todo!()
}
