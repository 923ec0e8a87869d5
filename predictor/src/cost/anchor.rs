//! Where the trees start from: the running means of the request's keys, weighed as it was best on the rows they learn from.
//!
//! ```text
//! anchor = m + Σ w·(s - m) + w'·d      m: mean of the finest key, s: other means and moving averages, all ln cost;
//!                                      d: how far all routes lie from their means lately
//! ```
//!
//! All of them move with what is observed, and so does the anchor: where costs drift beyond anything in the sample, the
//! answer drifts with them, which trees alone cannot. How quickly it should follow, and how far the finest key is to be
//! believed, differs from service to service, so the weights are fitted: by least squares, drawn towards [`USUAL`]
//! ([`crate::ridge`]).

use serde::{Deserialize, Serialize};

use crate::cost::features::{Features, place};
use crate::cost::table::OWN_REACH;
use crate::ridge::{dot, solve};

/// What is weighed beside the mean of the finest key: places of features that are ln costs.
const SEEN: [usize; TERMS - 1] =
    [place::BOTH + 1, place::FINE, place::FINE + 1, place::SOURCE + 1, place::SAME, place::EXACT];
/// These and the mood, which is a difference of ln costs already.
const TERMS: usize = 7;
/// Half-way between the mean and the moving average of the finest key.
const USUAL: [f32; TERMS] = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
/// Pull towards [`USUAL`], in rows' worth of each term's own variance ...
const RIDGE_ROWS: f64 = 100.0;
/// ... and of a variance that no term falls below: (a hundredth in ln cost)^2.
const LEAST_VARIANCE: f64 = 1e-4;

/// Weights of the terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Anchor([f32; TERMS]);

impl Default for Anchor {
    fn default() -> Self {
        Self(USUAL)
    }
}

/// Weight of a row that lies so far out, ln cost: so that no liar owns the fit, nor who is just far more expensive than
/// everybody else (bounded influence: Huber 1964 for the residual, Mallows 1975 for the terms).
fn bounded(distance: f64) -> f64 {
    let reach = f64::from(OWN_REACH);
    if distance > reach { reach / distance } else { 1.0 }
}

/// Place of a term's feature.
const fn place_of(term: usize) -> usize {
    if term < SEEN.len() { SEEN[term] } else { place::MOOD }
}

/// Distances of the terms from the mean of the finest key.
#[inline(always)]
fn distances(features: &Features) -> [f32; TERMS] {
    let mean = features.0[place::BOTH];
    std::array::from_fn(|term| features.0[place_of(term)] - if term < SEEN.len() { mean } else { 0.0 })
}

impl Anchor {
    /// The weights that come nearest to these ln costs.
    pub(crate) fn fitted(features: &[&Features], log_costs: &[f32]) -> Self {
        let prior = USUAL.map(f64::from);
        let inputs: Vec<[f64; TERMS]> = features.iter().map(|row| distances(row).map(f64::from)).collect();
        let over_mean = |(row, &log): (&&Features, &f32)| f64::from(log - row.0[place::BOTH]);
        let targets: Vec<f64> = features.iter().zip(log_costs).map(over_mean).collect();
        let weight = |(input, target): (&[f64; TERMS], &f64)| {
            let leverage = input.iter().fold(0.0, |most: f64, distance| most.max(distance.abs()));
            bounded(leverage).powi(2) * bounded((target - dot(input, &prior)).abs())
        };
        let weights: Vec<f64> = inputs.iter().zip(&targets).map(weight).collect();
        let rows = weights.iter().sum::<f64>().max(1.0);
        let penalties: [f64; TERMS] = std::array::from_fn(|term| {
            let squares = inputs.iter().zip(&weights).map(|(input, weight)| weight * input[term].powi(2));
            RIDGE_ROWS * (squares.sum::<f64>() / rows + LEAST_VARIANCE)
        });
        let fitted = solve(inputs.as_flattened(), &targets, &weights, &prior, &penalties);
        fitted.map_or_else(Self::default, |fitted| Self(std::array::from_fn(|term| fitted[term] as f32)))
    }

