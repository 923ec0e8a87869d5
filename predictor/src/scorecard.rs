//! Measures of how good predictions were.
//!
//! Running means of the absolute error, of the naive rival's absolute error, and of hits of the interval. The weight
//! of a new prediction is 1/n until n reaches the memory, then 1/memory: a plain mean first, an exponentially
//! forgetting one later. Known weakness: one enormous miss counts in full.

use serde::Serialize;

use crate::estimate::Estimate;

/// Predictions needed before skill is said: fewer would let chance decide a tier's weight.
const SKILL_FROM: u64 = 20;

/// Running accuracy of a stream of predictions against what happened: exponentially forgotten, constant memory.
#[derive(Clone, Debug, Serialize)]
pub struct Scorecard {
    memory: u64,
    seen: u64,
    error: f64,
    naive_error: f64,
    covered: f64,
}

impl Scorecard {
    /// `memory`: about how many predictions are remembered.
    pub fn new(memory: usize) -> Self {
        Self { memory: memory.max(1) as u64, seen: 0, error: 0.0, naive_error: 0.0, covered: 0.0 }
    }

    /// One prediction, what happened, and what the naive rival had said. Non-finite input is ignored.
    pub fn observe(&mut self, predicted: Estimate, actual: f64, naive: f64) {
        let error = (predicted.mean() - actual).abs();
        let naive_error = (naive - actual).abs();
        if !error.is_finite() || !naive_error.is_finite() {
            return;
        }
        self.seen = self.seen.saturating_add(1);
        let weight = 1.0 / self.seen.min(self.memory) as f64;
        let covered = f64::from(u8::from(predicted.covers(actual)));
        self.error += weight * (error - self.error);
        self.naive_error += weight * (naive_error - self.naive_error);
        self.covered += weight * (covered - self.covered);
    }

    /// Predictions seen.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// 1 - our absolute error over the naive one's, clamped to [-1, 1]; `None` before 20 predictions. Against a
    /// rival without any error: 0 when we have none either, else -1.
    pub fn skill(&self) -> Option<f64> {
        let skill = match (self.error > 0.0, self.naive_error > 0.0) {
            (false, false) => 0.0,
            (true, false) => -1.0,
            (_, true) => (1.0 - self.error / self.naive_error).clamp(-1.0, 1.0),
        };
        (self.seen >= SKILL_FROM).then_some(skill)
    }

    /// Share of actual values inside the interval; `None` before the first.
    pub fn coverage(&self) -> Option<f64> {
        (self.seen > 0).then_some(self.covered)
    }

    /// Mean absolute error, in the unit of the predictions; `None` before the first.
    pub fn mean_absolute_error(&self) -> Option<f64> {
        (self.seen > 0).then_some(self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skill_coverage_and_error_are_the_plain_means_at_first() {
        let mut card = Scorecard::new(100);
        for turn in 0..20 {
            assert_eq!(card.skill(), None);
            let actual = if turn < 15 { 11.0 } else { 14.0 };
            card.observe(Estimate::new(10.0, 8.0, 12.0).unwrap(), actual, 0.0);
        }
        assert_eq!(card.seen(), 20);
        assert!((card.coverage().unwrap() - 0.75).abs() < 1e-9);
        assert!((card.mean_absolute_error().unwrap() - 1.75).abs() < 1e-9);
        assert!((card.skill().unwrap() - (1.0 - 1.75 / 11.75)).abs() < 1e-9);
    }

    #[test]
    fn forgets_and_ignores_what_is_not_finite() {
        let mut card = Scorecard::new(10);
        for _ in 0..100 {
            card.observe(Estimate::exact(0.0), 5.0, 4.0);
        }
        assert!(card.skill().unwrap() < 0.0);
        card.observe(Estimate::exact(0.0), f64::NAN, 1.0);
        card.observe(Estimate::exact(-1e308), f64::MAX, 1.0);
        assert_eq!(card.seen(), 100);
        for _ in 0..100 {
            card.observe(Estimate::exact(5.0), 5.0, 4.0);
        }
        assert!(card.mean_absolute_error().unwrap() < 0.001);
        assert!(card.skill().unwrap() > 0.99);
    }
}
