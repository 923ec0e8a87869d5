//! One load score per instance from three tiers.
//!
//! `total = Σ weight·load / Σ weight` over the tiers that answered. A tier is out when it says nothing, or something
//! that is not finite or negative; its weight goes to the others in proportion. Weights follow measured skill:
//! the target is START × skill, and a call moves at most `MAX_STEP` of weight towards it, so they glide and never
//! flap. Why START stays in the target: equal skill must give back the agreed 0.4 / 0.3 / 0.3.

use serde::{Deserialize, Serialize};

/// Most weight that moves in one call: at one call a second a tier that went bad is out within twenty seconds, and
/// no single score can make the fleet jump.
const MAX_STEP: f64 = 0.02;

/// Part of the way gone per call when the target is near.
const PACE: f64 = 0.1;

/// Weights of the tiers; each >= 0, sum 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TierWeights {
    /// Tier 1, forecast work rate.
    pub baseline: f64,
    /// Tier 2, predicted work in flight.
    pub cost: f64,
    /// Tier 3, excess that peers and anomalies make likely.
    pub peers: f64,
}

/// What each tier says, as share of the instance's capacity; `None` or anything not finite or negative: that tier is
/// out and its weight goes to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TierLoads {
    /// Tier 1.
    pub baseline: Option<f64>,
    /// Tier 2.
    pub cost: Option<f64>,
    /// Tier 3.
    pub peers: Option<f64>,
}

/// The blended score and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadScore {
    /// Weighted mean of the tiers that answered; `None` when none did.
    pub total: Option<f64>,
    /// Weights after missing tiers gave theirs away.
    pub weights: TierWeights,
    /// What the tiers said; unusable answers are `None` here.
    pub loads: TierLoads,
}

/// How well each tier predicted lately, 0 (useless) to 1 (perfect); `None`: not measured yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TierSkills {
    /// Tier 1.
    pub baseline: Option<f64>,
    /// Tier 2.
    pub cost: Option<f64>,
    /// Tier 3.
    pub peers: Option<f64>,
}

impl TierWeights {
    /// Where all begins: 0.4 / 0.3 / 0.3.
    pub const START: Self = Self { baseline: 0.4, cost: 0.3, peers: 0.3 };

    /// Moves a little towards weights proportional to START × skill; smooth, never flaps, always sums to 1. Tiers
    /// not measured yet are steered to their share in START and the measured ones share the rest; where none of
    /// those has skill above 0, all are steered to START.
    #[must_use]
    pub fn follow(self, skills: TierSkills) -> Self {
        let from = self.normalised().as_array();
        let target = target(skills);
        let farthest = from.iter().zip(target).map(|(now, goal)| (goal - now).abs()).fold(0.0, f64::max);
        let part = if farthest > 0.0 { PACE.min(MAX_STEP / farthest) } else { 0.0 };
        let moved: [f64; 3] = std::array::from_fn(|tier| from[tier] + part * (target[tier] - from[tier]));
        Self::from_array(moved).normalised()
    }

    /// Sums to 1; START where the weights are unusable.
    fn normalised(self) -> Self {
        let usable =
            self.as_array().map(|weight| if weight.is_finite() { weight.clamp(0.0, 1e9) } else { 0.0 });
        let sum: f64 = usable.iter().sum();
        if sum > 0.0 && sum.recip().is_finite() {
            Self::from_array(usable.map(|weight| weight / sum))
        } else {
            Self::START
        }
    }

    fn as_array(self) -> [f64; 3] {
        [self.baseline, self.cost, self.peers]
    }

    fn from_array([baseline, cost, peers]: [f64; 3]) -> Self {
        Self { baseline, cost, peers }
    }
}

fn target(skills: TierSkills) -> [f64; 3] {
    let start = TierWeights::START.as_array();
    let skills = [skills.baseline, skills.cost, skills.peers];
    let skills = skills.map(|skill| skill.filter(|s| s.is_finite()).map(|s| s.clamp(0.0, 1.0)));
    let earned: [f64; 3] = std::array::from_fn(|tier| skills[tier].map_or(0.0, |skill| start[tier] * skill));
    let all_earned: f64 = earned.iter().sum();
    // A skill this small is noise, and dividing by it would overflow.
    if all_earned < 1e-9 {
        return start;
    }
    let open: f64 = (0..3).filter(|&tier| skills[tier].is_some()).map(|tier| start[tier]).sum();
    std::array::from_fn(|tier| match skills[tier] {
        Some(_) => open * earned[tier] / all_earned,
        None => start[tier],
    })
}

