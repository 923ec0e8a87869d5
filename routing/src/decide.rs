//! One request, one decision.
//!
//! [`predict`] is called once a request, [`decide`] once a try. A decision always comes with a reason, and it degrades
//! instead of failing:
//!
//! | what is wrong | what happens | reason |
//! |---|---|---|
//! | no instance | nothing to decide | `None` |
//! | one instance | it is taken | `OnlyChoice` |
//! | the table is older than `stale_after` | P2C on requests in flight | `StaleTable` |
//! | no score is a finite number | P2C on requests in flight | `NoScore` |
//! | the model answered nonsense | scores on running means | `ModelFailed` |
//! | no model, or it does not know the route | scores on running means | `NoModel` |
//!
//! One request in a hundred of a predictive pool may be `Explored`, see [`explore`].
//!
//! Policies other than predictive rest on no prediction and know only `OnlyChoice`, `Retry`, `Panic` and `Policy`; the
//! predicted work is still taken on, because demand is counted in it. Where several reasons hold, the one that changed
//! most about the choice is named, in the order of the code.

use crate::extract::RequestFacts;
use crate::live::Ticket;
use crate::select::eligible::Eligible;
use crate::select::hashed::Bound;
use crate::select::predictive::Scorer;
use crate::select::shortlist::Shortlist;
use crate::select::{Selector, explore, reactive};
use crate::table::{PoolTable, RoutingTable};
use foretide_predictor::cost::estimator::{self, CostPrediction};
use foretide_predictor::cost::query::CostBasis;
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
    /// An instance that nobody has heard of for a while was asked, to see whether what is known of it still holds.
    Explored,
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
    /// Its score for this request, smaller is better: microseconds under the predictive policy and peak EWMA, requests
    /// over warm-up factor under least request, P2C and the fallbacks, 0 where the policy ranks nobody.
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
    /// Predicted cost with its features, and what steered the choice because of it.
    pub prediction: CostPrediction,
    /// Best few, best first, the chosen one among them; `None` beyond what was compared.
    pub candidates: [Option<Candidate>; CANDIDATES],
    /// Work in flight on the chosen one at the time, microseconds.
    pub work_in_flight_us: u64,
    /// Requests in flight on the chosen one at the time.
    pub in_flight: u32,
}

/// Predicts a request once, and says what it steers with. Call once a request, also if it is retried.
pub fn predict(table: &RoutingTable, facts: &RequestFacts, now: Timestamp) -> CostPrediction {
    let mut prediction = estimator::predict(&table.costs, table.model.as_deref(), &facts.query, now);
    table.gates.weigh(facts.query.route, &mut prediction);
    prediction
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
    table: &RoutingTable,
    pool: &PoolTable,
    facts: &RequestFacts,
    prediction: &CostPrediction,
    attempt: Attempt<'_>,
) -> Option<(Decision, Ticket)> {
    let eligible = Eligible::new(&pool.instances, &pool.settings, attempt.tried, attempt.now);
    let work_us = f64::from(prediction.steering.work_us);
    let (list, reason) =
        choose(table, pool, &eligible, (facts.query.consumer_key, work_us), prediction, attempt);
    let index = list.best().or_else(|| eligible.from(0))?;
    let entry = &pool.instances[index];
    let in_flight = entry.live.in_flight();
    let decision = Decision {
        id: attempt.id,
        generation: table.generation,
        index,
        instance: entry.id,
        reason,
        prediction: *prediction,
        candidates: list.candidates(&pool.instances),
        work_in_flight_us: in_flight.work_us,
        in_flight: in_flight.requests,
    };
    Some((decision, Ticket::take(&entry.live, work_us, entry.concurrency, attempt.now)))
}

fn choose(
    table: &RoutingTable,
    pool: &PoolTable,
    eligible: &Eligible<'_>,
    (consumer_key, work_us): (u64, f64),
    prediction: &CostPrediction,
    attempt: Attempt<'_>,
) -> (Shortlist, Reason) {
    let chance = attempt.chance;
    if pool.instances.len() == 1 {
        return (reactive::only(Some(0)), Reason::OnlyChoice);
    }
    let list = match &pool.selector {
        Selector::Predictive(scan) => {
            if attempt.now.since(table.built_at) > table.stale_after {
                return (reactive::p2c(eligible, None, chance), Reason::StaleTable);
            }
            if let Some(index) = explore::turn(eligible, chance, attempt.now) {
                return (reactive::only(Some(index)), Reason::Explored);
            }
            scan.rank(&Scorer::new(scan, &table.peers, work_us, consumer_key), eligible, chance)
        }
        Selector::RoundRobin(turns) | Selector::Weighted(turns) => {
            reactive::only(turns.take(eligible, chance))
        }
        Selector::LeastRequest(weights) => reactive::least_request(eligible, weights.as_deref(), chance),
        Selector::P2c(weights) => reactive::p2c(eligible, weights.as_deref(), chance),
        Selector::PeakEwma(weights) => reactive::peak_ewma(eligible, weights.as_deref(), attempt.now, chance),
        Selector::Ketama(ring) => {
            let bound = Bound::new(eligible, pool.settings.choice.hash_balance_factor);
            reactive::only(ring.owner(consumer_key, eligible, |index| bound.takes(index)))
        }
        Selector::Maglev(table) => {
            let bound = Bound::new(eligible, pool.settings.choice.hash_balance_factor);
            let owner = table.owner(consumer_key, eligible, |index| bound.takes(index));
            reactive::only(owner.or_else(|| eligible.from(0)))
        }
    };
    if list.best().is_none() {
        return (reactive::p2c(eligible, None, chance), Reason::NoScore);
    }
    (list, reason(pool, prediction, attempt))
}

/// Why, when the policy itself could choose.
fn reason(pool: &PoolTable, prediction: &CostPrediction, attempt: Attempt<'_>) -> Reason {
    if !attempt.tried.is_empty() {
        Reason::Retry
    } else if pool.panic {
        Reason::Panic
    } else if !matches!(pool.selector, Selector::Predictive(_)) {
        Reason::Policy
    } else if prediction.model_failed {
        Reason::ModelFailed
    } else if prediction.estimate.basis != CostBasis::Model {
        Reason::NoModel
    } else {
        Reason::Predicted
    }
}
