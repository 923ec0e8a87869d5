//! One load score per instance from three tiers (contract; body to come).
use serde::{Deserialize, Serialize};

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

    /// Moves a little towards weights proportional to START × skill; smooth, never flaps, always sums to 1.
    #[must_use]
    pub fn follow(self, _skills: TierSkills) -> Self {
        todo!()
    }
}

/// Blends. Never fails, never NaN.
pub fn load_score(_weights: TierWeights, _loads: TierLoads) -> LoadScore {
    todo!()
}
