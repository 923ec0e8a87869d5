//! What *others* have in flight on an instance, as it or the proxy beside it last said; the atomic form of
//! [`foretide_steering::sight`], with the same functions.
//!
//! Every report is turned into running sums over the buckets at once, by whoever heard it. A scan then needs three words
//! of an instance (when it was heard, what lies below the newcomer's bucket, and all) and mixes them with the pool's mean
//! by age:
//!
//! ```text
//! others = mean + keep · (heard − own at that time − mean)      keep = 1 / (1 + a + a²/2),  a = age / memory
//! ```
//!
//! States of a pool: *silent* (nobody has said anything for ten lives of an entry: one's own requests alone count,
//! and a scan costs what it costs without sight) and *seeing*. Of an instance: *fresh*, *ageing* towards the mean, *old*
//! (the mean).
//!
//! Two reports at the same moment may leave sums of one in some words and of the other in the rest. Each word is whole,
//! [`Ahead::between`] bounds what they mean together, and the next report puts it right. So there is no lock.
//!
//! Known weakness: a report is dated when it is heard, half a round trip after it was true.

use crate::live::LiveLoad;
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::{BUCKETS, Newcomer};
use foretide_steering::four::{self, Ageing, LANES, each};
use foretide_steering::score::Ahead;
use foretide_steering::sight::{self, Part, Report, Sums};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A pool that has been silent for so many lives of an entry has nobody who reports.
const SILENCE: u64 = 10;
/// Memory until the mean service time is known: a few requests of a usual service.
const UNKNOWN_MEMORY: Duration = Duration::from_millis(100);
/// Entries are believed for so many mean service times: the laboratory's figure, found on one distribution and load.
const MEMORY_SERVICES: f64 = 8.0;
/// Shorter than a network's round trip, ageing would be faster than any report.
const SHORTEST_MEMORY_US: f32 = 1_000.0;
/// Half a mean service time as a part of the memory: within it an instance's load hardly changes.
const FRESH: u32 = 2 * MEMORY_SERVICES as u32;
/// ... and not less than this: asking costs both sides some ten microseconds.
const SHORTEST_FRESH: Duration = Duration::from_millis(1);
/// No residual was said.
const UNSAID: u32 = f32::NAN.to_bits();

/// Running sums as words of two single-precision numbers: what lies below each bucket, and before these, in the cache line that
/// a scan reads anyway, all.
#[derive(Debug, Default)]
#[repr(C)]
struct SharedSums {
    all: AtomicU64,
    below: [AtomicU64; BUCKETS],
}

impl SharedSums {
    /// Of what lies below a bucket, 0 to 16: at 16, of all.
    #[inline(always)]
    fn word(&self, bucket: usize) -> &AtomicU64 {
        self.below.get(bucket).unwrap_or(&self.all)
    }

    fn below(&self, bucket: usize) -> Part {
        let word = self.word(bucket).load(Relaxed);
        Part { requests: f32::from_bits((word >> 32) as u32), work_us: f32::from_bits(word as u32) }
    }

    fn put(&self, bucket: usize, part: Part) {
        let word = u64::from(part.requests.to_bits()) << 32 | u64::from(part.work_us.to_bits());
        self.word(bucket).store(word, Relaxed);
    }

    #[inline(always)]
    fn ahead(&self, newcomer: Newcomer) -> Ahead {
        Ahead::between(newcomer, self.below(newcomer.bucket()), self.below(BUCKETS))
    }
}

/// The others' requests on one instance; a part of [`LiveLoad`].
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Others {
    heard_at_us: AtomicU64,
    sums: SharedSums,
    residual: AtomicU32,
    /// A question is under way until then, at the latest.
    asking_until_us: AtomicU64,
}

impl Default for Others {
    fn default() -> Self {
        Self {
            heard_at_us: AtomicU64::new(0),
            residual: AtomicU32::new(UNSAID),
            asking_until_us: AtomicU64::new(0),
            sums: SharedSums::default(),
        }
    }
}

/// What a pool knows of others; outlives generations of the table.
#[derive(Debug)]
pub struct PoolSight {
    mean: SharedSums,
    heard: AtomicU32,
    heard_at_us: AtomicU64,
    memory_us: AtomicU32,
    lifetime_us: AtomicU64,
}

/// A pool's sight, prepared once for a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(Ageing);

