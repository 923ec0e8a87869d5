//! The score of a request on an instance, and the scan for its smallest value.
//!
//! For a request of predicted work `x`:
//!
//! ```text
//! score = (L(x) + t1 · b · x) · exp(γ · rho) / warm · (1 + t3 · (peers − 1)) · (1 + t3 · excess) + penalty
//! ```
//!
//! `L(x)` is the request's own time and what it does to others, in the form that fits how the pool's instances serve, see
//! [`foretide_steering::score`]. `b` is tier 1's
//! background load, `peers` and `excess` are tier 3's. `t1` and `t3` are the tiers' weights as a
//! share of their starting weights, at most 1: a tier that predicts well counts fully, one whose weight has fallen to
//! zero is gone, and with both gone the plain in-flight rule is left. Measured speed enters tempered, see
//! [`foretide_steering::speed`].
//!
//! Up to 128 instances are all scored, because two or three random choices waste half the mean. Above, a scan takes
//! a sample of 64 ([`crate::select::sample`]).
//!
//! What a generation of the table does not change is worked out when the generation is made and lies in a compact
//! row per instance. What is left for a request is one word of live load, and at most eight of the sixteen buckets, only
//! where somebody waits; peers' factors are looked up only where the consumer's notes mention the instance.
//!
//! Requests that other proxies have in flight on an instance count like one's own, as far as the pool shares its sight (see
//! [`crate::live::others`]); without it they are not seen here.

use crate::live::others::{PoolSight, Seen};
use crate::live::{InFlight, LiveLoad};
use crate::select::eligible::Eligible;
use crate::select::sample::Sample;
use crate::select::shortlist::{Halves, MOST_RANKED, Rank, Score, Shortlist};
use crate::settings::PoolSettings;
use crate::table::InstanceEntry;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::id::InstanceId;
use foretide_predictor::peers::{Notes, PeerTable};
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::Newcomer;
use foretide_steering::score::{Form, Terms};
use std::ops::Range;
use std::sync::Arc;

/// Up to here every instance is scored.
const FULL_SCAN: usize = 128;
/// Instances that are ranked before the best are taken.
const BLOCK: usize = 32;
/// Shares of capacity above this are measuring errors.
const MOST_SHARE: f32 = 4.0;

/// A generation's part of the scores, and what large pools remember from one scan to the next.
#[derive(Debug)]
pub struct Scan {
    rows: Vec<Row>,
    /// From then on no instance is being ramped up.
    ramped_at: Timestamp,
    peer_weight: f32,
    sample: Sample,
}

/// An instance as the scan sees it: 40 bytes, in the order of the pool's instances.
#[derive(Debug)]
struct Row {
    live: Arc<LiveLoad>,
    /// With fewer requests in flight nobody waits.
    crowded_from: u32,
    id: InstanceId,
    terms: Terms,
    penalty_us: f32,
}

impl Scan {
    /// Prepares a generation's instances.
    pub(crate) fn new(
        settings: &PoolSettings,
        form: Form,
        instances: &[InstanceEntry],
        weights: TierWeights,
    ) -> Self {
        let background_weight = relative(weights.baseline, TierWeights::START.baseline);
        let peer_weight = relative(weights.peers, TierWeights::START.peers);
        let row = |entry: &InstanceEntry| {
            let excess = 1.0 + peer_weight * share(entry.excess);
            let own = (1.0 + background_weight * share(entry.background)) * excess;
            let terms = Terms::new(form, entry.concurrency, own, excess);
            Row {
                live: Arc::clone(&entry.live),
                crowded_from: terms.crowded_from(),
                id: entry.id,
                terms,
                // Ranks are made of scores that are not negative.
                penalty_us: if entry.penalty_us < 0.0 { 0.0 } else { entry.penalty_us },
            }
        };
        let newest = instances.iter().map(|entry| entry.warm_since).max().unwrap_or(Timestamp::ZERO);
        Self {
            rows: instances.iter().take(MOST_RANKED).map(row).collect(),
            ramped_at: newest.plus(settings.slow_start),
            peer_weight,
            sample: Sample::default(),
        }
    }

    /// Ranks the instances for a request; empty when no score was a finite number.
    /// `sight`: what is known of others' requests, if the pool shares that.
    pub(crate) fn rank(
        &self,
        plain: &Plain<'_>,
        sight: Option<&PoolSight>,
        eligible: &Eligible<'_>,
        chance: u64,
    ) -> Shortlist {
        match sight.and_then(|sight| sight.seen(plain.newcomer, eligible.now())) {
            None => self.rank_by(plain, eligible, chance),
            Some(others) => self.rank_seeing(&Seeing { plain: *plain, others }, eligible, chance),
        }
    }

    /// Kept out of the other loop, which is nearly everybody's.
    #[inline(never)]
    fn rank_seeing(&self, scores: &Seeing<'_>, eligible: &Eligible<'_>, chance: u64) -> Shortlist {
        self.rank_by(scores, eligible, chance)
    }

    /// Made once for each way of scoring, so that neither pays for the other.
    #[inline(always)]
    fn rank_by(&self, scores: &impl Scores, eligible: &Eligible<'_>, chance: u64) -> Shortlist {
        if eligible.is_everybody() && eligible.now() >= self.ramped_at {
            // So it is nearly always, and then the loop is short.
            self.best(&Everybody { scores, chance }, chance)
        } else {
            self.best(&Allowed { scores, eligible, chance }, chance)
        }
    }

