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
//! the best few of the last one, a window that moves on with every request, and some at random.
//!
//! What a generation of the table does not change is worked out when the generation is made and lies in a compact
//! row per instance. What is left for a request is one word of live load, and the sixteen buckets only where
//! somebody waits; peers' factors are looked up only where the consumer's notes mention the instance.
//!
//! Requests that other proxies have in flight on an instance count like one's own, as far as the pool shares its sight (see
//! [`crate::live::others`]); without it they are not seen here.

use crate::decide::CANDIDATES;
use crate::live::others::{PoolSight, Seen};
use crate::live::{InFlight, LiveLoad};
use crate::select::eligible::{Eligible, below};
use crate::select::shortlist::{MOST_RANKED, Score, Shortlist};
use crate::settings::PoolSettings;
use crate::table::InstanceEntry;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_predictor::peers::{Notes, PeerTable};
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::Newcomer;
use foretide_steering::score::{Form, Terms};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Up to here every instance is scored: about a microsecond.
const FULL_SCAN: usize = 128;
/// Of a larger pool: in the moving window ...
const WINDOW: usize = 100;
/// ... and at random, next to the best of the last scan.
const RANDOM: usize = FULL_SCAN - WINDOW - CANDIDATES;
/// Shares of capacity above this are measuring errors.
const MOST_SHARE: f32 = 4.0;

/// A generation's part of the scores, and what large pools remember from one scan to the next. Races lose a memory,
/// nothing else.
#[derive(Debug)]
pub struct Scan {
    rows: Vec<Row>,
    /// From then on no instance is being ramped up.
    ramped_at: Timestamp,
    peer_weight: f32,
    cursor: AtomicUsize,
    best: [AtomicUsize; CANDIDATES],
}

/// An instance as the scan sees it: 32 bytes at most, in the order of the pool's instances.
#[derive(Debug)]
struct Row {
    live: Arc<LiveLoad>,
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
            Row {
                live: Arc::clone(&entry.live),
                id: entry.id,
                terms: Terms::new(form, entry.concurrency, own, excess),
                penalty_us: entry.penalty_us,
            }
        };
        let newest = instances.iter().map(|entry| entry.warm_since).max().unwrap_or(Timestamp::ZERO);
        Self {
            rows: instances.iter().take(MOST_RANKED).map(row).collect(),
            ramped_at: newest.plus(settings.slow_start),
            peer_weight,
            cursor: AtomicUsize::new(0),
            best: Default::default(),
        }
    }

    /// Ranks the instances for a request; empty when no score was a finite number.
    pub(crate) fn rank(&self, scorer: &Scorer<'_>, eligible: &Eligible<'_>, chance: u64) -> Shortlist {
        let mut list = Shortlist::new(chance);
        let count = self.rows.len();
        if count <= FULL_SCAN {
            self.consider(0..count, scorer, eligible, &mut list);
            return list;
        }
        let start = self.cursor.fetch_add(WINDOW, Relaxed) % count;
        let end = (start + WINDOW).min(count);
        self.consider(start..end, scorer, eligible, &mut list);
        self.consider(0..start + WINDOW - end, scorer, eligible, &mut list);
        let remembered = self.best.iter().map(|best| best.load(Relaxed)).filter(|&index| index < count);
        let draws = std::iter::successors(Some(mix(chance)), |&draw| Some(mix(draw)));
        for index in remembered.chain(draws.take(RANDOM).map(|draw| below(draw, count))) {
            if !list.holds(index) {
                self.consider(index..index + 1, scorer, eligible, &mut list);
            }
        }
        for (index, best) in list.indices().zip(&self.best) {
            // All threads read this line: it is written only when it changes.
            if best.load(Relaxed) != index {
                best.store(index, Relaxed);
            }
        }
        list
    }

    /// Scores some instances, as far as the try may use them.
    fn consider(
        &self,
        range: std::ops::Range<usize>,
        scorer: &Scorer<'_>,
        eligible: &Eligible<'_>,
        list: &mut Shortlist,
    ) {
        match scorer.seen {
            None => self.score_all(range, eligible, list, &scorer.plain),
            Some(others) => {
                self.consider_seeing(range, eligible, list, &Seeing { plain: scorer.plain, others })
            }
        }
    }

    /// Kept out of the other loop, which is nearly everybody's.
    #[inline(never)]
    fn consider_seeing(
        &self,
        range: std::ops::Range<usize>,
        eligible: &Eligible<'_>,
        list: &mut Shortlist,
        scores: &Seeing<'_>,
    ) {
        self.score_all(range, eligible, list, scores);
    }

    /// Made once for each way of scoring, so that neither pays for the other.
    #[inline(always)]
    fn score_all(
        &self,
        range: std::ops::Range<usize>,
        eligible: &Eligible<'_>,
        list: &mut Shortlist,
        scores: &impl Scores,
    ) {
        // A local list stays in registers.
        let mut best = *list;
        let rows = self.rows[range.clone()].iter().zip(range);
        if eligible.is_everybody() && eligible.now() >= self.ramped_at {
            // So it is nearly always, and then the loop is short.
            for (row, index) in rows {
                best.offer(index as u16, scores.score(row, 1.0));
            }
        } else {
            for (row, index) in rows.filter(|&(_, index)| eligible.allows(index)) {
                let spared = eligible.warmth(&eligible.all()[index]).recip() as f32;
                best.offer(index as u16, scores.score(row, spared));
            }
        }
        *list = best;
    }
}

/// What a request brings to the score, and what others have in flight; `None`: nobody says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scorer<'a> {
    plain: Plain<'a>,
    seen: Option<Seen>,
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
struct Plain<'a> {
    work_us: f32,
    newcomer: Newcomer,
    consumer_key: u64,
    peers: &'a PeerTable,
    notes: Notes,
    peer_weight: f32,
}

impl<'a> Scorer<'a> {
    /// For a request of predicted work `work_us` from this consumer.
    pub(crate) fn new(scan: &Scan, peers: &'a PeerTable, work_us: f64, consumer_key: u64) -> Self {
        let plain = Plain {
            work_us: work_us as f32,
            newcomer: Newcomer::of(work_us),
            consumer_key,
            peers,
            notes: peers.notes(consumer_key),
            peer_weight: scan.peer_weight,
        };
        Self { plain, seen: None }
    }

    /// The same, with what a pool knows of others' requests, if it knows any.
    pub(crate) fn seeing(self, sight: Option<&PoolSight>, now: Timestamp) -> Self {
        Self { seen: sight.and_then(|sight| sight.seen(self.plain.newcomer, now)), ..self }
    }
}

impl Scores for Plain<'_> {
    #[inline(always)]
    fn score(&self, row: &Row, spared: f32) -> Score {
        let InFlight { requests, work_us } = row.live.in_flight();
        let interference_us = || row.live.yielding_us(self.newcomer);
        let cost_us = row.terms.cost_us(self.work_us, requests as f32, || work_us as f32, interference_us);
        Score { cost: cost_us * self.factor(row, spared) + row.penalty_us, in_flight: requests }
    }
}

impl Scores for Seeing<'_> {
    #[inline(always)]
    fn score(&self, row: &Row, spared: f32) -> Score {
        let plain = &self.plain;
        let InFlight { requests, work_us } = row.live.in_flight();
        let others = self.others.ahead(&row.live);
        let all = requests as f32 + others.requests;
        let interference_us = || row.live.yielding_us(plain.newcomer) + others.interference_us;
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
