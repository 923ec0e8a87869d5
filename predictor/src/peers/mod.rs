//! Tier 3: is this consumer, or everybody, worse off on that instance than expected?
//!
//! A sample is `ln(observed / expected latency)` and whether the producer failed. Each (consumer, instance) pair has
//! a cell; `factor = exp(trust · (residual beyond its noise + 1.4 · error share))`, faded by age and clamped to
//! [1/2, 4]. It is worked out when a sample is learned, so that the hot path hashes once and loads twice or thrice.
//!
//! A request is compared on many instances, and most consumers fare everywhere as expected. So each consumer has a cache line
//! of *notes*, a bit per instance (by its id modulo 512), set where there is a factor. A request takes the eight words of it
//! together, a bit per id modulo 64, which tells most instances apart and all of a small pool; what is mentioned there is
//! looked for in its own word before anything is looked up. Consumers and instances may share bits, which costs a look-up
//! that finds 1. Bits of factors that faded go when the notes are taken anew.
//!
//! Bounds: a pair has two possible cells. When both belong to others that are alive, its samples go to the `other`
//! cell of the instance, and it reads that one. Cells that heard nothing for a while are given away, nearly empty
//! ones sooner, so that a flood of made-up consumers cannot keep real ones out for long.
//!
//! Known weakness: a slow instance is slow for all its consumers, and steering also measures that as its speed;
//! whoever computes *expected* latency should include the measured speed, or it counts twice.

mod anomaly;
mod cell;

use std::ops::BitOr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::cost::approx;
use crate::hash;
use crate::id::InstanceId;
use crate::time::Timestamp;
use anomaly::Standing;
use cell::Cell;

/// Factors outside would let tier 3 overrule the other tiers.
const FACTORS: (f32, f32) = (0.5, 4.0);

/// Silence after which a cell may be given away, seconds; a nearly empty one after the second figure.
const GIVEN_AWAY_AFTER_S: (u32, u32) = (300, 20);

/// Places where an instance's own cells may lie.
const PROBES: usize = 8;

/// How unusual an instance is, seen by all its consumers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Anomaly {
    /// Which instance.
    pub instance: InstanceId,
    /// Robust z-score of its median residual among the pool's instances (median and MAD); positive is worse.
    pub score: f64,
    /// Share of capacity that this excess is likely to cost, in [0, 1]: tier 3's part of the load score.
    pub excess: f64,
    /// Share of recent requests that failed there.
    pub error_ratio: f64,
    /// Consumers it rests on.
    pub consumers: usize,
}

/// Instances on which a consumer may have a factor other than 1; without a word, all factors are 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notes(u64);

impl Notes {
    /// Whether [`PeerTable::factor`] is worth asking for an instance with this mark, or for any of several.
    #[inline]
    pub fn mention(self, mark: Mark) -> bool {
        self.0 & mark.0 != 0
    }
}

/// What an instance is noted by, worked out once; united, that of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Of an instance.
    pub fn of(instance: InstanceId) -> Self {
        Self(bit(instance.0))
    }
}

impl BitOr for Mark {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Words of notes a consumer has.
const WORDS: usize = 8;

/// A consumer's notes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; WORDS]);

/// Bounded concurrent table of residuals per (consumer, instance): many readers, one writer, no lock.
#[derive(Debug)]
pub struct PeerTable {
    pairs: Box<[Cell]>,
    /// Everybody on an instance.
    everybody: Box<[Cell]>,
    /// Consumers of an instance that found no cell; at the index of `everybody`.
    others: Box<[Cell]>,
    /// By consumer, see the module.
    notes: Box<[Line]>,
    /// The same for all who read `others`.
    notes_on_others: Line,
    /// Second of the newest sample: readers have no clock.
    clock_s: AtomicU32,
}

impl PeerTable {
    /// `cells`: capacity, rounded up to a power of two (16 to 4,194,304); 4,096 if in doubt. A quarter as many
    /// instances can be told apart.
    pub fn new(cells: usize) -> Self {
        let pairs = cells.clamp(16, 1 << 22).next_power_of_two();
        let empty = |count: usize| std::iter::repeat_with(Cell::default).take(count).collect();
        let (pairs, instances) = (empty(pairs), (pairs / 4).max(64));
        Self {
            pairs,
            everybody: empty(instances),
            others: empty(instances),
            notes: std::iter::repeat_with(Line::default).take(instances).collect(),
            notes_on_others: Line::default(),
            clock_s: AtomicU32::new(0),
        }
    }

