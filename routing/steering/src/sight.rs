//! What *others* have in flight on an instance, as last heard, and how that ages.
//!
//! Many proxies in front of the same pool each see only their own requests. An instance (or the proxy beside it) sees
//! all of them and says so in a [`Report`] with every response and every probe. What is not one's own is the others':
//!
//! ```text
//! others(t) = fleet + keep · (heard − own at that time − fleet),   keep = exp(−age / memory), 0 beyond a second
//! ```
//!
//! It ages towards the *fleet's mean*, never to zero: a slow instance answers late, its old entry would decay to "empty",
//! and everybody would return to it at once. One's own requests are always counted exactly and at once.
//!
//! Interference is a sum over buckets, hence linear: it is enough to keep running sums over the buckets, and to mix
//! two numbers by `keep`. Aging costs a request one division an instance, not sixteen.
//!
//! Known weakness: a bucket's requests are only counted, so their work is that of the bucket's middle.

use crate::buckets::{BUCKETS, Load, Newcomer, typical_us};
use crate::score::Ahead;
use foretide_predictor::time::Timestamp;
use std::time::Duration;

/// After this an entry says nothing: half a dozen disturbances may have come and gone.
pub const LIFETIME: Duration = Duration::from_secs(1);

/// What an instance says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in flight by bucket of predicted work.
    pub counts: [u16; BUCKETS],
    /// ln(attained / predicted), `None`: not measured yet.
    pub residual: Option<f32>,
}

impl Report {
    /// Of all that is in flight on an instance.
    pub fn of(load: &Load, residual: Option<f64>) -> Self {
        let counts = std::array::from_fn(|bucket| load.count(bucket).min(u64::from(u16::MAX)) as u16);
        Self { counts, residual: residual.map(|residual| residual as f32) }
    }

    /// Requests in flight.
    pub fn requests(&self) -> u32 {
        self.counts.iter().map(|&count| u32::from(count)).sum()
    }
}

/// Running sums over buckets: of counts and of work, each up to and without a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    counts: [f32; BUCKETS + 1],
    works_us: [f32; BUCKETS + 1],
}

/// Requests and their work, microseconds, of some buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// Requests.
    pub requests: f32,
    /// Their work, microseconds.
    pub work_us: f32,
}

impl Default for Sums {
    fn default() -> Self {
        Self { counts: [0.0; BUCKETS + 1], works_us: [0.0; BUCKETS + 1] }
    }
}

impl Sums {
    /// What a report means beyond one's `own` requests there, by bucket.
    pub fn beyond(report: &Report, own: impl Fn(usize) -> u64) -> Self {
        let own = |bucket: usize| own(bucket).min(u64::from(u16::MAX)) as u16;
        Self::of(|bucket| f32::from(report.counts[bucket].saturating_sub(own(bucket))))
    }

    fn of(counts: impl Fn(usize) -> f32) -> Self {
        let mut sums = Self::default();
        for bucket in 0..BUCKETS {
            let count = counts(bucket);
            sums.counts[bucket + 1] = sums.counts[bucket] + count;
            sums.works_us[bucket + 1] = sums.works_us[bucket] + count * typical_us(bucket);
        }
        sums
    }

    /// What lies below a bucket, 0 to 16.
    pub fn below(&self, bucket: usize) -> Part {
        let bucket = bucket.min(BUCKETS);
        Part { requests: self.counts[bucket], work_us: self.works_us[bucket] }
    }

    fn ahead(&self, newcomer: Newcomer) -> Ahead {
        Ahead::between(newcomer, self.below(newcomer.bucket()), self.below(BUCKETS))
    }

    fn approach(&mut self, other: &Self, weight: f32) {
        let pairs = self.counts.iter_mut().zip(&other.counts);
        for (mine, theirs) in pairs.chain(self.works_us.iter_mut().zip(&other.works_us)) {
            *mine += weight * (theirs - *mine);
        }
    }
}

/// The others' requests on one instance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sight {
    sums: Sums,
    heard_at: Option<Timestamp>,
    residual: Option<f32>,
}

impl Sight {
    /// When it was last heard of; `None`: never.
    pub fn heard_at(&self) -> Option<Timestamp> {
        self.heard_at
    }

    /// Speed residual as last heard.
    pub fn residual(&self) -> Option<f32> {
        self.residual
    }
}

