//! Events that operators announce (contract; body to come).
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Something announced that will change load: a sale, a broadcast, a batch run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduledEvent {
    /// For people.
    pub name: String,
    /// When it starts.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// Load expected during it as a multiple of the usual, > 0.
    pub ratio: f64,
}

/// Product of the ratios of all events on at `at`, 1.0 if none.
pub fn ratio_at(_events: &[ScheduledEvent], _at: Timestamp) -> f64 {
    todo!()
}