    /// Learns from one finished request: ln(observed / expected latency), and whether it failed by the producer. A
    /// residual that is not a number does not count; the failure does.
    pub fn observe(
        &self,
        consumer_key: u64,
        instance: InstanceId,
        log_residual: f64,
        failed: bool,
        now: Timestamp,
    ) {
        let now_s = u32::try_from(now.as_us() / 1_000_000).unwrap_or(u32::MAX);
        if now_s > self.clock_s.load(Relaxed) {
            self.clock_s.store(now_s, Relaxed);
        }
        let now_s = self.clock_s.load(Relaxed);
        let residual = (!log_residual.is_nan()).then_some(log_residual as f32);
        let home = self.home_to_learn(instance);
        self.everybody[home].learn(residual, failed, now_s);
        let (cell, note) = match self.pair_to_learn(consumer_key, instance, now_s) {
            Some(cell) => (cell, &self.notes[cell.note() as usize]),
            None => (&self.others[home], &self.notes_on_others),
        };
        cell.learn(residual, failed, now_s);
        if cell.log_factor(now_s) != 0.0 {
            note.word(instance.0).fetch_or(bit(instance.0), Relaxed);
        }
    }

    /// On which instances this consumer may have a factor. No lock, no allocation.
    #[inline]
    pub fn notes(&self, consumer_key: u64) -> Notes {
        let own = &self.notes[self.note_of(consumer_key) as usize];
        Notes(own.together() | self.notes_on_others.together())
    }

    /// Drops the notes of factors that are gone. Reads the whole table: for the writer, about once a second.
    pub fn refresh_notes(&self) {
        let now_s = self.clock_s.load(Relaxed);
        let mut notes = vec![[0; WORDS]; self.notes.len()];
        for cell in self.pairs.iter().filter(|cell| cell.tag() != 0 && cell.log_factor(now_s) != 0.0) {
            notes[cell.note() as usize][word_of(cell.instance())] |= bit(cell.instance());
        }
        self.notes.iter().zip(notes).for_each(|(line, words)| line.store(words));
        let mut on_others = [0; WORDS];
        for cell in self.others.iter().filter(|cell| cell.log_factor(now_s) != 0.0) {
            on_others[word_of(cell.instance())] |= bit(cell.instance());
        }
        self.notes_on_others.store(on_others);
    }

    /// Factor on the score of `instance` for this consumer: 1.0 when nothing is known, above when it fares badly
    /// there; within [1/2, 4]. No lock, no allocation.
    #[inline]
    pub fn factor(&self, consumer_key: u64, instance: InstanceId) -> f32 {
        let own = &self.notes[self.note_of(consumer_key) as usize];
        if !own.mentions(instance.0) && !self.notes_on_others.mentions(instance.0) {
            return 1.0;
        }
        let now_s = self.clock_s.load(Relaxed);
        let key = pair_key(consumer_key, instance);
        let [first, second] = self.places(key);
        let (first_tag, second_tag) = (first.tag(), second.tag());
        let log = if first_tag == key {
            first.log_factor(now_s)
        } else if second_tag == key {
            second.log_factor(now_s)
        } else if first_tag != 0 && second_tag != 0 {
            self.home(instance).map_or(0.0, |home| self.others[home].log_factor(now_s))
        } else {
            0.0
        };
        if log == 0.0 { 1.0 } else { approx::exp(log).clamp(FACTORS.0, FACTORS.1) }
    }

    /// Compares the instances of one pool with each other. Those with fewer than five samples in recent memory are
    /// left out. Reads the whole table: once a tick, not per request.
    pub fn anomalies(&self, instances: &[InstanceId], now: Timestamp) -> Vec<Anomaly> {
        let now_s = u32::try_from(now.as_us() / 1_000_000).unwrap_or(u32::MAX);
        let mut asked: Vec<u32> = instances.iter().map(|instance| instance.0).collect();
        asked.sort_unstable();
        asked.dedup();
        let mut residuals = vec![Vec::new(); asked.len()];
        for cell in self.pairs.iter().chain(&self.others).filter(|cell| cell.tag() != 0) {
            if let Ok(place) = asked.binary_search(&cell.instance()) {
                let tally = cell.tally();
                if tally.count >= cell::ENOUGH {
                    let fresh = cell::freshness(now_s.saturating_sub(cell.heard_s()));
                    residuals[place].push(f64::from(tally.residual * fresh));
                }
            }
        }
        let standings: Vec<Standing> = asked
            .into_iter()
            .zip(residuals)
            .filter_map(|(instance, residuals)| self.standing(InstanceId(instance), residuals, now_s))
            .collect();
        anomaly::compare(&standings)
    }

