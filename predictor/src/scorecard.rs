//! Measures of how good predictions were (contract; body to come).
use crate::estimate::Estimate;
use serde::Serialize;

/// Running accuracy of a stream of predictions against what happened: exponentially forgotten, constant memory.
#[derive(Clone, Debug, Serialize)]
pub struct Scorecard {}

impl Scorecard {
    /// `memory`: about how many predictions are remembered.
    pub fn new(_memory: usize) -> Self {
        todo!()
    }
    /// One prediction, what happened, and what the naive rival had said. Non-finite input is ignored.
    pub fn observe(&mut self, _predicted: Estimate, _actual: f64, _naive: f64) {
        todo!()
    }
    /// Predictions seen.
    pub fn seen(&self) -> u64 {
        todo!()
    }
    /// 1 - our absolute error over the naive one's, clamped to [-1, 1]; `None` before 20 predictions.
    pub fn skill(&self) -> Option<f64> {
        todo!()
    }
    /// Share of actual values inside the interval.
    pub fn coverage(&self) -> Option<f64> {
        todo!()
    }
    /// Mean absolute error.
    pub fn mean_absolute_error(&self) -> Option<f64> {
        todo!()
    }
}
