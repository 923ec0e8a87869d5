//! Bounded, stratified training sample (contract; body to come).
use crate::cost::query::CostQuery;
use crate::cost::table::Features;
use crate::time::Timestamp;

/// One finished request: what was known on arrival, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it arrived.
    pub at: Timestamp,
    /// What was asked.
    pub query: CostQuery,
    /// Features as they were on arrival.
    pub features: Features,
    /// Measured work, microseconds at speed 1.
    pub work_us: f64,
}

/// Bounded sample of finished requests: newest first in weight, rare heavy ones kept, no consumer owning it.
#[derive(Clone, Debug)]
pub struct Reservoir {}

impl Reservoir {
    /// At most `capacity` rows; `seed` decides what is replaced.
    pub fn new(_capacity: usize, _seed: u64) -> Self {
        todo!()
    }
    /// Offers a row; unusable labels (not finite, <= 0) are refused and counted.
    pub fn push(&mut self, _sample: Sample) -> bool {
        todo!()
    }
    /// Rows held.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Rows accepted since the start.
    pub fn accepted(&self) -> u64 {
        todo!()
    }
    /// All rows in order of arrival.
    pub fn rows(&self) -> Vec<Sample> {
        todo!()
    }
}
