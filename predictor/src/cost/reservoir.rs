//! Bounded, stratified training sample.
//!
//! One stratum per cost class, sized as the classes are frequent (50, 30, 15, 5 %): a flood of light requests cannot
//! push out the rare heavy ones, and yet the sample's proportions stay those of the traffic, so that training on it
//! needs no weights. In a full stratum `DRAWS` rows are drawn and one of them goes: a row of a consumer above its
//! share if there is one, else the oldest; the sample thus leans to the new without forgetting at once (sampled
//! eviction, as caches do it). A consumer's share of a stratum is the capacity over the number of consumers in it, but
//! never less than a quarter; at its share it replaces its own rows.
//! Known weakness: an attacker with many identities gets many shares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cost::classes::CostClasses;
use crate::cost::features::Features;
use crate::cost::query::{CostClass, CostQuery};
use crate::hash;
use crate::time::Timestamp;

/// Percent of the capacity for light, medium, heavy and huge: how frequent the classes are by definition.
const STRATA_PERCENT: [usize; 4] = [50, 30, 15, 5];
/// Rows looked at for one eviction. Fewer forget more slowly, more would make it a plain queue.
const DRAWS: usize = 4;
/// A consumer is never held below a quarter of a stratum.
const MOST_SHARERS: usize = 4;

/// One finished request: what was known on arrival, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it arrived.
    pub at: Timestamp,
    /// What was asked.
    pub query: CostQuery,
    /// Features as they were on arrival.
    pub features: Features,
    /// Measured work, microseconds at speed 1.
    pub work_us: f64,
}

/// Bounded sample of finished requests: newest first in weight, rare heavy ones kept, no consumer owning it.
#[derive(Clone, Debug)]
pub struct Reservoir {
    strata: [Stratum; 4],
    classes: CostClasses,
    seed: u64,
    accepted: u64,
    refused: u64,
}

/// Rows of one cost class.
#[derive(Clone, Debug)]
struct Stratum {
    capacity: usize,
    /// Rows with their number of arrival, in no order.
    rows: Vec<(u64, Sample)>,
    /// Rows per consumer; as many entries as rows at most.
    owners: BTreeMap<u64, usize>,
}