/// The others' requests on every instance of a pool, and on the average one.
#[derive(Clone, Debug)]
pub struct Fleet {
    sights: Vec<Sight>,
    mean: Sums,
    heard: u32,
    memory_us: f32,
}

/// The average instance, prepared once for a scan.
#[derive(Clone, Copy, Debug)]
pub struct Average {
    ahead: Ahead,
    now: Timestamp,
}

impl Fleet {
    /// Of so many instances. `memory`: how long an entry is worth more than the fleet's mean; some five mean service
    /// times.
    pub fn new(instances: usize, memory: Duration) -> Self {
        Self {
            sights: vec![Sight::default(); instances],
            mean: Sums::default(),
            heard: 0,
            memory_us: (memory.as_micros() as f32).max(1.0),
        }
    }

    /// What is known of an instance.
    pub fn sight(&self, instance: usize) -> Option<&Sight> {
        self.sights.get(instance)
    }

    /// A report came in of an instance on which `own` is in flight. Older than what is known, or of nobody: ignored.
    pub fn hear(&mut self, instance: usize, report: &Report, own: &Load, said_at: Timestamp) {
        let instances = self.sights.len();
        let Some(sight) = self.sights.get_mut(instance) else { return };
        if sight.heard_at.is_some_and(|heard_at| heard_at > said_at) {
            return;
        }
        sight.sums = Sums::beyond(report, |bucket| own.count(bucket));
        sight.heard_at = Some(said_at);
        sight.residual = report.residual.or(sight.residual);
        self.heard = self.heard.saturating_add(1);
        let weight = share_of_mean(self.heard, instances);
        self.mean.approach(&sight.sums, weight);
    }

    /// The average instance for a newcomer now.
    pub fn average(&self, newcomer: Newcomer, now: Timestamp) -> Average {
        Average { ahead: self.mean.ahead(newcomer), now }
    }

    /// What the others have on an instance, as far as is known now.
    pub fn ahead(&self, instance: usize, newcomer: Newcomer, average: &Average) -> Ahead {
        let Some(sight) = self.sights.get(instance) else { return average.ahead };
        let keep = self.keep(sight, average.now);
        if keep <= 0.0 {
            return average.ahead;
        }
        average.ahead.towards(sight.sums.ahead(newcomer), keep)
    }

    /// How much of an entry still counts, 1 to 0.
    fn keep(&self, sight: &Sight, now: Timestamp) -> f32 {
        let Some(heard_at) = sight.heard_at else { return 0.0 };
        let age_us = now.as_us().saturating_sub(heard_at.as_us()) as f32;
        keep(age_us, self.memory_us.recip(), LIFETIME.as_micros() as f32)
    }

    /// Mean speed residual of those measured; 0 when nobody is.
    pub fn mean_residual(&self) -> f32 {
        let measured = || self.sights.iter().filter_map(|sight| sight.residual);
        measured().sum::<f32>() / measured().count().max(1) as f32
    }
}

/// How much of an entry of this age still counts, 1 to 0; all in microseconds. `per_memory_us`: 1 over the time constant.
#[inline(always)]
pub fn keep(age_us: f32, per_memory_us: f32, lifetime_us: f32) -> f32 {
    if age_us > lifetime_us {
        return 0.0;
    }
    // The first terms of the exponential: as good, and a division instead of a call.
    let age = age_us * per_memory_us;
    1.0 / (1.0 + age + 0.5 * age * age)
}

/// Weight of a report in the fleet's mean, after so many: a round of reports is its memory; at first it is the plain mean.
pub fn share_of_mean(heard: u32, instances: usize) -> f32 {
    1.0 / heard.min(2 * instances as u32).max(1) as f32
}

impl Ahead {
    /// From what lies in the buckets `below` the newcomer's and in `all`; the two may have been read at different times.
    #[inline(always)]
    pub fn between(newcomer: Newcomer, below: Part, all: Part) -> Self {
        let larger = (all.requests - below.requests).max(0.0);
        Self {
            requests: all.requests,
            interference_us: below.work_us + larger * newcomer.work_us() as f32,
            work_us: all.work_us,
        }
    }

