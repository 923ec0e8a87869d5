//! What must always be true, checked after every event.

use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::Decision;
use foretide_routing::settings::RoutingSettings;
use foretide_routing::table::RoutingTable;

/// Violations kept; one is enough to fail a run, a few help to understand it.
const KEPT: usize = 20;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// Watches a run.
#[derive(Debug, Default)]
pub struct Checker {
    generation: u64,
    /// Found so far, at most 20.
    pub violations: Vec<Violation>,
}

impl Checker {
    /// Generations only grow.
    pub fn published(&mut self, table: &RoutingTable) {
        if table.generation < self.generation {
            let what = format!("generation {} after {}", table.generation, self.generation);
            self.violated(table.built_at, what);
        }
        self.generation = table.generation;
    }

    /// No request goes to an instance that has ended. `ended`: what the world knows of it.
    pub fn routed(&mut self, decision: &Decision, ended: Option<Option<Timestamp>>, now: Timestamp) {
        let InstanceId(id) = decision.instance;
        if let Some(Some(ended_at)) = ended {
            // The controller learns of an end one event later; anything beyond a tick is a fault.
            if now.since(ended_at).as_millis() > 500 {
                self.violated(now, format!("request to instance {id}, gone since {ended_at:?}"));
            }
        }
    }

    /// The fleet stays below its ceiling, and work in flight is a sane number.
    pub fn after_event(&mut self, table: &RoutingTable, settings: &RoutingSettings, now: Timestamp) {
        for (pool, limits) in table.pools.iter().zip(&settings.pools) {
            let managed = pool.instances.len().saturating_sub(limits.endpoints.len());
            if managed > limits.scaling.ceiling as usize {
                self.violated(now, format!("{managed} instances in {}, ceiling passed", pool.name));
            }
        }
    }

    /// At rest nothing is in flight.
    pub fn at_end(&mut self, table: &RoutingTable, at_rest: bool, now: Timestamp) {
        if !at_rest {
            return;
        }
        for instance in table.pools.iter().flat_map(|pool| &pool.instances) {
            let left = instance.live.in_flight();
            if left.requests != 0 || left.work_us != 0 {
                self.violated(now, format!("instance {} keeps {left:?} at rest", instance.id.0));
            }
        }
    }

    fn violated(&mut self, at: Timestamp, what: String) {
        if self.violations.len() < KEPT {
            self.violations.push(Violation { at, what });
        }
    }
}
