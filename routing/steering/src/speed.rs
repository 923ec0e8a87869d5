//! How fast an instance is: measured against what its requests were predicted to take.
//!
//! ```text
//! log_mean = EWMA of ln(attained / predicted)
//! rho      = clamp(log_mean - mean over the pool's measured instances, ±1.5), 0 below 50 samples
//! slowness = exp(γ · rho)
//! ```
//!
//! Centred over the pool, because a bias of the predictor is no property of an instance: with the mean taken off, work
//! "at speed 1" stays work on the average instance, and speeds and labels cannot drift away together.
//! Known weakness: when a fast instance leaves, the mean moves and all the others look faster for as long as the
//! predictor takes to follow.
//!
//! How much of it the score uses, γ, follows skill. Full weight packs the fast instances to the last slot, and where
//! sizes are unknown light requests then wait behind heavy ones. The skill is a running mean of hundreds of requests, so
//! γ glides.

use crate::score::Form;
use std::ops::RangeInclusive;

/// Samples before a residual says anything: at a spread of a factor of two the mean is then known to 10 %.
const ENOUGH: u64 = 50;
/// Weight of a sample in the mean: the less they scatter, the fewer say as much (a random walk's best filter has a gain in
/// inverse proportion to their spread). From 50 samples of memory where costs are not foreseen to 12 where they are.
const WEIGHTS: RangeInclusive<f64> = 0.02..=0.08;
/// The weight at a spread of a factor of e.
const WEIGHT: f64 = 0.05;
/// One sample counts no more than a factor of 20 either way.
const SAMPLE: RangeInclusive<f64> = -3.0..=3.0;
/// Beyond a factor of 4.5 it is broken rather than slow, and health and anomalies deal with it.
pub const LIMIT: f64 = 1.5;

/// Skill that counts as full: half the error of the route's mean. Noise that nobody can foresee allows little more.
pub const FULL_SKILL: f64 = 0.5;

/// γ of a form for a cost model of this skill; `None`: not measured yet.
pub fn temper(form: Form, skill: Option<f64>) -> f32 {
    let skill = skill.filter(|skill| skill.is_finite()).unwrap_or(0.0);
    let (blind, sighted) = match form {
        Form::ProcessorSharing => (0.25, 0.5),
        Form::WorkerPool => (0.25, 1.5),
    };
    (blind + (sighted - blind) * (skill / FULL_SKILL).clamp(0.0, 1.0)) as f32
}

/// Speed of one instance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speed {
    log_mean: f64,
    variance: f64,
    samples: u64,
    rho: f64,
    /// What was taken off to centre it.
    common: f64,
    /// What its instance says, which sees all requests and not only this proxy's.
    said: Option<f64>,
    /// What other proxies measured, put on the scale of this one.
    told: Option<f64>,
}

impl Speed {
    /// One finished request: ln(attained / predicted). What is not finite is ignored.
    pub fn observe(&mut self, residual: f64) {
        if !residual.is_finite() {
            return;
        }
        self.samples += 1;
        let young = 1.0 / self.samples as f64;
        let off = residual.clamp(*SAMPLE.start(), *SAMPLE.end()) - self.log_mean;
        let usual = (WEIGHT / self.variance.sqrt()).clamp(*WEIGHTS.start(), *WEIGHTS.end());
        self.log_mean += usual.max(young) * off;
        self.variance += WEIGHTS.start().max(young) * (off * off - self.variance);
    }

    /// The instance says a residual of its own, measured on the requests of all proxies; it counts before what was measured
    /// here, which takes waiting behind others' requests for slowness. `None` or not finite: it says nothing.
    pub fn said(&mut self, residual: Option<f64>) {
        self.said = residual.filter(|residual| residual.is_finite());
    }

    /// The mean as it is, not centred: what was measured, or else what other proxies told; `None`: neither.
    pub fn residual(&self) -> Option<f64> {
        self.measured().or(self.told)
    }

    /// As the instance itself says it or as it was measured here; `None` below 50 samples.
    fn measured(&self) -> Option<f64> {
        self.said.or_else(|| self.is_known_here().then_some(self.log_mean))
    }

    /// Whether enough of this proxy's own requests say it. Only that is worth telling others: hearsay that is passed on
    /// would outlive whoever measured it.
    pub fn is_known_here(&self) -> bool {
        self.samples >= ENOUGH
    }

