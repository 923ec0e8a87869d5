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
//! row per instance. What is left for a request is a word of live load and one of measurements, and where requests wait two
//! running sums over the buckets; peers' factors are looked up only where the consumer's notes mention the instance. Four
//! instances are scored at once ([`foretide_steering::four`]).
//!
//! Requests that other proxies have in flight on an instance count like one's own, as far as the pool shares its sight (see
//! [`crate::live::others`]); without it they are not seen here.

use crate::live::LiveLoad;
use crate::live::others::{PoolSight, Seen};
use crate::select::eligible::Eligible;
use crate::select::sample::Sample;
use crate::select::shortlist::{Halves, Lottery, MOST_RANKED, Place, Rank, Shortlist};
use crate::settings::PoolSettings;
use crate::table::InstanceEntry;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::id::InstanceId;
use foretide_predictor::peers::{Mark, Notes, PeerTable};
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::Newcomer;
use foretide_steering::four::{Fixed, LANES, Loads, Others, Question, Scores, each};
use foretide_steering::score::{Form, Terms};
use std::ops::Range;
use std::sync::Arc;
use wide::{f32x4, f64x2};

/// Up to here every instance is scored.
const FULL_SCAN: usize = 128;
/// Shares of capacity above this are measuring errors.
const MOST_SHARE: f32 = 4.0;

/// A generation's part of the scores, and what large pools remember from one scan to the next.
#[derive(Debug)]
pub struct Scan {
    /// In the order of the pool's instances; after them [`LANES`] that nobody chooses, so that four can be read from any on.
    rows: Vec<Row>,
    form: Form,
    /// From then on no instance is being ramped up.
    ramped_at: Timestamp,
    peer_weight: f32,
    sample: Sample,
}

/// An instance as the scan sees it.
#[derive(Clone, Debug)]
struct Row {
    fixed: Fixed,
    live: Arc<LiveLoad>,
    id: InstanceId,
    place: Place,
    mark: Mark,
    /// With so many requests in flight it gets no more.
    full_from: u32,
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
        let row = |(index, entry): (usize, &InstanceEntry)| {
            let excess = 1.0 + peer_weight * share(entry.excess);
            let own = (1.0 + background_weight * share(entry.background)) * excess;
            let terms = Terms::new(form, entry.concurrency, own, excess);
            let fixed = Fixed::new(&terms, entry.penalty_us);
            let (live, place) = (Arc::clone(&entry.live), Place::new(index));
            let full_from = Eligible::full_from(settings, entry);
            Row { fixed, live, id: entry.id, place, mark: Mark::of(entry.id), full_from }
        };
        let mut rows: Vec<Row> = instances.iter().take(MOST_RANKED).enumerate().map(row).collect();
        let id = InstanceId(u32::MAX);
        let (live, place) = (Arc::default(), Place::new(rows.len()));
        let nobody = Row { fixed: Fixed::NOBODY, live, id, place, mark: Mark::of(id), full_from: 0 };
        rows.resize(rows.len() + LANES, nobody);
        let newest = instances.iter().map(|entry| entry.warm_since).max().unwrap_or(Timestamp::ZERO);
        let ramped_at = newest.plus(settings.slow_start);
        Self { rows, form, ramped_at, peer_weight, sample: Sample::default() }
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
        let others = sight.and_then(|sight| sight.seen(plain.question.newcomer(), eligible.now()));
        let all_alike = eligible.is_first_try() && eligible.now() >= self.ramped_at;
        if others.is_some() || !all_alike {
            let eligible = (!all_alike || eligible.is_limited()).then_some(eligible);
            return self.best_with_care(chance, &Careful { plain, others, eligible });
        }
        // So it is nearly always, and then the loops are short.
        if eligible.is_limited() { self.best_with_room(chance, plain) } else { self.best(chance, plain) }
    }

    /// Of those that are not full. Kept out of the other loop.
    #[inline(never)]
    fn best_with_room(&self, chance: u64, plain: &Plain<'_>) -> Shortlist {
        self.best(chance, &Limited(plain))
    }

    /// Kept out of the other loops, which are nearly everybody's.
    #[inline(never)]
    fn best_with_care(&self, chance: u64, careful: &Careful<'_>) -> Shortlist {
        self.best(chance, careful)
    }

    /// The best of all, or of a sample if there are too many. Made once for each way of ranking, so that neither pays for the
    /// other.
    #[inline(always)]
    fn best(&self, chance: u64, ranks: &impl Ranks) -> Shortlist {
        let (count, lottery) = (self.rows.len() - LANES, Lottery::new(chance));
        let mut halves = Halves::NOBODY;
        if count <= FULL_SCAN {
            for [a, b, c, d] in self.fours(0..count) {
                halves.offer(ranks.ranks(lottery, [a, b, c, d]));
            }
            return halves.merge(lottery);
        }
        let picked = self.sample.pick(count, chance);
        for [a, b, c, d] in picked.window.clone().into_iter().flat_map(|part| self.fours(part)) {
            halves.offer(ranks.ranks(lottery, [a, b, c, d]));
        }
        for indices in picked.single().chunks(LANES) {
            // Behind the last one there is nobody.
            let row = |lane| &self.rows[indices.get(lane).map_or(count, |&index| usize::from(index))];
            halves.offer(ranks.ranks(lottery, [row(0), row(1), row(2), row(3)]));
        }
        let list = halves.merge(lottery);
        self.sample.remember(&list);
        list
    }

    /// Neighbours. Their number is one of whole fours, or they are the pool's last, after whom there is nobody.
    #[inline(always)]
    fn fours(&self, part: Range<usize>) -> std::slice::Iter<'_, [Row; LANES]> {
        self.rows[part.start..part.start + part.len().next_multiple_of(LANES)].as_chunks().0.iter()
    }
}

