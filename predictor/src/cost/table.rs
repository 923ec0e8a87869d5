//! Bounded table of running statistics per key (contract; body to come).
use crate::cost::query::CostQuery;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Width of the feature vector.
pub const FEATURES: usize = 32;

/// What the trees see; as it was on arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features(pub [f32; FEATURES]);

/// Concurrent table of running statistics: many readers, one writer, no lock (relaxed atomics).
#[derive(Debug)]
pub struct KeyTable {}

/// A copy of the table for the state file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KeyTableState {}

impl KeyTable {
    /// `cells`: capacity, rounded up to a power of two.
    pub fn new(_cells: usize) -> Self {
        todo!()
    }
    /// Features of a request as the table knows it now.
    pub fn features(&self, _query: &CostQuery, _now: Timestamp) -> Features {
        todo!()
    }
    /// Learns the measured work of a finished request, microseconds at speed 1. Ignores what is not finite or <= 0.
    pub fn observe(&self, _query: &CostQuery, _work_us: f64, _now: Timestamp) {
        todo!()
    }
    /// Cells in use, for metrics.
    pub fn occupied(&self) -> usize {
        todo!()
    }
    /// For the state file.
    pub fn snapshot(&self) -> KeyTableState {
        todo!()
    }
    /// Fills an empty table from a state file.
    pub fn restore(&self, _state: &KeyTableState) {
        todo!()
    }
}
