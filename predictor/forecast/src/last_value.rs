//! The forecast that needs almost no history: the last value, and what is left of its recent drift.
//!
//! `z[t+h] = z[t] + drift · (φ + φ² + … + φ^h)`, drift the median of the last steps' differences, φ = 0.8: it fades
//! within a few steps, because extrapolated lines are how forecasts explode (Gardner and McKenzie 1985). The interval
//! grows like a random walk's, and is wide when few differences are known.

use crate::ladder::Reach;

const DAMPING: f64 = 0.8;

/// Differences that the drift is the median of.
const DRIFT_STEPS: usize = 8;

/// Differences that the step size is measured on.
const NOISE_STEPS: usize = 200;

/// Half-width of a 90 % interval in standard deviations of a normal error.
const NORMAL_90: f64 = 1.645;

/// What the end of a history says.
pub(super) struct LastValue {
    level: f64,
    drift: f64,
    /// Typical size of one step's change.
    step: f64,
}

impl LastValue {
    /// Reads the history up to and including `t`.
    pub(super) fn at(z: &[f64], t: usize) -> Self {
        let recent = &z[t.saturating_sub(NOISE_STEPS)..=t];
        let changes: Vec<f64> = recent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mut last = changes[changes.len().saturating_sub(DRIFT_STEPS)..].to_vec();
        last.sort_by(f64::total_cmp);
        // Two differences cannot tell drift from noise.
        let drift = if last.len() > 2 { last[last.len() / 2] } else { 0.0 };
        let square: f64 = changes.iter().map(|change| change * change).sum();
        let known = changes.len() as f64;
        // Few differences may all be small by luck: a fifth of the level counts as one more.
        let prior = 0.2 * z[t].max(0.05);
        let step = ((square + prior * prior) / (known + 1.0)).sqrt();
        Self { level: z[t], drift, step }
    }

    /// Predicts `h` >= 1 steps ahead.
    pub(super) fn predict(&self, h: usize) -> Reach {
        let faded = DAMPING * (1.0 - DAMPING.powi(h.min(1_000) as i32)) / (1.0 - DAMPING);
        let half = NORMAL_90 * self.step * (h as f64).sqrt();
        Reach { centre: self.level + self.drift * faded, down: half, up: half }
    }
}
