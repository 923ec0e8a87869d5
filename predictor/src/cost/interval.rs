//! How wide an interval must be to hold nine of ten truths, learned one completed request at a time.
//!
//! Half-width in log cost = scale · spread of the route. After each truth `ln scale` grows by `0.2 · (missed - 0.1)`, where
//! `missed` is 1 or 0. The scale stays within bounds, so misses must stay one in ten, whatever the distribution and however
//! late the labels (adaptive conformal inference: Gibbs and Candès, NeurIPS 2021; the multiplicative step is the quantile
//! tracker of Angelopoulos, Candès and Tibshirani, NeurIPS 2023). Static intervals lose their level under drift.

use crate::estimate::LEVEL;

/// For normal residuals: the 90 % quantile of |residual| over its mean, 1.645 / 0.798.
pub(crate) const NORMAL_SCALE: f32 = 2.06;
/// No key is known better than to 2 %: clocks and machines are not.
pub(crate) const LEAST_SPREAD: f32 = 0.02;
/// e^0.18 and e^-0.02, steps of 0.2 times (missed - 0.1): a miss widens by 20 %, a hit narrows by 2 %. Any 500 requests
/// with 15 misses too many would have to widen it twentyfold, so no window can lose its level by much.
const WIDENING: f32 = 1.197_217_4;
const NARROWING: f32 = 0.980_198_7;
const _: () = assert!(LEVEL == 0.90, "the steps are those of this level");
/// Bounds within which any real workload lies.
const SCALES: (f32, f32) = (0.05, 50.0);

/// The scale after one more truth.
pub(crate) fn tracked(scale: f32, missed: bool) -> f32 {
    sound(scale * if missed { WIDENING } else { NARROWING }, NORMAL_SCALE)
}

/// The scale if it can be used, else the other; within bounds.
pub(crate) fn sound(scale: f32, otherwise: f32) -> f32 {
    if scale.is_finite() && scale > 0.0 { scale.clamp(SCALES.0, SCALES.1) } else { otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    #[test]
    fn the_tracker_holds_its_level_through_a_change_of_spread() {
        let mut scale = NORMAL_SCALE;
        for width in [1.0, 4.0, 0.3] {
            let mut missed = 0;
            for i in 0..4_000u64 {
                let uniform = (hash::mix(i) >> 11) as f64 / (1u64 << 53) as f64;
                let miss = uniform * width > f64::from(scale);
                scale = tracked(scale, miss);
                missed += usize::from(miss && i >= 1_000);
            }
            let rate = missed as f64 / 3_000.0;
            assert!((0.08..0.12).contains(&rate), "width {width}: {rate}");
        }
        assert_eq!(sound(f32::NAN, 1.0), 1.0);
    }
}