impl PoolSight {
    /// Nothing heard yet. `lifetime`: an entry older than this says nothing that the mean does not.
    pub fn new(lifetime: Duration) -> Self {
        let sight = Self {
            mean: SharedSums::default(),
            heard: AtomicU32::new(0),
            heard_at_us: AtomicU64::new(0),
            memory_us: AtomicU32::new((UNKNOWN_MEMORY.as_micros() as f32).to_bits()),
            lifetime_us: AtomicU64::new(0),
        };
        sight.set_lifetime(lifetime);
        sight
    }

    /// Changes what [`PoolSight::new`] was told.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.lifetime_us.store((lifetime.as_micros() as u64).max(1), Relaxed);
    }

    /// Entries are worth more than the mean for some mean service times. What is not finite and positive is ignored.
    pub fn set_mean_service(&self, mean_us: f64) {
        if mean_us.is_finite() && mean_us > 0.0 {
            let memory_us = (MEMORY_SERVICES * mean_us) as f32;
            self.memory_us.store(memory_us.max(SHORTEST_MEMORY_US).to_bits(), Relaxed);
        }
    }

    /// How long what was heard is as good as new.
    pub(crate) fn fresh_for(&self) -> Duration {
        (self.memory() / FRESH).max(SHORTEST_FRESH)
    }

    /// How long an entry is worth more than the fleet's mean.
    pub fn memory(&self) -> Duration {
        Duration::from_micros(f32::from_bits(self.memory_us.load(Relaxed)) as u64)
    }

    /// An instance, one of `instances`, said what it has in flight. Reports heard earlier than what is known are ignored.
    pub fn hear(&self, live: &LiveLoad, report: &Report, instances: usize, now: Timestamp) {
        self.hear_beyond(live, report, instances, now, |bucket| live.count(bucket));
    }

    /// The same where one's own requests on the instance were counted when it was asked, too: only those that were there
    /// then and now are in the report for certain. One that has come since may not have reached it, one that has ended
    /// since was not counted any more.
    pub fn hear_answer(
        &self,
        live: &LiveLoad,
        report: &Report,
        instances: usize,
        now: Timestamp,
        when_asked: &[u16; BUCKETS],
    ) {
        self.hear_beyond(live, report, instances, now, |bucket| {
            live.count(bucket).min(u64::from(when_asked[bucket]))
        });
    }

    fn hear_beyond(
        &self,
        live: &LiveLoad,
        report: &Report,
        instances: usize,
        now: Timestamp,
        own: impl Fn(usize) -> u64,
    ) {
        let others = live.others();
        let now_us = now.as_us();
        if others.heard_at_us.fetch_max(now_us, Relaxed) > now_us {
            return;
        }
        let sums = Sums::beyond(report, own);
        let heard = self.heard.load(Relaxed).saturating_add(1);
        self.heard.store(heard, Relaxed);
        let weight = sight::share_of_mean(heard, instances);
        for bucket in 0..=BUCKETS {
            let (new, mean) = (sums.below(bucket), self.mean.below(bucket));
            others.sums.put(bucket, new);
            let moved = |mean: f32, new: f32| mean + weight * (new - mean);
            let (requests, work_us) = (moved(mean.requests, new.requests), moved(mean.work_us, new.work_us));
            self.mean.put(bucket, Part { requests, work_us });
        }
        if let Some(residual) = report.residual {
            others.residual.store(residual.to_bits(), Relaxed);
        }
        self.heard_at_us.fetch_max(now_us, Relaxed);
    }

    /// For a scan on behalf of a newcomer; `None`: silent.
    #[inline]
    pub(crate) fn seen(&self, newcomer: Newcomer, now: Timestamp) -> Option<Seen> {
        let lifetime_us = self.lifetime_us.load(Relaxed);
        let heard_at_us = self.heard_at_us.load(Relaxed);
        if heard_at_us == 0 || now.as_us().saturating_sub(heard_at_us) > SILENCE * lifetime_us {
            return None;
        }
        Some(Seen(Ageing {
            newcomer,
            mean: self.mean.ahead(newcomer),
            now_us: now.as_us(),
            per_memory_us: f32::from_bits(self.memory_us.load(Relaxed)).recip(),
            lifetime_us: lifetime_us as f32,
        }))
    }

    /// Requests that the others have on an instance, as far as is known now; `None`: the pool is silent.
    pub fn requests(&self, live: &LiveLoad, now: Timestamp) -> Option<f32> {
        let Seen(Ageing { mean, now_us, per_memory_us, lifetime_us, .. }) =
            self.seen(Newcomer::of(1.0), now)?;
        let others = live.others();
        let age_us = now_us.saturating_sub(others.heard_at_us.load(Relaxed)) as f32;
        let known = others.sums.below(BUCKETS).requests;
        Some(mean.requests + sight::keep(age_us, per_memory_us, lifetime_us) * (known - mean.requests))
    }

    /// Speed residual that an instance said within the life of an entry, as it is: not centred over the pool.
    pub fn residual(&self, live: &LiveLoad, now: Timestamp) -> Option<f32> {
        let fresh = live.sight_age(now)?.as_micros() as u64 <= self.lifetime_us.load(Relaxed);
        let residual = f32::from_bits(live.others().residual.load(Relaxed));
        (fresh && residual.is_finite()).then_some(residual)
    }
}