impl Reservoir {
    /// At most `capacity` rows (at least 20); `seed` decides what is replaced.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.max(20);
        let mut sizes = STRATA_PERCENT.map(|percent| capacity * percent / 100);
        sizes[0] += capacity - sizes.iter().sum::<usize>();
        let strata = sizes.map(|capacity| Stratum { capacity, rows: Vec::new(), owners: BTreeMap::new() });
        Self { strata, classes: CostClasses::new(), seed, accepted: 0, refused: 0 }
    }

    /// Offers a row; unusable labels (not finite, <= 0) and features (not finite) are refused and counted.
    pub fn push(&mut self, sample: Sample) -> bool {
        let usable = sample.work_us.is_finite() && sample.work_us > 0.0 && sample.features.is_sound();
        if !usable {
            self.refused += 1;
            return false;
        }
        self.classes.observe(sample.work_us.ln() as f32);
        self.accepted += 1;
        let stratum = match self.classes.class_of(sample.work_us) {
            CostClass::Light => 0,
            CostClass::Medium => 1,
            CostClass::Heavy => 2,
            CostClass::Huge => 3,
        };
        self.strata[stratum].push(self.accepted, sample, hash::pair(self.seed, self.accepted));
        true
    }

    /// The same sample with room for another number of rows; the counts go on.
    #[must_use]
    pub fn resized(&self, capacity: usize) -> Self {
        let mut resized = Self::new(capacity, self.seed);
        for row in self.rows() {
            resized.push(row);
        }
        Self { accepted: self.accepted, refused: self.refused, ..resized }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.strata.iter().map(|stratum| stratum.rows.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Rows refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// All rows in order of arrival.
    pub fn rows(&self) -> Vec<Sample> {
        let mut rows: Vec<_> = self.strata.iter().flat_map(|stratum| &stratum.rows).collect();
        rows.sort_unstable_by_key(|row| row.0);
        rows.into_iter().map(|row| row.1).collect()
    }
}

impl Stratum {
    fn push(&mut self, number: u64, sample: Sample, draw: u64) {
        let owner = sample.query.consumer_key;
        let own_rows = self.owners.get(&owner).copied().unwrap_or(0);
        let place = if own_rows > 0 && own_rows >= self.share() {
            Some(self.own_row(owner, draw))
        } else if self.rows.len() >= self.capacity {
            Some(self.victim(draw))
        } else {
            None
        };
        *self.owners.entry(owner).or_insert(0) += 1;
        match place {
            None => self.rows.push((number, sample)),
            Some(place) => {
                let (_, old) = std::mem::replace(&mut self.rows[place], (number, sample));
                self.forget(old.query.consumer_key);
            }
        }
    }

    /// Rows that one consumer may hold now.
    fn share(&self) -> usize {
        self.capacity / self.owners.len().clamp(1, MOST_SHARERS)
    }

    fn forget(&mut self, owner: u64) {
        if let Some(count) = self.owners.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
    }

    fn drawn(&self, draw: u64) -> impl Iterator<Item = usize> {
        let len = self.rows.len() as u64;
        (0..DRAWS as u64).map(move |i| (hash::pair(draw, i) % len) as usize)
    }

    /// Of the rows drawn, the oldest one of `owner`; if none is among them, its first row in the store.
    fn own_row(&self, owner: u64, draw: u64) -> usize {
        let own = |&place: &usize| self.rows[place].1.query.consumer_key == owner;
        let oldest = self.drawn(draw).filter(own).min_by_key(|&place| self.rows[place].0);
        oldest.or_else(|| (0..self.rows.len()).find(own)).unwrap_or(0)
    }

    /// Of the rows drawn, the oldest one of a consumer above its share, else the oldest.
    fn victim(&self, draw: u64) -> usize {
        let share = self.share();
        let excessive = |place: usize| {
            let owner = self.rows[place].1.query.consumer_key;
            self.owners.get(&owner).is_some_and(|&rows| rows > share)
        };
        self.drawn(draw).min_by_key(|&place| (!excessive(place), self.rows[place].0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::features::FEATURES;
    use crate::id::RouteId;

    fn sample(consumer: u64, work_us: f64, at: u64) -> Sample {
        Sample {
            at: Timestamp::from_us(at),
            query: CostQuery::new(RouteId(0), 1, consumer),
            features: Features([0.0; FEATURES]),
            work_us,
        }
    }

    #[test]
    fn a_flood_of_light_requests_does_not_wash_out_the_heavy_ones() {
        let mut reservoir = Reservoir::new(1_000, 1);
        for i in 0..3_000u64 {
            let work = if i < 2_000 && i % 25 == 0 { 90_000.0 } else { 100.0 + (i % 97) as f64 };
            reservoir.push(sample(hash::mix(i) % 50, work, i));
        }
        let rows = reservoir.rows();
        assert!(rows.len() <= 1_000 && rows.len() > 900, "{}", rows.len());
        assert!(rows.is_sorted_by_key(|row| row.at));
        let heavy = rows.iter().filter(|row| row.work_us > 1_000.0).count();
        assert!(heavy >= 15, "{heavy} of the heavy rows left; the newest 1,000 rows hold none");
        assert_eq!(reservoir.accepted(), 3_000);
    }

    #[test]
    fn no_consumer_owns_the_sample_once_others_are_there() {
        let mut reservoir = Reservoir::new(400, 7);
        (0..2_000).for_each(|i| assert!(reservoir.push(sample(1, 100.0 + (i % 90) as f64, i))));
        assert_eq!(reservoir.len(), reservoir.rows().len());
        for i in 0..8_000u64 {
            let consumer = if hash::mix(i) % 10 < 8 { 1 } else { 2 + hash::mix(i ^ 9) % 30 };
            reservoir.push(sample(consumer, 100.0 + (hash::mix(i ^ 5) % 90) as f64, 2_000 + i));
        }
        for stratum in &reservoir.strata {
            assert!(
                stratum.owners[&1] <= stratum.capacity / 4,
                "{} of {}",
                stratum.owners[&1],
                stratum.capacity
            );
            assert_eq!(stratum.owners.values().sum::<usize>(), stratum.rows.len());
        }
    }

    #[test]
    fn a_sample_of_another_size_keeps_its_rows_and_goes_on_counting() {
        let mut reservoir = Reservoir::new(200, 3);
        (0..500).for_each(|i| assert!(reservoir.push(sample(i % 7, 1.0 + (i % 31) as f64, i))));
        let larger = reservoir.resized(2_000);
        assert_eq!((larger.rows(), larger.accepted()), (reservoir.rows(), 500));
        let smaller = reservoir.resized(50);
        assert!((20..=50).contains(&smaller.len()), "{}", smaller.len());
    }

    #[test]
    fn unusable_rows_are_refused_and_counted() {
        let mut reservoir = Reservoir::new(100, 1);
        for label in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(!reservoir.push(sample(1, label, 0)));
        }
        let mut poisoned = sample(1, 1.0, 0);
        poisoned.features.0[5] = f32::NAN;
        assert!(!reservoir.push(poisoned));
        assert_eq!((reservoir.len(), reservoir.refused()), (0, 5));
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let filled = |seed| {
            let mut reservoir = Reservoir::new(100, seed);
            (0..2_000).for_each(|i| assert!(reservoir.push(sample(i % 13, 1.0 + (i % 31) as f64, i))));
            reservoir.rows()
        };
        assert_eq!(filled(1), filled(1));
        assert_ne!(filled(1), filled(2));
    }
}