/// A way to rank instances for a request, four at a time.
trait Ranks {
    fn ranks(&self, lottery: Lottery, rows: [&Row; LANES]) -> [f64x2; LANES / 2];
}

impl Ranks for Plain<'_> {
    #[inline(always)]
    fn ranks(&self, lottery: Lottery, rows: [&Row; LANES]) -> [f64x2; LANES / 2] {
        self.ranks_with(lottery, rows, None, None)
    }
}

/// Where instances may be full.
struct Limited<'a>(&'a Plain<'a>);

impl Ranks for Limited<'_> {
    #[inline(always)]
    fn ranks(&self, lottery: Lottery, rows: [&Row; LANES]) -> [f64x2; LANES / 2] {
        let spared = each(rows, |row| if row.live.has_below(row.full_from) { 1.0 } else { f32::INFINITY });
        self.0.ranks_with(lottery, rows, None, Some(f32x4::new(spared)))
    }
}

/// With others' requests, and for a try that may not use everybody, or not yet fully.
struct Careful<'a> {
    plain: &'a Plain<'a>,
    others: Option<Seen>,
    /// `None`: everybody, fully.
    eligible: Option<&'a Eligible<'a>>,
}

impl Ranks for Careful<'_> {
    #[inline(always)]
    fn ranks(&self, lottery: Lottery, rows: [&Row; LANES]) -> [f64x2; LANES / 2] {
        let others = self.others.as_ref().map(|seen| seen.ahead(each(rows, |row| &*row.live)));
        let spared = |eligible| f32x4::new(each(rows, |row| spared(eligible, row.place.index())));
        self.plain.ranks_with(lottery, rows, others, self.eligible.map(spared))
    }
}

/// 1 over an instance's share of its usual load; infinite where the try may not use it.
fn spared(eligible: &Eligible<'_>, index: usize) -> f32 {
    let usable = eligible.all().get(index).filter(|_| eligible.allows(index));
    usable.map_or(f32::INFINITY, |entry| eligible.warmth(entry).recip() as f32)
}

/// What a request brings to the score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    question: Question,
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
        let question = Question::new(scan.form, work_us, newcomer);
        Self { question, consumer_key, peers, notes, peer_weight }
    }

    /// Ranks of four instances, see [`Loads`].
    #[inline(always)]
    fn ranks_with(
        &self,
        lottery: Lottery,
        rows: [&Row; LANES],
        others: Option<Others>,
        spared: Option<f32x4>,
    ) -> [f64x2; LANES / 2] {
        let factors = match (self.factors(rows), spared) {
            (Some(factors), Some(spared)) => Some(factors * spared),
            (factors, spared) => factors.or(spared),
        };
        let below = |bucket| each(rows, |row| row.live.word_below(bucket));
        let measured = each(rows, |row| row.live.measured());
        let loads = Loads { all: each(rows, |row| row.live.word()), measured, others, factors };
        let fixed = each(rows, |row| row.fixed);
        let Scores { cost_us, requests } = self.question.scores(fixed, loads, below);
        Rank::four(lottery, each(rows, |row| row.place), cost_us, requests)
    }

    /// By how much the instances are dearer to this consumer; `None`: nobody is, as for most consumers.
    #[inline(always)]
    fn factors(&self, rows: [&Row; LANES]) -> Option<f32x4> {
        let [a, b, c, d] = rows;
        self.notes.mention(a.mark | b.mark | c.mark | d.mark).then(|| self.peer_factors(a, b, c, d))
    }

    /// Kept out of the scan's loop: few consumers have factors.
    #[inline(never)]
    fn peer_factors(&self, a: &Row, b: &Row, c: &Row, d: &Row) -> f32x4 {
        f32x4::new(each([a, b, c, d], |row| self.peer_factor(row)))
    }

    fn peer_factor(&self, row: &Row) -> f32 {
        if !self.notes.mention(row.mark) {
            return 1.0;
        }
        1.0 + self.peer_weight * (self.peers.factor(self.consumer_key, row.id) - 1.0)
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
