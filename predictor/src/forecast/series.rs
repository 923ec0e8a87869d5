//! A bounded, evenly spaced series of load (contract; body to come).
use crate::time::Timestamp;
use std::time::Duration;

/// Evenly spaced values, oldest first; NaN marks a gap. Bounded: the oldest fall out.
#[derive(Clone, Debug)]
pub struct Series {}

impl Series {
    /// Steps of `step`, at most `capacity` of them.
    pub fn new(_step: Duration, _capacity: usize) -> Self {
        todo!()
    }
    /// Puts the value of the step that starts at `at` (rounded down to a step). Skipped steps become gaps; a value
    /// for a step already held replaces it; one older than the series is ignored.
    pub fn put(&mut self, _at: Timestamp, _value: f64) {
        todo!()
    }
    /// Width of a step.
    pub fn step(&self) -> Duration {
        todo!()
    }
    /// Start of the first step held.
    pub fn start(&self) -> Option<Timestamp> {
        todo!()
    }
    /// End of the last step held.
    pub fn end(&self) -> Option<Timestamp> {
        todo!()
    }
    /// Values, oldest first.
    pub fn values(&self) -> &[f64] {
        todo!()
    }
}