/// Blends. Never fails, never NaN.
pub fn load_score(weights: TierWeights, loads: TierLoads) -> LoadScore {
    let usable = |load: Option<f64>| load.filter(|value| value.is_finite() && *value >= 0.0);
    let loads =
        TierLoads { baseline: usable(loads.baseline), cost: usable(loads.cost), peers: usable(loads.peers) };
    let said = [loads.baseline, loads.cost, loads.peers];
    let weights = weights.normalised().as_array();
    let left: [f64; 3] = std::array::from_fn(|tier| if said[tier].is_some() { weights[tier] } else { 0.0 });
    let left = if left.iter().sum::<f64>() > 1e-12 {
        left
    } else {
        // All weight lay on tiers that are out: those that answered share as at the start.
        let start = TierWeights::START.as_array();
        std::array::from_fn(|tier| if said[tier].is_some() { start[tier] } else { 0.0 })
    };
    let weights = TierWeights::from_array(left).normalised();
    let parts = weights.as_array().into_iter().zip(said).filter_map(|(weight, load)| Some(weight * load?));
    let total = said.iter().any(Option::is_some).then(|| parts.sum::<f64>().min(f64::MAX));
    LoadScore { total, weights, loads }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sane(weights: TierWeights) -> bool {
        let all = weights.as_array();
        all.iter().all(|weight| (0.0..=1.0).contains(weight)) && (all.iter().sum::<f64>() - 1.0).abs() < 1e-9
    }

    #[test]
    fn a_missing_tier_gives_its_weight_away() {
        let loads = TierLoads { baseline: Some(0.5), cost: None, peers: Some(0.1) };
        let score = load_score(TierWeights::START, loads);
        assert!((score.total.unwrap() - (0.4 * 0.5 + 0.3 * 0.1) / 0.7).abs() < 1e-12);
        assert_eq!(score.weights.cost, 0.0);
        assert_eq!(load_score(TierWeights::START, TierLoads::default()).total, None);
        let broken = TierLoads { baseline: Some(f64::NAN), cost: Some(-1.0), peers: Some(0.2) };
        assert_eq!(load_score(TierWeights::START, broken).total, Some(0.2));
    }

    #[test]
    fn weight_goes_to_skill_slowly_and_comes_back() {
        let skills = TierSkills { baseline: Some(0.8), cost: Some(0.8), peers: Some(0.0) };
        let mut weights = TierWeights::START;
        for _ in 0..300 {
            weights = weights.follow(skills);
        }
        assert!(weights.peers < 1e-3 && (weights.baseline - 0.4 / 0.7).abs() < 1e-3);
        let none = TierSkills { baseline: Some(0.0), cost: Some(-0.5), peers: Some(0.0) };
        for _ in 0..300 {
            weights = weights.follow(none);
        }
        assert!((weights.peers - 0.3).abs() < 1e-3);
    }

    #[test]
    fn what_is_not_measured_keeps_its_share() {
        let skills = TierSkills { baseline: None, cost: Some(0.9), peers: Some(0.1) };
        let weights = (0..300).fold(TierWeights::START, |weights, _| weights.follow(skills));
        assert!((weights.baseline - 0.4).abs() < 1e-9);
        assert!((weights.cost - 0.54).abs() < 1e-3);
    }

    fn anything() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), -1.0..2.0f64, Just(0.0), Just(f64::NAN), Just(f64::INFINITY)]
    }

    proptest! {
        #[test]
        fn follow_stays_sane_and_small(raw in prop::array::uniform3(anything()),
                                       skills in prop::array::uniform3(prop::option::of(anything()))) {
            let skills = TierSkills { baseline: skills[0], cost: skills[1], peers: skills[2] };
            prop_assert!(sane(TierWeights::from_array(raw).follow(skills)));
            let before = TierWeights::from_array(raw).normalised();
            let after = before.follow(skills);
            prop_assert!(sane(after));
            for (old, new) in before.as_array().into_iter().zip(after.as_array()) {
                prop_assert!((old - new).abs() <= MAX_STEP + 1e-12);
            }
        }

        #[test]
        fn a_score_is_never_nan_and_lies_among_the_tiers(raw in prop::array::uniform3(anything()),
                                                         loads in prop::array::uniform3(prop::option::of(anything()))) {
            let loads = TierLoads { baseline: loads[0], cost: loads[1], peers: loads[2] };
            let score = load_score(TierWeights::from_array(raw), loads);
            prop_assert!(sane(score.weights));
            let said = [score.loads.baseline, score.loads.cost, score.loads.peers];
            let least = said.iter().flatten().copied().fold(f64::INFINITY, f64::min);
            let most = said.iter().flatten().copied().fold(0.0, f64::max);
            match score.total {
                None => prop_assert!(said.iter().all(Option::is_none)),
                Some(total) => {
                    prop_assert!(total.is_finite());
                    prop_assert!(total >= least * (1.0 - 1e-9) && total <= most * (1.0 + 1e-9));
                }
            }
        }
    }
}
