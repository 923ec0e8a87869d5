//! What leaves the controller, collected while it works.
use crate::decisions::DecisionLog;
use crate::io::{Effect, LoadSample};
use foretide_predictor::id::InstanceId;
use std::collections::VecDeque;

/// Effects in order, the log, and whether the table must be made anew.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) records: Vec<LoadSample>,
    pub(crate) log: DecisionLog,
    /// Something changed that the hot path must see with the next publish.
    pub(crate) dirty: bool,
    last_instance: u32,
}

impl Outbox {
    /// A fresh instance id, never used twice.
    pub(crate) fn next_instance(&mut self) -> InstanceId {
        self.last_instance += 1;
        InstanceId(self.last_instance)
    }

    /// Something to do.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }
}
