//! Which calibration a route's predictions go through before they steer ([`foretide_steering::calibration`]).
//!
//! One per route in the order of the settings, at most [`MOST_ROUTES`], and a last one that all further routes share. A
//! generation of the table holds them as plain values: a lookup is an index and cannot fail.

use foretide_predictor::cost::estimator::{CostPrediction, Steering};
use foretide_predictor::cost::query::PRIOR_WORK_US;
use foretide_predictor::id::RouteId;
use foretide_steering::calibration::Calibration;

/// Routes with a gate of their own; half a kilobyte each, made anew with every generation.
pub const MOST_ROUTES: usize = 1_024;

/// Calibrations of all routes.
#[derive(Clone, Debug)]
pub struct Gates {
    of: Box<[Calibration]>,
    others: Calibration,
}

impl Gates {
    /// `of`: by route, in the order of the settings; routes beyond them, or beyond [`MOST_ROUTES`], share `others`.
    pub fn new(of: impl Iterator<Item = Calibration>, others: Calibration) -> Self {
        Self { of: of.take(MOST_ROUTES).collect(), others }
    }

    /// Says what a prediction on this route steers with, microseconds from 1 on: as much of it as it is worth.
    pub fn weigh(&self, route: RouteId, prediction: &mut CostPrediction) {
        let predicted_us = prediction.estimate.work_us.mean();
        // Negative or zero it can only be by a defect.
        let usable_us = if predicted_us > 0.0 { predicted_us } else { PRIOR_WORK_US };
        let calibration = self.of(route);
        let work_us = calibration.work_us(usable_us as f32);
        prediction.steering = Steering { work_us, weight: calibration.weight() };
    }

    /// That of a route.
    #[inline(always)]
    pub fn of(&self, route: RouteId) -> &Calibration {
        self.of.get(route.index()).unwrap_or(&self.others)
    }
}

impl Default for Gates {
    /// Nothing was learned: predictions steer as they are.
    fn default() -> Self {
        Self::new(std::iter::empty(), Calibration::identity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_steering::gate::SkillGate;

    #[test]
    fn routes_without_a_gate_of_their_own_share_one() {
        let mut others = SkillGate::default();
        others.observe(5.0, 70.0);
        let gates = Gates::new((0..MOST_ROUTES + 5).map(|_| Calibration::identity()), others.calibration());
        assert_eq!(
            [0, 1_023, 1_024, 65_535].map(|route| gates.of(RouteId(route)).work_us(5.0)),
            [5.0, 5.0, 70.0, 70.0]
        );
    }
}
