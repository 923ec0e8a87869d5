//! One request's answers held against what it really cost.

use serde::{Deserialize, Serialize};
use wide::f32x4;

use crate::cost::approx;
use crate::cost::classes::likeliest_class;
use crate::cost::lanes::{at_least, at_most};

/// Squared errors above this count as this: one absurd request must not decide who answers for a day.
const MOST_SQUARE: f32 = 16.0;
/// One request's cost counts as this many times the predicted one at most, in the smear. The predicted one as it was told: where
/// one in ten costs a hundred times the others and nothing says which, the smear itself brings it up to the mean.
/// A predicted cost counts as this many times the larger of the true one and the route's mean: a key that a liar was the
/// first to ask for must not scale down all the others.
const MOST_RATIO: f32 = 20.0;
/// What a cost is beyond that counts in the *tail*, up to this many times the told one: where three requests in a hundred run
/// into a time-out of half a minute, they are most of the total. The tail is what that adds to the rest. Consumers that cost more
/// than is usual on the route make none: one that lies now and then would make it for all.
const MOST_BEYOND: f32 = 200.0;

/// Which answers compete.
pub(crate) const MODEL: usize = 0;
pub(crate) const KEY: usize = 1;
pub(crate) const ROUTE: usize = 2;
/// Histograms whose classes compete with those of the model's heads: of parameters, source, route and the very same request among those alike.
pub(crate) const HISTOGRAMS: usize = 4;

/// What every competitor said about one request; kept until the truth is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// ln cost by model (NaN without one), key mean, route mean.
    pub(crate) logs: [f32; 3],
    /// ln of the expected cost by the same, before smearing.
    pub(crate) mean_logs: [f32; 3],
    /// How far the mean cost of its consumer lies beyond what is usual on the route, ln cost; 0 or more.
    pub(crate) excess: f32,
    /// Shares above the class borders by the model's heads.
    pub(crate) heads: [f32; 3],
    /// The same by the histograms, one a lane, border by border.
    pub(crate) histograms: [f32x4; 3],
    /// Whether the route had been seen before; answers about an unknown one are not held against anybody.
    pub(crate) known: bool,
    /// Which of the three served.
    pub(crate) served: u8,
    /// ln cost that was served.
    pub(crate) log_served: f32,
    /// What of that is the correction by the route's lean, ln cost.
    pub(crate) corrected: f32,
    /// Factor from the expected cost by who served to what was told.
    pub(crate) smear: f32,
    /// Half-width of the interval that was served, in ln cost.
    pub(crate) half_width: f32,
}

/// What a request cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    /// ln of it.
    pub log: f32,
    /// 0, then 1 for each class border it is above, else 0.
    pub above: f32x4,
    /// How far its consumer's own mean lies beyond what is usual on the route, ln cost: weighs that much less in totals.
    pub excess: f32,
}

/// One request's answers held against the truth: what is the same for the track of its route and that of all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// ln of the cost, over the route's mean.
    pub over_mean: f32,
    /// ln cost by the model, over the route's mean; `None` without one.
    pub by_model: Option<f32>,
    /// Squared errors of the key's mean and the route's (the model's depends on the trust in it).
    pub squares: [f32; 2],
    /// 1 where the model's heads were right, and for each histogram that was.
    pub head_hit: f32,
    pub hits: f32x4,
    /// What the class heads' shares lacked.
    pub missing: f32x4,
    /// Cost, without what is beyond, and predicted costs, in units of the route's mean.
    pub costs: f32x4,
    /// What of the cost is beyond, in the same units.
    pub beyond: f32,
    /// ln cost over what was served.
    pub residual: f32,
    /// ln cost over what would have been served without correction; `None` where its consumer costs more than is usual.
    pub missed: Option<f32>,
}

impl Verdict {
    #[inline(always)]
    pub(crate) fn of(answers: &Answers, truth: Truth) -> Self {
        let mean = answers.logs[ROUTE];
        let told = answers.logs[MODEL];
        let [_, light, medium, heavy] = truth.above.to_array();
        let class = class_above(light + medium + heavy);
        let unit = answers.mean_logs[ROUTE] + at_least(truth.excess, 0.0);
        // A model that was not there is counted as the key's mean, so that its ratio starts in the right place.
        let by_model = if told.is_finite() { MODEL } else { KEY };
        let [model, key, route] = [by_model, KEY, ROUTE].map(|who| answers.mean_logs[who]);
        let relative = |log: f32| (log - unit).clamp(-8.0, 8.0);
        let mut costs = approx::exp_each([truth.log, model, key, route].map(relative));
        let most = MOST_RATIO * at_least(costs[0], 1.0);
        let told_cost = answers.smear * costs[1 + usize::from(answers.served).min(ROUTE)];
        let believed = at_most(costs[0], MOST_BEYOND * told_cost);
        costs[0] = at_most(costs[0], MOST_RATIO * told_cost);
        costs[1..].iter_mut().for_each(|told| *told = at_most(*told, most));
        let heads = answers.heads;
        Self {
            over_mean: truth.log - mean,
            by_model: told.is_finite().then_some(told - mean),
            squares: [answers.logs[KEY], answers.logs[ROUTE]].map(|log| square(truth.log - log)),
            head_hit: f32::from(u8::from(likeliest_class(heads) as usize == class)),
            hits: right_classes(&answers.histograms, class),
            missing: f32x4::new([light - heads[0], medium - heads[1], heavy - heads[2], 0.0]),
            beyond: if truth.excess > 0.0 { 0.0 } else { believed - costs[0] },
            costs: f32x4::new(costs),
            residual: truth.log - answers.log_served,
            missed: (truth.excess <= 0.0).then_some(truth.log - answers.log_served + answers.corrected),
        }
    }
}

/// The number of borders a cost is above, 0 to 3, as an integer: its lowest bits behind 2^23.
#[inline(always)]
fn class_above(borders: f32) -> usize {
    ((borders + 8_388_608.0).to_bits() & 3) as usize
}

/// 1 in each lane whose likeliest class ([`likeliest_class`]) is this one, from 0 to 3; shares above the borders come one
/// classifier a lane.
#[inline(always)]
fn right_classes(above: &[f32x4; 3], class: usize) -> f32x4 {
    let [zero, one] = [f32x4::ZERO, f32x4::ONE];
    let first = above[0].fast_max(zero).fast_min(one);
    let second = above[1].fast_max(zero).fast_min(first);
    let third = above[2].fast_max(zero).fast_min(second);
    let shares = [one - first, first - second, second - third, third];
    // Of equal ones the first counts.
    let up_to_light = shares[0];
    let up_to_medium = up_to_light.fast_max(shares[1]);
    let up_to_heavy = up_to_medium.fast_max(shares[2]);
    let before = [f32x4::splat(-1.0), up_to_light, up_to_medium, up_to_heavy];
    let most = up_to_heavy.fast_max(shares[3]);
    let class = class % 4;
    shares[class].simd_gt(before[class]) & shares[class].simd_eq(most) & one
}

pub(crate) fn square(error: f32) -> f32 {
    at_most(error * error, MOST_SQUARE)
}
