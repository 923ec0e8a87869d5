//! How far the truth has lain off the answers on a route lately, all to one side, and how much of that is believed.
//!
//! After a deployment, under a fault or behind a cold cache all costs of a route move together. Means follow within dozens of
//! requests, trees with the next training; until then one miss resembles the last. So the *lean*, a moving average `l` of the
//! misses `e`, is added to the next answer, as far as it has foretold the next miss:
//!
//! ```text
//! λ = β · l,   β = cov(l, e) / var(l) - 0.1, within [0, 1]        l ← l + 0.1 · (e - l), after β has seen both
//! ```
//!
//! Where misses have nothing to do with each other `β` is about zero, and hardly anything is added: a first-order autoregression of the
//! residuals (Box and Jenkins 1970) that has to earn its place. Misses are those of the answer without it.
//!
//! It moves ln cost and its interval, not the expected cost, which the smear corrects at its own pace
//! ([`crate::cost::estimator`]).
//!
//! Known weakness: a fault in which few requests take a hundred times longer ends for it as abruptly as it began, and the
//! answers of the ten requests after it are off by what it had learned.

use wide::f32x4;

use crate::cost::lanes::{at_least, at_most, towards};

/// Weight of the newest miss: the last ten or so. Half and twice that are as good within two per cent where costs jump.
const RATE: f32 = 0.1;
/// Requests that cov and var reach back at least: enough to tell chance from a habit, few enough to see a fault.
const MEMORY: f32 = 200.0;
/// Taken off `β`, which chance makes unequal to zero. With 0 instead one set of seven was 0.3 % worse, with 0.25 another 1.7 %.
const CHANCE: f32 = 0.1;
/// Misses count as so much at most, ln cost: a factor of twenty.
const MOST: f32 = 3.0;
/// Added to var(l), so that misses of a per cent, which are noise of clocks, move nothing.
const LEAST_VARIANCE: f32 = 1e-4;
/// Requests at which half of it is believed.
const HALF: f32 = 30.0;

/// Bounds of what is kept.
const LEAST: f32x4 = f32x4::new([-MOST, -MOST * MOST, 0.0, -MOST]);
const LARGEST: f32x4 = f32x4::new([MOST, MOST * MOST, MOST * MOST, MOST]);

/// `l`, cov(l, e), var(l), and the correction `λ` of the next answer, ln cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lean(pub f32x4);

impl Lean {
    /// To be added to the next answer, ln cost.
    #[inline(always)]
    pub(crate) fn correction(self) -> f32 {
        self.0.as_array()[3]
    }

    /// After the route's `seen`th completion, whose cost lay by `missed` (ln cost) over the answer without correction.
    #[inline(always)]
    pub(crate) fn after(self, missed: f32, seen: f32) -> Self {
        let [lean, covariance, variance, _] = self.0.to_array();
        let missed = at_most(at_least(missed, -MOST), MOST);
        let share = 1.0 / seen;
        let (rate, memory) = (at_least(share, RATE), at_least(share, 1.0 / MEMORY));
        let new = f32x4::new([missed, lean * missed, lean * lean, 0.0]);
        let old = f32x4::new([lean, covariance, variance, 0.0]);
        let [lean, covariance, variance, _] =
            towards(old, new, f32x4::new([rate, memory, memory, 0.0])).to_array();
        let foretells = covariance / (variance + LEAST_VARIANCE) - CHANCE;
        let believed = at_most(at_least(foretells, 0.0), 1.0) * (seen / (seen + HALF));
        Self(f32x4::new([lean, covariance, variance, believed * lean]))
    }

    /// What a state file says, within what misses can make of it.
    pub(crate) fn sound(self) -> Self {
        Self(self.0.fast_max(LEAST).fast_min(LARGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;
    use proptest::prelude::*;

    /// Corrections before each of these misses.
    fn corrections(misses: impl Iterator<Item = f32>) -> Vec<f32> {
        let mut lean = Lean::default();
        let one = |(i, missed): (usize, f32)| {
            let correction = lean.correction();
            lean = lean.after(missed, (i + 1) as f32);
            correction
        };
        misses.enumerate().map(one).collect()
    }

    /// Even in [-1, 1).
    fn chance(i: u64) -> f32 {
        (hash::mix(i) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    #[test]
    fn a_jump_is_followed_within_dozens_of_requests_and_left_again() {
        let jump = |i: u64| if (500..1_000).contains(&i) { 1.0 } else { 0.0 };
        let made = corrections((0..1_500).map(|i| jump(i) + 0.3 * chance(i)));
        let mean = |range: std::ops::Range<usize>| made[range].iter().sum::<f32>() / 100.0;
        assert!(mean(350..450).abs() < 0.02, "{}", mean(350..450));
        assert!(mean(520..620) > 0.8, "{}", mean(520..620));
        assert!(mean(1_020..1_120).abs() < 0.1, "{}", mean(1_020..1_120));
    }

    #[test]
    fn misses_that_have_nothing_to_do_with_each_other_are_left_alone() {
        let misses = || (0..20_000).map(chance);
        let squares = |errors: &mut dyn Iterator<Item = f32>| errors.map(|error| error * error).sum::<f32>();
        let corrected = misses().zip(corrections(misses())).map(|(missed, correction)| missed - correction);
        let worse = squares(&mut corrected.into_iter()) / squares(&mut misses());
        assert!((1.0..1.004).contains(&worse), "{worse}");
    }

    proptest! {
        #[test]
        fn whatever_misses_there_are_the_correction_can_be_used(
            misses in proptest::collection::vec(any::<f32>(), 0..200),
            numbers in proptest::array::uniform4(-1e30f32..1e30),
        ) {
            prop_assert!(corrections(misses.iter().copied()).iter().all(|made| made.abs() <= MOST));
            let restored = misses.iter().fold(Lean(f32x4::new(numbers)).sound(), |lean, &missed| lean.after(missed, 9.0));
            prop_assert!(restored.correction().abs() <= MOST);
        }
    }
}