    /// Requests that this proxy has measured it on.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// ln of how much longer than on the average instance work takes here, as of the last [`centre`].
    pub fn rho(&self) -> f64 {
        self.rho
    }

    /// What all instances of its pool have in common: the predictor's bias, or, where costs are reported in a unit of their
    /// own, how far that is from time of service.
    pub fn common(&self) -> f64 {
        self.common
    }
}

/// Tells the speeds of one pool what other proxies measured, in the same order: ln of how much longer than on their average
/// instance work takes. It counts where nothing was measured here. Each predictor has a bias of its own and each proxy
/// may have measured other instances, so the scales are shifted against each other by the mean difference on the instances
/// that both know. What is not finite is ignored, and nobody is further than ±1.5 from the average.
pub fn tell(speeds: &mut [&mut Speed], others: &[Option<f64>]) {
    let other = |at: usize| {
        let told = others.get(at).copied().flatten().filter(|told| told.is_finite());
        told.map(|told| told.clamp(-LIMIT, LIMIT))
    };
    let both = || (speeds.iter().enumerate()).filter_map(|(at, speed)| Some(speed.measured()? - other(at)?));
    let shift = both().sum::<f64>() / both().count().max(1) as f64;
    for (at, speed) in speeds.iter_mut().enumerate() {
        speed.told = other(at).map(|told| told + shift);
    }
}

/// Centres the speeds of one pool on their mean.
pub fn centre(speeds: &mut [&mut Speed]) {
    let measured = || speeds.iter().filter_map(|speed| speed.residual());
    let mean = measured().sum::<f64>() / measured().count().max(1) as f64;
    for speed in speeds {
        speed.common = mean;
        speed.rho = speed.residual().map_or(0.0, |residual| (residual - mean).clamp(-LIMIT, LIMIT));
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
        let sharing = |skill| temper(Form::ProcessorSharing, skill);
        assert_eq!([None, Some(f64::NAN), Some(-0.7), Some(0.0)].map(sharing), [0.25; 4]);
        assert!((sharing(Some(0.25)) - 0.375).abs() < 1e-6);
        assert_eq!([0.5, 0.9].map(|skill| sharing(Some(skill))), [0.5; 2]);
        assert_eq!([None, Some(0.9)].map(|skill| temper(Form::WorkerPool, skill)), [0.25, 1.5]);
    }

    #[test]
    fn what_an_instance_says_counts_before_what_was_measured() {
        let (mut told, mut quiet) = (Speed::default(), Speed::default());
        (0..60).for_each(|_| told.observe(1.0));
        told.said(Some(0.4));
        quiet.said(Some(f64::NAN));
        assert_eq!((told.residual(), quiet.residual()), (Some(0.4), None));
        told.said(None);
        assert!((told.residual().unwrap() - 1.0).abs() < 1e-9);
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

    #[test]
    fn what_others_measured_counts_until_it_was_measured_here() {
        let (mut slow, mut usual, mut unknown) = (Speed::default(), Speed::default(), Speed::default());
        tell(&mut [&mut slow, &mut usual, &mut unknown], &[Some(1.0), Some(0.0), None]);
        centre(&mut [&mut slow, &mut usual, &mut unknown]);
        assert!((slow.rho() - 0.5).abs() < 1e-9 && (usual.rho() + 0.5).abs() < 1e-9, "{slow:?} {usual:?}");
        assert!(unknown.rho() == 0.0 && !slow.is_known_here());
        // Here everything takes e² times what is predicted, which is nobody's speed.
        (0..60).for_each(|_| usual.observe(2.0));
        tell(&mut [&mut slow, &mut usual, &mut unknown], &[Some(1.0), Some(0.0), None]);
        centre(&mut [&mut slow, &mut usual, &mut unknown]);
        assert!((slow.rho() - 0.5).abs() < 1e-9 && (usual.rho() + 0.5).abs() < 1e-9, "{slow:?} {usual:?}");
        // What was measured wins, and what nobody says any more is forgotten.
        (0..60).for_each(|_| slow.observe(2.0));
        tell(&mut [&mut slow, &mut usual], &[Some(f64::NAN), Some(1e300)]);
        centre(&mut [&mut slow, &mut usual]);
        assert!(slow.rho().abs() < 1e-9 && usual.rho().abs() < 1e-9, "{slow:?} {usual:?}");
        tell(&mut [&mut unknown], &[None]);
        assert_eq!(unknown.residual(), None);
    }
}
