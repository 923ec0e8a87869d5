//! How fast an instance is: measured against what its requests were predicted to take.
//!
//! ```text
//! log_mean = EWMA of ln(attained / predicted)
//! rho      = clamp(log_mean - mean over the pool's measured instances, ±1.5), 0 below 50 samples
//! ```
//!
//! Centred over the pool, because a bias of the predictor is no property of an instance: with the mean taken off, work
//! "at speed 1" stays work on the average instance, and speeds and labels cannot drift away together.
//! Known weakness: when a fast instance leaves, the mean moves and all the others look faster for as long as the
//! predictor takes to follow.
//!
//! How much of it the score uses, γ in `exp(γ · rho)`, follows the cost model's skill: from 0.25 without any to 0.5.
//! Full weight packs the fast instances to the last slot, and where sizes are unknown light requests then wait behind
//! heavy ones; half was best for processor sharing with a good predictor, a quarter with a constant one. The skill is a
//! running mean of hundreds of requests, so γ glides.
use std::ops::RangeInclusive;

/// Samples before a residual says anything: at a spread of a factor of two the mean is then known to 10 %.
const ENOUGH: u64 = 50;
/// The EWMA's memory in samples: the same 50.
const WEIGHT: f64 = 0.02;
/// One sample counts no more than a factor of 20 either way.
const SAMPLE: RangeInclusive<f64> = -3.0..=3.0;
/// Beyond a factor of 4.5 it is broken rather than slow, and health and anomalies deal with it.
const LIMIT: f64 = 1.5;

/// γ without skill, and what full skill adds.
const TEMPER: (f64, f64) = (0.25, 0.25);
/// Skill that counts as full: half the error of the route's mean. Noise that nobody can foresee allows little more.
const FULL_SKILL: f64 = 0.5;

/// γ for a cost model of this skill; `None`: not measured yet.
pub(crate) fn temper(skill: Option<f64>) -> f32 {
    let skill = skill.filter(|skill| skill.is_finite()).unwrap_or(0.0);
    (TEMPER.0 + TEMPER.1 * (skill / FULL_SKILL).clamp(0.0, 1.0)) as f32
}

/// Speed of one instance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Speed {
    log_mean: f64,
    samples: u64,
    rho: f64,
    /// What was taken off to centre it.
    common: f64,
}

impl Speed {
    /// One finished request: ln(attained / predicted).
    pub(crate) fn observe(&mut self, residual: f64) {
        if !residual.is_finite() {
            return;
        }
        self.samples += 1;
        let weight = WEIGHT.max(1.0 / self.samples as f64);
        self.log_mean += weight * (residual.clamp(*SAMPLE.start(), *SAMPLE.end()) - self.log_mean);
    }

    /// ln of how much longer than on the average instance work takes here.
    pub(crate) fn rho(&self) -> f64 {
        self.rho
    }

    /// What all instances of its pool have in common: the predictor's bias, or, where costs are reported in a unit of their
    /// own, how far that is from time of service.
    pub(crate) fn common(&self) -> f64 {
        self.common
    }
}

/// Centres the speeds of one pool on their mean.
pub(crate) fn centre(speeds: &mut [&mut Speed]) {
    let measured = speeds.iter().filter(|speed| speed.samples >= ENOUGH);
    let count = measured.clone().count();
    let mean = measured.map(|speed| speed.log_mean).sum::<f64>() / count.max(1) as f64;
    for speed in speeds {
        speed.common = mean;
        speed.rho = if speed.samples >= ENOUGH { (speed.log_mean - mean).clamp(-LIMIT, LIMIT) } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_of_the_predictor_is_nobodys_speed() {
        let (mut slow, mut fast, mut new) = (Speed::default(), Speed::default(), Speed::default());
        for _ in 0..60 {
            slow.observe(1.0 + 0.5);
            fast.observe(1.0 - 0.5);
        }
        new.observe(3.0);
        centre(&mut [&mut slow, &mut fast, &mut new]);
        assert!((slow.rho() - 0.5).abs() < 1e-9 && (fast.rho() + 0.5).abs() < 1e-9);
        assert_eq!(new.rho(), 0.0, "one sample says nothing");
    }

    #[test]
    fn speed_counts_more_the_better_costs_are_known() {
        assert_eq!([None, Some(f64::NAN), Some(-0.7), Some(0.0)].map(temper), [0.25; 4]);
        assert!((temper(Some(0.25)) - 0.375).abs() < 1e-6);
        assert_eq!([0.5, 0.9].map(|skill| temper(Some(skill))), [0.5; 2]);
    }

    #[test]
    fn nonsense_is_bounded() {
        let (mut broken, mut sound) = (Speed::default(), Speed::default());
        for _ in 0..100 {
            broken.observe(1e9);
            broken.observe(f64::NAN);
            sound.observe(-9.0);
        }
        centre(&mut [&mut broken, &mut sound]);
        assert_eq!((broken.rho(), sound.rho()), (1.5, -1.5));
    }
}
