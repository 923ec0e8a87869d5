//! What the cost model is told about one request, in fixed width so that asking costs no allocation.

use serde::{Deserialize, Serialize};

use crate::estimate::Estimate;
use crate::hash;
use crate::id::RouteId;

/// Numeric parameters a route may name.
pub const NUMBERS: usize = 12;
/// Categorical parameters a route may name.
pub const CATEGORIES: usize = 8;
/// A numeric parameter that the request does not carry.
pub const ABSENT: f32 = -1.0;

/// The facts about a request that drive its cost, known before it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostQuery {
    /// Index of the route, for per-route corrections.
    pub route: RouteId,
    /// Stable hash of the route's name.
    pub route_key: u64,
    /// Stable hash of who asks.
    pub consumer_key: u64,
    /// Numeric parameters in the order the route names them; [`ABSENT`] where missing.
    pub numbers: [f32; NUMBERS],
    /// Hashes of categorical parameters in the order the route names them; 0 where missing.
    pub categories: [u64; CATEGORIES],
    /// Requests in flight when it arrived; [`ABSENT`] where unknown. Matters where waiting cannot be taken off the label.
    pub in_flight: f32,
}

/// What the keys of a request's parameters are made of: a sum for each, not yet spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParameterSums {
    /// Requests alike in cost: numbers by powers of two.
    pub alike: u64,
    /// Requests close in cost: numbers by eighths of these.
    pub close: u64,
    /// The very same request.
    pub exact: u64,
}

impl CostQuery {
    /// A query that knows only route and consumer.
    pub fn new(route: RouteId, route_key: u64, consumer_key: u64) -> Self {
        Self {
            route,
            route_key,
            consumer_key,
            numbers: [ABSENT; NUMBERS],
            categories: [0; CATEGORIES],
            in_flight: ABSENT,
        }
    }

    /// Key of requests alike in cost: the route, each categorical parameter, and the log2 bucket of each number.
    pub fn parameter_key(&self) -> u64 {
        hash::mix(self.parameter_sums().alike)
    }

    /// The same with each log2 bucket in eight parts.
    pub fn fine_parameter_key(&self) -> u64 {
        hash::mix(self.parameter_sums().close)
    }

    /// Key of the very same request: route and all parameters, whoever asks.
    pub fn equal_parameter_key(&self) -> u64 {
        hash::mix(self.parameter_sums().exact)
    }

    /// Sums of the parameters, each times an odd constant of its own (multilinear hashing: Lemire and Kaser 2014), to be spread
    /// once at the end: what is absent adds nothing, and one multiplication a parameter and key is all it takes.
    #[inline(always)]
    pub(crate) fn parameter_sums(&self) -> ParameterSums {
        let mut alike = self.route_key;
        for (slot, &category) in self.categories.iter().enumerate() {
            alike = alike.wrapping_add(category.wrapping_mul(FACTORS[slot]));
        }
        let (mut close, mut exact) = (alike, alike);
        for (slot, &number) in self.numbers.iter().enumerate() {
            if number >= 0.0 {
                let factor = FACTORS[CATEGORIES + slot];
                let add = |sum: u64, bits: u32| sum.wrapping_add((u64::from(bits) + 1).wrapping_mul(factor));
                // The exponent of 1 + x is the whole part of its log2, the next three bits are the eighth.
                let bits = (number + 1.0).to_bits();
                alike = add(alike, bits >> 23);
                close = add(close, bits >> (23 - 3));
                exact = add(exact, number.to_bits());
            }
        }
        ParameterSums { alike, close, exact }
    }
}

/// An odd constant for each parameter: splitmix64's numbers, which have no pattern.
const FACTORS: [u64; CATEGORIES + NUMBERS] = {
    let mut factors = [0; CATEGORIES + NUMBERS];
    let mut slot = 0;
    while slot < factors.len() {
        factors[slot] = hash::mix(slot as u64) | 1;
        slot += 1;
    }
    factors
};

/// How heavy a request is among those seen lately: below the median, up to the 80th, up to the 95th percentile, above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostClass {
    /// Up to the median.
    Light,
    /// Up to the 80th percentile.
    Medium,
    /// Up to the 95th percentile.
    Heavy,
    /// Above the 95th percentile.
    Huge,
}

impl CostClass {
    /// Class of a cost between these upper ends of light, medium and heavy; not a number counts as light.
    pub fn between(borders: [f64; 3], cost: f64) -> Self {
        if cost > borders[2] {
            Self::Huge
        } else if cost > borders[1] {
            Self::Heavy
        } else if cost > borders[0] {
            Self::Medium
        } else {
            Self::Light
        }
    }
}

/// Which knowledge an estimate rests on, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostBasis {
    /// The boosted trees.
    Model,
    /// The running mean of like requests (route and parameters, or route and consumer).
    KeyMean,
    /// The running mean of the route.
    RouteMean,
    /// The running mean of everything.
    GlobalMean,
    /// Nothing was ever seen: a guess of [`PRIOR_WORK_US`].
    Prior,
}

/// What a request is assumed to cost before anything was ever observed, microseconds: a typical small API call.
/// Only its order of magnitude matters, as every request gets the same until the first response arrives.
pub const PRIOR_WORK_US: f64 = 10_000.0;

/// The answer: predicted work on an average instance with nothing else to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostEstimate {
    /// Work, microseconds of service on an instance of speed 1.
    pub work_us: Estimate,
    /// How that ranks among recent requests.
    pub class: CostClass,
    /// What the answer rests on.
    pub basis: CostBasis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_requests_share_a_parameter_key_and_unlike_ones_do_not() {
        let mut small = CostQuery::new(RouteId(0), 7, 9);
        small.numbers[0] = 100.0;
        let mut near = small;
        near.numbers[0] = 110.0;
        let mut large = small;
        large.numbers[0] = 10_000.0;
        let mut other_slot = CostQuery::new(RouteId(0), 7, 9);
        other_slot.numbers[1] = 100.0;
        assert_eq!(small.parameter_key(), near.parameter_key());
        assert_ne!(small.parameter_key(), large.parameter_key());
        assert_ne!(small.parameter_key(), other_slot.parameter_key());
    }
}