    /// ln cost.
    #[inline(always)]
    pub(crate) fn log(&self, features: &Features) -> f32 {
        let parts = self.parts(features);
        features.0[place::BOTH] + parts.iter().sum::<f32>()
    }

    /// The features with this anchor among them: trees that ask about it need not put it together from its parts, which matters
    /// to those heads that do not start from it.
    #[inline(always)]
    pub(crate) fn among(&self, features: &Features) -> Features {
        let mut row = *features;
        row.0[place::ANCHOR] = self.log(features);
        row
    }

    /// What each term adds to the mean of the finest key.
    #[inline(always)]
    fn parts(&self, features: &Features) -> [f32; TERMS] {
        let distances = distances(features);
        std::array::from_fn(|term| self.0[term] * distances[term])
    }

    /// Places of the features that the anchor looks at, and what each adds to the mean of the route.
    pub(crate) fn contributions(&self, features: &Features) -> impl Iterator<Item = (usize, f32)> {
        let finest = features.0[place::BOTH] - features.route_mean_log();
        (0..TERMS).map(place_of).zip(self.parts(features)).chain([(place::BOTH, finest)])
    }

    /// Whether the answer is finite where the features are; a file may say anything.
    pub(crate) fn is_sound(&self) -> bool {
        self.0.iter().all(|weight| weight.abs() <= 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::features::FEATURES;
    use crate::hash;

    /// Features with noise in every place.
    fn noisy(seed: u64) -> Features {
        Features(std::array::from_fn(|place| {
            (hash::pair(seed, place as u64) >> 40) as f32 / (1 << 24) as f32
        }))
    }

    #[test]
    fn the_weights_are_found_and_few_rows_change_little() {
        let rows: Vec<Features> = (0..2_000).map(noisy).collect();
        let cost = |row: &Features| {
            0.2 * row.0[place::BOTH] + 0.8 * row.0[place::SOURCE + 1] + 0.5 * row.0[place::MOOD]
        };
        let log_costs: Vec<f32> = rows.iter().map(cost).collect();
        let rows: Vec<&Features> = rows.iter().collect();
        let fitted = Anchor::fitted(&rows, &log_costs);
        let missed = |anchor: &Anchor| {
            let squares = rows.iter().zip(&log_costs).map(|(row, log)| (log - anchor.log(row)).powi(2));
            (squares.sum::<f32>() / rows.len() as f32).sqrt()
        };
        assert!(missed(&fitted) < 0.03 && missed(&Anchor::default()) > 0.2, "{fitted:?}");
        let hasty = Anchor::fitted(&rows[..5], &log_costs[..5]);
        assert!(hasty.0.iter().zip(USUAL).all(|(weight, usual)| (weight - usual).abs() < 0.1), "{hasty:?}");
        assert_eq!(Anchor::fitted(&[], &[]), Anchor::default());
    }

    #[test]
    fn it_moves_with_what_is_observed_and_its_parts_sum_to_it() {
        let row = noisy(1);
        let anchor = Anchor::fitted(&[&row, &noisy(2), &noisy(3)], &[3.0, 1.0, 2.0]);
        let mut shifted = row;
        SEEN.iter().chain([&place::BOTH]).for_each(|&place| shifted.0[place] += 5.0);
        assert!((anchor.log(&shifted) - anchor.log(&row) - 5.0).abs() < 1e-4);
        let parts: f32 = anchor.contributions(&row).map(|(_, effect)| effect).sum();
        assert!((row.route_mean_log() + parts - anchor.log(&row)).abs() < 1e-5);
    }

    #[test]
    fn nonsense_leaves_the_usual_weights() {
        let row = Features([f32::MAX; FEATURES]);
        assert_eq!(Anchor::fitted(&[&row, &noisy(1)], &[1.0, f32::NAN]), Anchor::default());
        assert!(!Anchor([f32::NAN; TERMS]).is_sound() && Anchor::default().is_sound());
    }
}