impl Seen {
    /// What the others have on four instances.
    #[inline(always)]
    pub(crate) fn ahead(&self, lives: [&LiveLoad; LANES]) -> four::Others {
        let others = each(lives, LiveLoad::others);
        let bucket = self.0.newcomer.bucket() % BUCKETS;
        let heard_at_us = each(others, |others| others.heard_at_us.load(Relaxed));
        let below = each(others, |others| others.sums.below[bucket].load(Relaxed));
        self.0.of(heard_at_us, below, each(others, |others| others.sums.all.load(Relaxed)))
    }
}

impl LiveLoad {
    /// How long ago it was last heard what others have here; `None`: never.
    pub fn sight_age(&self, now: Timestamp) -> Option<Duration> {
        let heard_at_us = self.others().heard_at_us.load(Relaxed);
        (heard_at_us > 0).then(|| now.since(Timestamp::from_us(heard_at_us)))
    }

    /// Whether to ask it now what others have here: not if that was heard less than `fresh_for` ago, nor while a question is
    /// under way. True is a promise to ask within `limit`, and given to one caller only.
    pub(crate) fn claim_asking(&self, now: Timestamp, fresh_for: Duration, limit: Duration) -> bool {
        let others = self.others();
        let fresh = self.sight_age(now).is_some_and(|age| age < fresh_for);
        let until_us = others.asking_until_us.load(Relaxed);
        let later_us = now.plus(limit).as_us();
        !fresh
            && until_us <= now.as_us()
            && others.asking_until_us.compare_exchange(until_us, later_us, Relaxed, Relaxed).is_ok()
    }

