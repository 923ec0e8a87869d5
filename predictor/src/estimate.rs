//! A prediction is never a bare number.

use serde::{Deserialize, Serialize};

/// The level of every interval: the truth is meant to lie inside in 90 of 100 cases.
pub const LEVEL: f64 = 0.90;

/// An expected value with its [`LEVEL`] prediction interval. Always finite, `low <= mean <= high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    mean: f64,
    low: f64,
    high: f64,
}

impl Estimate {
    /// Checks the three numbers; the mean is widened into the interval when a skewed distribution puts it outside.
    /// `None` if any is NaN or infinite.
    pub fn new(mean: f64, low: f64, high: f64) -> Option<Self> {
        let finite = mean.is_finite() && low.is_finite() && high.is_finite();
        finite.then(|| Self { mean, low: low.min(high).min(mean), high: high.max(low).max(mean) })
    }

    /// A value known for sure; 0 if it is not finite.
    pub fn exact(value: f64) -> Self {
        let value = if value.is_finite() { value } else { 0.0 };
        Self { mean: value, low: value, high: value }
    }

    /// The expected value.
    pub fn mean(self) -> f64 {
        self.mean
    }

    /// Lower end of the interval.
    pub fn low(self) -> f64 {
        self.low
    }

    /// Upper end of the interval.
    pub fn high(self) -> f64 {
        self.high
    }

    /// All three multiplied by a finite factor >= 0; unchanged for any other factor.
    pub fn scaled(self, factor: f64) -> Self {
        if !factor.is_finite() || factor < 0.0 {
            return self;
        }
        Self { mean: self.mean * factor, low: self.low * factor, high: self.high * factor }
    }

    /// Whether the interval holds `actual`.
    pub fn covers(self, actual: f64) -> bool {
        self.low <= actual && actual <= self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_not_a_number_becomes_an_estimate() {
        assert_eq!(Estimate::new(f64::NAN, 0.0, 1.0), None);
        assert_eq!(Estimate::new(1.0, 0.0, f64::INFINITY), None);
        assert_eq!(Estimate::exact(f64::NAN), Estimate::exact(0.0));
    }

    #[test]
    fn ends_are_put_in_order() {
        let estimate = Estimate::new(5.0, 4.0, 2.0).unwrap();
        assert!(estimate.low() <= estimate.mean() && estimate.mean() <= estimate.high());
    }
}