    /// This share of the way from here to `known`.
    #[inline(always)]
    #[must_use]
    pub fn towards(self, known: Self, share: f32) -> Self {
        let mix = |mean: f32, known: f32| mean + share * (known - mean);
        Self {
            requests: mix(self.requests, known.requests),
            interference_us: mix(self.interference_us, known.interference_us),
            work_us: mix(self.work_us, known.work_us),
        }
    }

    /// One's own and the others' together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            interference_us: self.interference_us + other.interference_us,
            work_us: self.work_us + other.work_us,
        }
    }

    /// What a load means to a newcomer.
    pub fn of(load: &Load, newcomer: Newcomer) -> Self {
        Self {
            requests: load.requests() as f32,
            interference_us: load.interference_us(newcomer),
            work_us: load.work_us() as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_us(ms * 1_000)
    }

    fn load(works: &[u64]) -> Load {
        let mut load = Load::default();
        works.iter().for_each(|&work| load.add(work));
        load
    }

    #[test]
    fn ones_own_requests_are_not_counted_twice() {
        let mut fleet = Fleet::new(2, Duration::from_millis(50));
        fleet.hear(0, &Report::of(&load(&[1_000, 1_000, 8_000]), None), &load(&[1_000]), at(1));
        let newcomer = Newcomer::of(500.0);
        let ahead = fleet.ahead(0, newcomer, &fleet.average(newcomer, at(1)));
        assert_eq!((ahead.requests, ahead.interference_us), (2.0, 1_000.0));
        // More of one's own than the instance has seen: some are still under way to it.
        fleet.hear(0, &Report::default(), &load(&[1_000]), at(2));
        assert_eq!(fleet.ahead(0, newcomer, &fleet.average(newcomer, at(2))).requests, 0.0);
    }

    #[test]
    fn what_is_old_approaches_the_fleet_and_never_nothing() {
        let mut fleet = Fleet::new(2, Duration::from_millis(50));
        let newcomer = Newcomer::of(1e6);
        fleet.hear(0, &Report::of(&load(&[1_000; 8]), None), &Load::default(), at(0));
        fleet.hear(1, &Report::default(), &Load::default(), at(0));
        let seen =
            |ms| [0, 1].map(|one| fleet.ahead(one, newcomer, &fleet.average(newcomer, at(ms))).requests);
        assert_eq!(seen(0), [8.0, 0.0]);
        let later = seen(50);
        assert!(later[0] < 8.0 && later[0] > 4.0 && later[1] > 0.0 && later[1] < 4.0, "{later:?}");
        assert_eq!(seen(2_000), [4.0, 4.0]);
    }

    #[test]
    fn late_and_unknown_reports_change_nothing() {
        let mut fleet = Fleet::new(1, Duration::from_millis(50));
        fleet.hear(0, &Report::of(&load(&[1_000]), Some(0.5)), &Load::default(), at(9));
        fleet.hear(0, &Report::default(), &Load::default(), at(8));
        fleet.hear(7, &Report::default(), &Load::default(), at(9));
        let newcomer = Newcomer::of(1e6);
        assert_eq!(fleet.ahead(0, newcomer, &fleet.average(newcomer, at(9))).requests, 1.0);
        assert_eq!((fleet.mean_residual(), fleet.sight(7).is_none()), (0.5, true));
    }

    proptest! {
        #[test]
        fn estimates_are_never_negative_nor_nan(
            reports in prop::collection::vec((0usize..4, any::<[u16; BUCKETS]>(), any::<[u16; BUCKETS]>(), 0u64..3_000), 0..60),
            x in any::<f64>(),
        ) {
            let mut fleet = Fleet::new(3, Duration::from_millis(20));
            for (instance, counts, own, ms) in reports {
                let mut mine = Load::default();
                own.iter().enumerate().for_each(|(bucket, &count)| {
                    (0..count % 5).for_each(|_| mine.add(typical_us(bucket) as u64));
                });
                fleet.hear(instance, &Report { counts, residual: None }, &mine, at(ms));
                let newcomer = Newcomer::of(x);
                let average = fleet.average(newcomer, at(ms + 7));
                for one in 0..4 {
                    let ahead = fleet.ahead(one, newcomer, &average);
                    // The mean approaches its members in single precision.
                    let bound = -1e-3 * (1.0 + ahead.work_us.abs());
                    prop_assert!(ahead.requests >= bound && ahead.interference_us >= bound && ahead.work_us >= bound, "{ahead:?}");
                }
            }
        }
    }
}
