//! The score of a request on an instance, and the scan for its smallest value.
//!
//! For a request of predicted work `x` on an instance with `n` requests (the newcomer counted) on `k` slots:
//!
//! ```text
//! score = (L(x) + t1 · b · x) · exp(γ · rho) / warm · (1 + t3 · (peers − 1)) · (1 + t3 · excess) + penalty
//! L(x)  = x                                              n ≤ k
//!       = x + ext · I(x) · (n − k) / ((n − 1) · k)       n > k
//! ```
//!
//! `I(x) = Σ min(r_i, x)` over what is in flight; `ext = 2`: the wait of the newcomer and the wait it brings to the
//! others. `b` is tier 1's background load, `peers` and `excess` are tier 3's. `t1` and `t3` are the tiers' weights as a
//! share of their starting weights, at most 1: a tier that predicts well counts fully, one whose weight has fallen to
//! zero is gone, and with both gone the plain in-flight rule is left. Measured speed enters with γ = 0.5: full weight
//! packs the fast instances to the last slot.
//!
//! Up to 128 instances are all scored, because two or three random choices waste half the mean. Above, a scan takes
//! the best few of the last one, a window that moves on with every request, and some at random.
//!
//! Known weakness: the form is that of processor sharing; a strict worker pool makes light requests wait longer
//! behind heavy ones than it says.

use crate::decide::CANDIDATES;
use crate::live::Newcomer;
use crate::select::eligible::{Eligible, below};

use crate::select::shortlist::Shortlist;
use crate::table::{InstanceEntry, RoutingTable};
use foretide_predictor::blend::TierWeights;
use foretide_predictor::hash::mix;
use foretide_predictor::peers::PeerTable;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Own delay, and as much again for what a request does to the others.
const EXTERNALITY: f64 = 2.0;
/// Up to here every instance is scored: about a microsecond.
const FULL_SCAN: usize = 128;
/// Of a larger pool: in the moving window ...
const WINDOW: usize = 100;
/// ... and at random, next to the best of the last scan.
const RANDOM: usize = FULL_SCAN - WINDOW - CANDIDATES;
/// Shares of capacity above this are measuring errors.
const MOST_SHARE: f32 = 4.0;

/// What large pools remember from one scan to the next. Races lose a memory, nothing else.
#[derive(Debug, Default)]
pub struct Scan {
    cursor: AtomicUsize,
    best: [AtomicUsize; CANDIDATES],
}

/// What a request brings to the score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scorer<'a> {
    work_us: f64,
    newcomer: Newcomer,
    consumer_key: u64,
    peers: &'a PeerTable,
    background_weight: f64,
    peer_weight: f64,
}

impl<'a> Scorer<'a> {
    /// For a request of predicted work `work_us` from this consumer.
    pub(crate) fn new(table: &'a RoutingTable, work_us: f64, consumer_key: u64) -> Self {
        let start = TierWeights::START;
        Self {
            work_us,
            newcomer: Newcomer::of(work_us),
            consumer_key,
            peers: &table.peers,
            background_weight: relative(table.weights.baseline, start.baseline),
            peer_weight: relative(table.weights.peers, start.peers),
        }
    }

    /// The score on `entry`, microseconds, and the requests in flight there.
    fn score(&self, entry: &InstanceEntry, warmth: f64) -> (f64, u32) {
        let in_flight = entry.live.in_flight().requests;
        let mut cost_us = self.work_us;
        if in_flight >= entry.concurrency {
            cost_us += EXTERNALITY * waiting_us(entry, in_flight, self.newcomer);
        }
        cost_us += self.background_weight * share(entry.background) * self.work_us;
        let mut factor = f64::from(entry.live.slowness()) / warmth;
        if self.peer_weight > 0.0 {
            let peers = f64::from(self.peers.factor(self.consumer_key, entry.id));
            factor *= 1.0 + self.peer_weight * (peers - 1.0);
            factor *= 1.0 + self.peer_weight * share(entry.excess);
        }
        (cost_us * factor + f64::from(entry.penalty_us), in_flight)
    }
}

/// `I(x) · (n − k) / ((n − 1) · k)` for `in_flight = n − 1 ≥ k`.
fn waiting_us(entry: &InstanceEntry, in_flight: u32, newcomer: Newcomer) -> f64 {
    let slots = f64::from(entry.concurrency.max(1));
    let others = f64::from(in_flight.max(1));
    entry.live.interference_us(newcomer) * (others + 1.0 - slots) / (others * slots)
}

/// Weight as a share of where it started, 0 to 1; NaN is 0.
fn relative(weight: f64, start: f64) -> f64 {
    let ratio = weight / start;
    if ratio > 0.0 { ratio.min(1.0) } else { 0.0 }
}

/// A share of capacity in range; NaN is 0.
fn share(value: f32) -> f64 {
    if value > 0.0 { f64::from(value.min(MOST_SHARE)) } else { 0.0 }
}

/// Ranks the instances; empty when no score was a finite number.
pub(crate) fn scan(scan: &Scan, scorer: &Scorer<'_>, eligible: &Eligible<'_>, chance: u64) -> Shortlist {
    let mut list = Shortlist::new(chance);
    let count = eligible.all().len();
    if count <= FULL_SCAN {
        consider(&mut list, scorer, eligible, 0..count);
        return list;
    }
    let best = scan.best.iter().map(|best| best.load(Relaxed)).filter(|&index| index < count);
    let start = scan.cursor.fetch_add(WINDOW, Relaxed);
    let window = (0..WINDOW).map(|step| start.wrapping_add(step) % count);
    let draws = std::iter::successors(Some(mix(chance)), |&draw| Some(mix(draw)));
    let random = draws.take(RANDOM).map(|draw| below(draw, count));
    consider(&mut list, scorer, eligible, best.chain(window).chain(random));
    list.indices().zip(&scan.best).for_each(|(index, best)| best.store(index, Relaxed));
    list
}

/// Scores these instances, as far as the try may use them.
fn consider(
    list: &mut Shortlist,
    scorer: &Scorer<'_>,
    eligible: &Eligible<'_>,
    indices: impl Iterator<Item = usize>,
) {
    indices.filter(|&index| eligible.allows(index)).for_each(|index| {
        let entry = &eligible.all()[index];
        let (score, in_flight) = scorer.score(entry, eligible.warmth(entry));
        list.offer(index, score, in_flight);
    });
}
