//! How much each instance of a pool should get, for balancers and clients that choose by themselves.
//!
//! ```text
//! weight_j = written_j · slots_j · exp(-rho_j) · warm_j · clamp(1 + mean load - load_j, 1/4, 2) / (1 + penalty_j / 25 ms)
//! ```
//!
//! Capacity first: the weight that the operator has written, slots, measured speed, and how far it is up its ramp. Then what is there already, by the load score (share
//! of capacity, all tiers): an instance that is a tenth of its capacity above the mean gets a tenth less. That is a
//! proportional controller of gain 1 whose answer takes seconds, so it is bounded on both sides: weights steer the average,
//! and a balancer that reads them every second must not swing. Errors last: one that always fails keeps a fifth.
//!
//! Known weakness: weights know nothing of a single request. Whoever can should take a lease, which does.

use crate::select::eligible::warmth;
use crate::table::{InstanceEntry, PoolTable};
use foretide_predictor::time::Timestamp;
use std::ops::RangeInclusive;

/// Bounds of what load makes of a weight.
const HEADROOM: RangeInclusive<f64> = 0.25..=2.0;
/// An instance with this penalty gets half.
const HALVING_PENALTY_US: f64 = 25_000.0;

/// Share of the pool's requests that each instance should get, in the order of the pool's instances; they sum to 1.
pub fn shares(pool: &PoolTable, now: Timestamp) -> Vec<f64> {
    let known: Vec<f64> = pool.instances.iter().filter_map(load).collect();
    let mean = if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
    let raw: Vec<f64> = pool.instances.iter().map(|entry| raw(pool, entry, mean, now)).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / sum).collect()
}

/// Whole percent of the largest weight, 1 to 100: a share as HAProxy's agents say it.
pub fn percent(share: f64, largest: f64) -> u8 {
    (100.0 * share / largest).round().clamp(1.0, 100.0) as u8
}

fn load(entry: &InstanceEntry) -> Option<f64> {
    entry.load_score.map(f64::from).filter(|load| load.is_finite())
}

/// Never 0 and always finite: every factor is bounded.
fn raw(pool: &PoolTable, entry: &InstanceEntry, mean: f64, now: Timestamp) -> f64 {
    let slots = f64::from(entry.weight.max(1)) * f64::from(entry.concurrency.max(1));
    let capacity = slots * f64::from(-entry.live.speed_residual()).exp();
    let warm = warmth(entry.warm_since, pool.settings.slow_start, now);
    let above = load(entry).map_or(0.0, |load| load - mean);
    let headroom = (1.0 - above).clamp(*HEADROOM.start(), *HEADROOM.end());
    let penalty_us = f64::from(entry.penalty_us).clamp(0.0, 1e9);
    capacity * warm * headroom / (1.0 + penalty_us / HALVING_PENALTY_US)
}
