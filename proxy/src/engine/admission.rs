//! Who comes in at all: the pool's door, in front of its queue and its instances.
//!
//! A request is refused when its predicted latency on the best instance (in gateway mode: its place in the queue) lies
//! beyond its share of the deadline, or when the pool holds all it is thought to bear ([`foretide_steering::admission`]).
//!
//! | what is known | what is asked |
//! |---|---|
//! | a cost learned from requests | deadline and limit |
//! | nothing but the prior | the limit only |
//! | the table is stale | nothing: everybody comes in |
//!
//! The answer is 503 with `Retry-After`, not 429: the service is short of capacity, whoever asks; 429 would tell a client
//! that it asked too much (RFC 6585 §4). `Retry-After` says by how much the request would have been late, in whole seconds.
//!
//! Only pools that ask for it have a door, and only their requests take its lock: once on the way in, once on the way out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::cost::query::CostBasis;
use foretide_predictor::time::Timestamp;
use foretide_routing::claim::Claim;
use foretide_routing::foresee;
use foretide_routing::observe::RefusalReason;
use foretide_routing::table::{PoolTable, RoutingTable};
use foretide_steering::admission::{Admission, Applicant, Refused};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::engine::waiting::{Rooms, locked};

const REFUSED: &str = "foretide_admission_refused_total";
const LIMIT: &str = "foretide_admission_limit";
/// Nobody is sent away for longer.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Doors by pool. Pools come from the configuration, so there are never many.
#[derive(Default)]
pub(super) struct Doors {
    doors: Mutex<BTreeMap<Arc<str>, Arc<Door>>>,
}

/// One pool's door.
pub(super) struct Door {
    admission: Mutex<Admission>,
    limit: Gauge,
    refused: [Counter; REASONS.len()],
}

const REASONS: [(RefusalReason, &str); 3] = [
    (RefusalReason::Late, "late"),
    (RefusalReason::Limit, "limit"),
    (RefusalReason::LateInQueue, "late_in_queue"),
];

/// A request at the door.
pub(super) struct Caller<'a> {
    pub(super) table: &'a RoutingTable,
    pub(super) pool: &'a PoolTable,
    pub(super) prediction: &'a CostPrediction,
    pub(super) claim: Claim,
    /// What is left of the time that the route gives the whole request.
    pub(super) left: Option<Duration>,
    pub(super) now: Timestamp,
    /// 64 random bits.
    pub(super) chance: u64,
}

/// A request that came in.
pub(super) struct Admitted {
    pub(super) door: Arc<Door>,
    /// Predicted latency, microseconds; `None`: nobody knew.
    pub(super) latency_us: Option<f64>,
}

/// Why a request did not come in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TurnedAway {
    pub(super) reason: RefusalReason,
    pub(super) latency_us: Option<f64>,
    pub(super) in_flight: u32,
    /// When it may be worth asking again.
    pub(super) retry_after: Duration,
}

/// Says what the metrics mean.
pub(super) fn describe() {
    describe_counter!(
        REFUSED,
        "Requests refused by admission: predicted to be late, over the concurrency limit, or late while they waited"
    );
    describe_gauge!(LIMIT, "Requests that the pool is thought to bear: the backstop of admission");
}

impl Doors {
    /// Lets a request in or turns it away; `None`: its pool has no door.
    pub(super) fn ask(&self, rooms: &Rooms, caller: &Caller<'_>) -> Option<Result<Admitted, TurnedAway>> {
        let settings = caller.pool.settings.admission?;
        if caller.now.since(caller.table.built_at) > caller.table.stale_after {
            return None;
        }
        let (_, slots) = foresee::fill(caller.pool);
        let limits = [settings.least_per_slot, settings.most_per_slot].map(|each| slots.saturating_mul(each));
        let name = &caller.pool.name;
        let door = Arc::clone(
            locked(&self.doors).entry(Arc::clone(name)).or_insert_with(|| Arc::new(Door::new(name, limits))),
        );
        Some(door.ask(settings.margin, limits, rooms, caller))
    }
}

impl Door {
    fn new(pool: &Arc<str>, [least, most]: [u32; 2]) -> Self {
        let refused =
            |reason: &'static str| counter!(REFUSED, "pool" => Arc::clone(pool), "reason" => reason);
        Self {
            admission: Mutex::new(Admission::new(least, most)),
            limit: gauge!(LIMIT, "pool" => Arc::clone(pool)),
            refused: REASONS.map(|(_, word)| refused(word)),
        }
    }

    fn ask(
        self: Arc<Self>,
        margin: f64,
        [least, most]: [u32; 2],
        rooms: &Rooms,
        caller: &Caller<'_>,
    ) -> Result<Admitted, TurnedAway> {
        let (in_flight, latency_us) = outlook(rooms, caller);
        let deadline = caller.claim.deadline.into_iter().chain(caller.left).min();
        let applicant = Applicant {
            predicted_us: latency_us,
            deadline_us: deadline.map(|deadline| deadline.as_micros() as f64),
            priority: caller.claim.priority,
        };
        let verdict = {
            let mut admission = locked(&self.admission);
            admission.resize(least, most);
            admission.admits(applicant, margin, in_flight)
        };
        let (reason, late) = match verdict {
            Ok(()) => return Ok(Admitted { door: self, latency_us }),
            Err(Refused::Late { by_us }) => (RefusalReason::Late, Duration::from_micros(by_us as u64)),
            Err(Refused::Limit) => (RefusalReason::Limit, Duration::ZERO),
        };
        self.count(reason);
        Err(TurnedAway { reason, latency_us, in_flight, retry_after: late.min(LONGEST_RETRY) })
    }

    /// Counts a request that was refused.
    pub(super) fn count(&self, reason: RefusalReason) {
        if let Some(at) = REASONS.iter().position(|(known, _)| *known == reason) {
            self.refused[at].increment(1);
        }
    }

    /// A request that came in is answered: predicted and measured latency, and what is in the pool now.
    pub(super) fn observe(&self, predicted_us: Option<f64>, latency_us: f64, in_flight: u32) {
        let mut admission = locked(&self.admission);
        admission.observe(predicted_us, latency_us, in_flight);
        self.limit.set(admission.limit());
    }
}

/// What is in the pool and its queue, and how long the request would take.
fn outlook(rooms: &Rooms, caller: &Caller<'_>) -> (u32, Option<f64>) {
    let Caller { pool, prediction, claim, chance, .. } = *caller;
    let (at_instances, _) = foresee::fill(pool);
    let work_us = f64::from(prediction.steering.work_us);
    let known = prediction.estimate.basis != CostBasis::Prior && work_us > 0.0;
    if pool.settings.queue.is_none() {
        return (at_instances, known.then(|| foresee::latency_us(pool, work_us, chance)));
    }
    let line = rooms.line(&pool.name, work_us, claim.priority);
    let latency_us = known.then(|| foresee::queued_us(pool, work_us, line.before_us));
    (at_instances.saturating_add(line.waiting), latency_us)
}