    /// The question has been answered.
    pub(crate) fn asked(&self) {
        self.others().asking_until_us.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Ticket;
    use foretide_steering::buckets::Load;
    use foretide_steering::sight::Fleet;
    use proptest::prelude::*;
    use std::sync::Arc;
    use wide::f32x4;

    const LIFETIME: Duration = sight::LIFETIME;

    fn at(us: u64) -> Timestamp {
        Timestamp::from_us(us)
    }

    fn report(works_us: &[u64]) -> Report {
        let mut load = Load::default();
        works_us.iter().for_each(|&work| load.add(work));
        Report::of(&load, None)
    }

    #[test]
    fn a_silent_pool_sees_nothing_and_an_old_entry_the_mean() {
        let sight = PoolSight::new(LIFETIME);
        let (busy, idle) = (Arc::new(LiveLoad::default()), Arc::new(LiveLoad::default()));
        assert_eq!(sight.requests(&busy, at(5)), None);
        sight.hear(&busy, &report(&[1_000; 8]), 2, at(1_000));
        sight.hear(&idle, &Report::default(), 2, at(1_000));
        let seen = |us| [&busy, &idle].map(|live| sight.requests(live, at(us)));
        assert_eq!(seen(1_000), [Some(8.0), Some(0.0)]);
        let later = seen(100_000).map(Option::unwrap);
        assert!(later[0] > 4.0 && later[0] < 8.0 && later[1] > 0.0 && later[1] < 4.0, "{later:?}");
        assert_eq!(seen(2_000_000), [Some(4.0), Some(4.0)]);
        assert_eq!(seen(12_000_000), [None, None]);
    }

    #[test]
    fn ones_own_are_not_others_and_late_reports_change_nothing() {
        let sight = PoolSight::new(LIFETIME);
        let live = Arc::new(LiveLoad::default());
        let own = Ticket::take(&live, 1_000.0, 1, at(1));
        sight.hear(&live, &report(&[1_000, 1_000, 9_000]), 1, at(10));
        assert_eq!(sight.requests(&live, at(10)), Some(2.0));
        sight.hear(&live, &report(&[]), 1, at(9));
        assert_eq!(sight.requests(&live, at(10)), Some(2.0));
        // Sent after the question: the answer does not have it.
        sight.hear_answer(&live, &report(&[1_000]), 1, at(11), &[0; BUCKETS]);
        assert_eq!(sight.requests(&live, at(11)), Some(1.0));
        sight.hear_answer(&live, &report(&[1_000]), 1, at(12), &live.counts());
        assert_eq!(sight.requests(&live, at(12)), Some(0.0));
        drop(own);
    }

    #[test]
    fn an_instance_is_asked_by_one_at_a_time_and_not_while_the_news_are_fresh() {
        let live = LiveLoad::default();
        let (fresh_for, limit) = (Duration::from_millis(1), Duration::from_millis(100));
        let claim = |us| live.claim_asking(at(us), fresh_for, limit);
        assert!(claim(5_000));
        assert!(!claim(9_000), "one is under way");
        assert!(claim(105_000), "its time was over");
        PoolSight::new(LIFETIME).hear(&live, &Report::default(), 1, at(107_500));
        assert!(!claim(110_000), "one is still under way");
        live.asked();
        assert!(!claim(108_000), "it has just been heard");
        assert!(claim(110_000));
    }

    #[test]
    fn residuals_last_as_long_as_an_entry() {
        let sight = PoolSight::new(LIFETIME);
        let live = LiveLoad::default();
        let said = Report { residual: Some(0.5), ..Report::default() };
        sight.hear(&live, &said, 1, at(1_000));
        assert_eq!(sight.residual(&live, at(2_000)), Some(0.5));
        sight.hear(&live, &Report::default(), 1, at(3_000));
        assert_eq!(sight.residual(&live, at(3_000)), Some(0.5), "what is not said stays");
        assert_eq!(sight.residual(&live, at(1_100_000)), None);
    }

    /// Never heard of is heard of at zero here, which must be longer ago than an entry lives, as it is on a wall clock.
    const AGES_AGO_US: u64 = 10_000_000;

    proptest! {
        /// What the laboratory measured holds for production: both see the same.
        #[test]
        fn agrees_with_the_plain_form(
            reports in prop::collection::vec((0usize..3, any::<[u8; BUCKETS]>(), AGES_AGO_US..AGES_AGO_US + 2_000_000), 1..40),
            work_us in 1.0..4e6f64,
            service_us in 2_000.0..1e5f64,
        ) {
            let sight = PoolSight::new(LIFETIME);
            sight.set_mean_service(service_us);
            let mut fleet = Fleet::new(LANES, sight.memory());
            let lives: [LiveLoad; LANES] = Default::default();
            for (instance, counts, us) in &reports {
                let said = Report { counts: counts.map(u16::from), residual: None };
                sight.hear(&lives[*instance], &said, LANES, at(*us));
                fleet.hear(*instance, &said, &Load::default(), at(*us));
            }
            let now = at(reports.iter().map(|(_, _, us)| *us).max().unwrap() + 5_000);
            let newcomer = Newcomer::of(work_us);
            let (seen, average) = (sight.seen(newcomer, now).unwrap(), fleet.average(newcomer, now));
            let shared = seen.ahead(lives.each_ref());
            for index in 0..LANES {
                // Of an instance that was never heard of, as the last one, both know the mean.
                let plain = fleet.ahead(index, newcomer, &average);
                let near = |four: f32x4, b: f32| (four.to_array()[index] - b).abs() <= 1e-3 * (1.0 + b.abs());
                prop_assert!(near(shared.requests, plain.requests), "{shared:?} {plain:?}");
                prop_assert!(near(shared.interference_us, plain.interference_us), "{shared:?} {plain:?}");
                prop_assert!(near(shared.work_us, plain.work_us), "{shared:?} {plain:?}");
            }
        }
    }
}