    /// Forgets an instance that is gone.
    pub fn forget(&self, instance: InstanceId) {
        let all = self.pairs.iter().chain(&self.everybody).chain(&self.others);
        all.filter(|cell| cell.tag() != 0 && cell.instance() == instance.0).for_each(Cell::clear);
    }

    fn standing(&self, instance: InstanceId, residuals: Vec<f64>, now_s: u32) -> Option<Standing> {
        let everybody = &self.everybody[self.home(instance)?];
        let tally = everybody.tally();
        if tally.count < cell::ENOUGH {
            return None;
        }
        let fresh = cell::freshness(now_s.saturating_sub(everybody.heard_s()));
        let consumers = residuals.len();
        // Many consumers with a request or two each: none has enough alone, together they have.
        let residual =
            if consumers > 0 { anomaly::median(residuals) } else { f64::from(tally.residual * fresh) };
        let error_ratio = f64::from(tally.errors * fresh).clamp(0.0, 1.0);
        Some(Standing { instance, residual, error_ratio, consumers })
    }

    fn places(&self, key: u64) -> [&Cell; 2] {
        let mask = self.pairs.len() - 1;
        let first = key as usize & mask;
        // The other half of the hash; never the first place again.
        let second = (key >> 32) as usize & mask;
        let second = if second == first { first ^ 1 } else { second };
        [&self.pairs[first], &self.pairs[second]]
    }

    fn pair_to_learn(&self, consumer_key: u64, instance: InstanceId, now_s: u32) -> Option<&Cell> {
        let key = pair_key(consumer_key, instance);
        let places = self.places(key);
        if let Some(own) = places.into_iter().find(|cell| cell.tag() == key) {
            return Some(own);
        }
        let free = |cell: &&Cell| {
            let needed =
                if cell.tally().count < cell::ENOUGH { GIVEN_AWAY_AFTER_S.1 } else { GIVEN_AWAY_AFTER_S.0 };
            cell.tag() == 0 || now_s.saturating_sub(cell.heard_s()) >= needed
        };
        let cell = places.into_iter().filter(free).min_by_key(|cell| (cell.tag() != 0, cell.heard_s()))?;
        cell.claim(key, instance.0, self.note_of(consumer_key));
        Some(cell)
    }

    fn note_of(&self, consumer_key: u64) -> u32 {
        consumer_key as u32 & (self.notes.len() - 1) as u32
    }

    /// Where the cells of an instance are, if it has any.
    fn home(&self, instance: InstanceId) -> Option<usize> {
        let tag = u64::from(instance.0) + 1;
        self.homes(instance).find(|&place| self.everybody[place].tag() == tag)
    }

    /// Finds or makes room for an instance; where there is none, the one silent for longest gives way.
    fn home_to_learn(&self, instance: InstanceId) -> usize {
        if let Some(home) = self.home(instance) {
            return home;
        }
        let room = |place: &usize| (self.everybody[*place].tag() != 0, self.everybody[*place].heard_s());
        let home = self.homes(instance).min_by_key(room).unwrap_or(0);
        self.everybody[home].claim(u64::from(instance.0) + 1, instance.0, 0);
        self.others[home].claim(u64::from(instance.0) + 1, instance.0, 0);
        home
    }

    fn homes(&self, instance: InstanceId) -> impl Iterator<Item = usize> {
        let mask = self.everybody.len() - 1;
        let first = hash::mix(u64::from(instance.0)) as usize;
        (0..PROBES).map(move |probe| first.wrapping_add(probe) & mask)
    }
}

impl Line {
    fn word(&self, instance: u32) -> &AtomicU64 {
        &self.0[word_of(instance)]
    }

    fn mentions(&self, instance: u32) -> bool {
        self.word(instance).load(Relaxed) & bit(instance) != 0
    }

    /// A bit of any word.
    fn together(&self) -> u64 {
        self.0.iter().fold(0, |bits, word| bits | word.load(Relaxed))
    }

    fn store(&self, words: [u64; WORDS]) {
        self.0.iter().zip(words).for_each(|(place, word)| place.store(word, Relaxed));
    }
}

/// Which word of its notes an instance is in.
fn word_of(instance: u32) -> usize {
    instance as usize / 64 % WORDS
}

/// An instance's bit in that word.
fn bit(instance: u32) -> u64 {
    1 << (instance % 64)
}

fn pair_key(consumer_key: u64, instance: InstanceId) -> u64 {
    let spread = (u64::from(instance.0) + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash::fold(consumer_key ^ spread).max(1)
}

#[cfg(test)]
mod tests;