    /// The best of all, or of a sample if there are too many.
    #[inline(always)]
    fn best(&self, ranks: &impl Ranks, chance: u64) -> Shortlist {
        let count = self.rows.len();
        let mut halves = Halves::new();
        if count <= FULL_SCAN {
            self.consider(0..count, ranks, &mut halves);
            return halves.merge(chance);
        }
        let picked = self.sample.pick(count, chance);
        picked.window.clone().into_iter().for_each(|part| self.consider(part, ranks, &mut halves));
        let mut block = [Rank::NOBODY; BLOCK];
        for (index, place) in picked.single().iter().map(|&index| usize::from(index)).zip(&mut block) {
            *place = ranks.rank(&self.rows[index], index);
        }
        halves.offer(&block[..picked.single().len().next_multiple_of(2)]);
        let list = halves.merge(chance);
        self.sample.remember(&list);
        list
    }

    /// Ranks neighbours.
    #[inline(never)]
    fn consider(&self, part: Range<usize>, ranks: &impl Ranks, halves: &mut Halves) {
        let begins = (part.start..).step_by(BLOCK);
        for (rows, begin) in self.rows[part].chunks(BLOCK).zip(begins) {
            let mut block = [Rank::NOBODY; BLOCK];
            for (step, (row, place)) in rows.iter().zip(&mut block).enumerate() {
                *place = ranks.rank(row, begin + step);
            }
            halves.offer(&block[..rows.len().next_multiple_of(2)]);
        }
    }
}

/// Rank of an instance for a request.
trait Ranks {
    fn rank(&self, row: &Row, index: usize) -> Rank;
}

/// Where the try may use everybody.
struct Everybody<'a, S> {
    scores: &'a S,
    chance: u64,
}

struct Allowed<'a, S> {
    scores: &'a S,
    eligible: &'a Eligible<'a>,
    chance: u64,
}

impl<S: Scores> Ranks for Everybody<'_, S> {
    #[inline(always)]
    fn rank(&self, row: &Row, index: usize) -> Rank {
        Rank::new(self.chance, index, self.scores.score(row, 1.0))
    }
}

impl<S: Scores> Ranks for Allowed<'_, S> {
    #[inline(always)]
    fn rank(&self, row: &Row, index: usize) -> Rank {
        if !self.eligible.allows(index) {
            return Rank::NOBODY;
        }
        let spared = self.eligible.warmth(&self.eligible.all()[index]).recip() as f32;
        Rank::new(self.chance, index, self.scores.score(row, spared))
    }
}

/// A way to score an instance.
trait Scores {
    /// Microseconds. `spared`: 1 over its share of the usual load.
    fn score(&self, row: &Row, spared: f32) -> Score;
}

/// With what others have in flight.
#[derive(Clone, Copy, Debug)]
struct Seeing<'a> {
    plain: Plain<'a>,
    others: Seen,
}

/// What a request brings to the score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    work_us: f32,
    newcomer: Newcomer,
    consumer_key: u64,
    peers: &'a PeerTable,
    notes: Notes,
    peer_weight: f32,
}

impl<'a> Plain<'a> {
    /// For a request of predicted work `work_us`, which as a newcomer is this, from this consumer.
    #[inline(always)]
    pub(crate) fn new(
        scan: &Scan,
        peers: &'a PeerTable,
        (work_us, newcomer): (f32, Newcomer),
        consumer_key: u64,
    ) -> Self {
        let (notes, peer_weight) = (peers.notes(consumer_key), scan.peer_weight);
        Self { work_us, newcomer, consumer_key, peers, notes, peer_weight }
    }
}

impl Scores for Plain<'_> {
    #[inline(always)]
    fn score(&self, row: &Row, spared: f32) -> Score {
        let in_flight = row.live.in_flight();
        let InFlight { requests, work_us } = in_flight;
        let terms = &row.terms;
        let cost_us = if requests < row.crowded_from {
            terms.alone_us(self.work_us)
        } else if terms.form() == Form::ProcessorSharing {
            terms.sharing_us(self.work_us, requests as f32, row.live.yielding_us(self.newcomer, in_flight))
        } else {
            terms.pool_us(self.work_us, requests as f32, work_us as f32)
        };
        Score { cost: cost_us * self.factor(row, spared) + row.penalty_us, in_flight: requests }
    }
}

impl Scores for Seeing<'_> {
    #[inline(always)]
    fn score(&self, row: &Row, spared: f32) -> Score {
        let plain = &self.plain;
        let in_flight = row.live.in_flight();
        let InFlight { requests, work_us } = in_flight;
        let others = self.others.ahead(&row.live);
        let all = requests as f32 + others.requests;
        let interference_us = || row.live.yielding_us(plain.newcomer, in_flight) + others.interference_us;
        let cost_us =
            row.terms.cost_us(plain.work_us, all, || work_us as f32 + others.work_us, interference_us);
        Score { cost: cost_us * plain.factor(row, spared) + row.penalty_us, in_flight: all.round() as u32 }
    }
}

impl Plain<'_> {
    #[inline(always)]
    fn factor(&self, row: &Row, spared: f32) -> f32 {
        let mut factor = row.live.slowness() * spared;
        if self.notes.mention(row.id) {
            factor *= self.peer_factor(row.id);
        }
        factor
    }

    /// Kept out of the scan's loop: few consumers have factors.
    #[inline(never)]
    fn peer_factor(&self, instance: InstanceId) -> f32 {
        1.0 + self.peer_weight * (self.peers.factor(self.consumer_key, instance) - 1.0)
    }
}

/// Weight as a share of where it started, 0 to 1; NaN is 0.
fn relative(weight: f64, start: f64) -> f32 {
    let ratio = weight / start;
    if ratio > 0.0 { ratio.min(1.0) as f32 } else { 0.0 }
}

/// A share of capacity in range; NaN is 0.
fn share(value: f32) -> f32 {
    if value > 0.0 { value.min(MOST_SHARE) } else { 0.0 }
}
