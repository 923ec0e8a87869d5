//! Records the run: arrivals with their measured costs.

use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::RequestFacts;
use foretide_routing::observe::{Observation, Outcome};

/// A day of the demo at full rate is some thousands; this bounds a very long one to 100 MB.
const MOST: usize = 300_000;

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// When its head was there.
    pub at: Timestamp,
    /// What extraction made of it.
    pub facts: RequestFacts,
    /// Measured service at the instance's own speed, microseconds.
    pub attained_us: f64,
    /// Where it ran.
    pub instance: InstanceId,
}

/// All of them, in order of completion.
#[derive(Debug, Default)]
pub struct Recording {
    /// What was kept.
    pub requests: Vec<Recorded>,
}

impl Recording {
    /// Keeps a request that was answered; failures have no cost that could be replayed.
    pub fn add(&mut self, observation: &Observation) {
        let usable =
            observation.outcome == Outcome::Ok && !observation.retried && observation.attained_us > 0.0;
        if usable && self.requests.len() < MOST {
            self.requests.push(Recorded {
                at: observation.arrived_at,
                facts: RequestFacts {
                    route: observation.query.route,
                    pool: observation.pool,
                    query: observation.query,
                    consumer_named: true,
                },
                attained_us: observation.attained_us,
                instance: observation.decision.instance,
            });
        }
    }
}
