//! Foretide's scores for balancers and clients that do not pass through it.
//!
//! | who | asks | gets |
//! |---|---|---|
//! | a balancer with weights | `GET /api/v1/weights` ([`weights`]) | each instance's share, and for how long it holds |
//! | HAProxy | its agent check ([`agent`]) | `up ready 75%`, `up drain`, `down` |
//! | a client that chooses per request | `POST /api/v1/leases` ([`leases`]) | one instance, for a while |
//!
//! Weights steer the average, a lease a single request: it goes through the same decision as a request that is forwarded,
//! and its predicted cost is in flight on the instance until it ends. So what does not pass through here is seen by what
//! does.

pub mod agent;
pub mod leases;
pub mod weights;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use foretide_control::report::StatusReport;
use foretide_predictor::hash;
use foretide_predictor::time::Timestamp;
use foretide_routing::lease::LeaseBook;
use foretide_routing::observe::Observation;
use foretide_routing::table::RoutingTable;
use tokio::sync::watch;

/// Leases out at a time. Each takes about a kilobyte; a thousand requests a second that take ten seconds are so many.
const MOST_LEASES: usize = 10_000;

/// What advice rests on.
pub struct AdviceParts {
    /// The table in service.
    pub table: Arc<ArcSwap<RoutingTable>>,
    /// The controller's latest report: what instances do that are not in the table.
    pub report: watch::Receiver<Arc<StatusReport>>,
    /// Whether this proxy has an instance and no shutdown has begun.
    pub ready: Arc<AtomicBool>,
    /// Now.
    pub now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Takes what a lease has taught.
    pub learn: Box<dyn Fn(Observation) + Send + Sync>,
    /// Different in every process: numbers of leases begin anywhere.
    pub seed: u64,
}

/// Gives advice. Shared by the agent and by the admin listener.
pub struct Advice {
    parts: AdviceParts,
    book: Mutex<LeaseBook>,
    given: AtomicU64,
}

impl Advice {
    /// With no lease out.
    pub fn new(parts: AdviceParts) -> Self {
        leases::describe();
        agent::describe();
        Self { parts, book: Mutex::new(LeaseBook::new(MOST_LEASES)), given: AtomicU64::new(0) }
    }

    fn now(&self) -> Timestamp {
        (self.parts.now)()
    }

    fn report(&self) -> Arc<StatusReport> {
        Arc::clone(&self.parts.report.borrow())
    }

    fn is_ready(&self) -> bool {
        self.parts.ready.load(Ordering::Relaxed)
    }

    /// A number that was not given before: mixing is one to one.
    fn next_number(&self) -> u64 {
        hash::mix(self.parts.seed.wrapping_add(self.given.fetch_add(1, Ordering::Relaxed)))
    }
}
