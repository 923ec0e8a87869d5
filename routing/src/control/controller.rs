//! The sans-IO controller (contract; body to come).
use crate::control::io::{Effect, Input};
use crate::control::report::RoutingDecisionReport;
use crate::settings::RoutingSettings;
use crate::table::RoutingTable;
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_predictor::time::Timestamp;
use std::sync::Arc;

/// All decisions that are not about a single request. `handle` and `step` never block; slow work leaves as effects.
#[derive(Debug)]
pub struct Controller {}

impl Controller {
    /// Starts with static endpoints in service and floors to be filled; the first effects are a `Publish` and `Start`s.
    pub fn new(_settings: RoutingSettings, _now: Timestamp) -> Self {
        todo!()
    }
    /// Takes something that happened.
    pub fn handle(&mut self, _now: Timestamp, _input: Input) {
        todo!()
    }
    /// Begins a tick: `step` until it returns false. A tick still under way is abandoned.
    pub fn begin_tick(&mut self, _now: Timestamp) {
        todo!()
    }
    /// Does one stage of the tick for one pool; true: more to do. The caller watches the clock and may simply stop.
    pub fn step(&mut self) -> bool {
        todo!()
    }
    /// When the next tick is due.
    pub fn due(&self) -> Timestamp {
        todo!()
    }
    /// Next thing to do, in order.
    pub fn next_effect(&mut self) -> Option<Effect> {
        todo!()
    }
    /// The table in service.
    pub fn table(&self) -> &Arc<RoutingTable> {
        todo!()
    }
    /// A routing decision of the last while, by id.
    pub fn routing_decision(&self, _id: u64) -> Option<RoutingDecisionReport> {
        todo!()
    }
    /// For the state file.
    pub fn learned(&self) -> LearnedCosts {
        todo!()
    }
}
