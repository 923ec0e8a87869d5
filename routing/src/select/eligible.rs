//! Whom a try may use: all instances but those already tried, or all if nothing else is left. In gateway mode only those
//! with a free slot: who has waited for one must not wait again elsewhere. And never one that has as many requests in flight
//! as the pool allows: there a request is better refused.

use crate::select::weighted::Schedule;
use crate::settings::PoolSettings;
use crate::table::{InstanceEntry, PoolTable};
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use std::time::Duration;

/// Share of its load that a new instance starts with; the ramp ends at 1.
const WARM_START: f64 = 0.1;

/// A pool's instances as one try sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Eligible<'a> {
    instances: &'a [InstanceEntry],
    tried: &'a [InstanceId],
    /// Only with a free slot.
    with_room: bool,
    /// Requests an instance may have in flight.
    most: u32,
    slow_start: Duration,
    now: Timestamp,
}

impl<'a> Eligible<'a> {
    /// Of `instances`, without `tried`, or with them if nothing else is left.
    pub(crate) fn new(
        instances: &'a [InstanceEntry],
        settings: &PoolSettings,
        tried: &'a [InstanceId],
        now: Timestamp,
    ) -> Self {
        let exhausted = !tried.is_empty() && instances.iter().all(|entry| tried.contains(&entry.id));
        Self::untried(instances, settings, if exhausted { &[] } else { tried }, now)
    }

    /// Of `instances`, without `tried`, even if nothing is left.
    pub(crate) fn untried(
        instances: &'a [InstanceEntry],
        settings: &PoolSettings,
        tried: &'a [InstanceId],
        now: Timestamp,
    ) -> Self {
        let with_room = settings.queue.is_some();
        let most = settings.choice.max_requests.unwrap_or(u32::MAX);
        Self { instances, tried, with_room, most, slow_start: settings.slow_start, now }
    }

    /// All instances of the pool, by index.
    pub(crate) fn all(&self) -> &'a [InstanceEntry] {
        self.instances
    }

    /// The time of the try.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether instances may be full.
    pub(crate) fn is_limited(&self) -> bool {
        self.with_room || self.most != u32::MAX
    }

    /// Requests from which on an instance of such a pool gets no more.
    pub(crate) fn full_from(settings: &PoolSettings, entry: &InstanceEntry) -> u32 {
        let most = settings.choice.max_requests.unwrap_or(u32::MAX);
        full_from(entry, settings.queue.is_some(), most)
    }

    /// Whether the try may use anybody.
    pub(crate) fn is_anybody(&self) -> bool {
        (0..self.instances.len()).any(|index| self.allows(index))
    }

    /// Whether this try may use it.
    pub(crate) fn allows(&self, index: usize) -> bool {
        self.is_untried(index) && self.has_room(index, self.with_room)
    }

    /// Whether nothing was tried before.
    pub(crate) fn is_first_try(&self) -> bool {
        self.tried.is_empty()
    }

    fn is_untried(&self, index: usize) -> bool {
        self.is_first_try() || !self.tried.contains(&self.instances[index].id)
    }

    fn has_room(&self, index: usize, for_a_slot: bool) -> bool {
        let entry = &self.instances[index];
        let most = full_from(entry, for_a_slot, self.most);
        most == u32::MAX || entry.live.requests_at_once() < most
    }

    /// The first one allowed at or after `start`, counted round, or if all slots are taken the first one untried;
    /// `None` only if the pool is empty or all have as much in flight as they may.
    pub(crate) fn from(&self, start: usize) -> Option<usize> {
        let count = self.instances.len();
        let places = || (0..count).map(|step| (start % count + step) % count);
        let without_slot =
            |index: usize| self.with_room && self.is_untried(index) && self.has_room(index, false);
        places().find(|&index| self.allows(index)).or_else(|| places().find(|&index| without_slot(index)))
    }

    /// Two different ones at random; the same twice if there is only one.
    pub(crate) fn two(&self, chance: u64) -> Option<(usize, usize)> {
        let count = self.instances.len();
        let first = self.from(below(chance, count))?;
        // One of the others, each with the same probability when nothing was tried.
        let second = self.from(first + 1 + below(mix(chance), count.saturating_sub(1)))?;
        Some((first, second))
    }

    /// Two at random, each with the probability of its weight; perhaps the same twice.
    pub(crate) fn two_weighted(&self, schedule: &Schedule, chance: u64) -> Option<(usize, usize)> {
        let first = self.from(schedule.draw(chance)?)?;
        let second = self.from(schedule.draw(mix(chance))?)?;
        // The same again: another draw, and then it is meant to be.
        let second = if second == first { self.from(schedule.draw(mix(!chance))?)? } else { second };
        Some((first, second))
    }

    /// Share of its usual load an instance gets now.
    pub(crate) fn warmth(&self, entry: &InstanceEntry) -> f64 {
        warmth(entry.warm_since, self.slow_start, self.now)
    }
}

/// Requests from which on an instance is full: never more than the pool allows, and if a slot is wanted as many as it has.
fn full_from(entry: &InstanceEntry, for_a_slot: bool, most: u32) -> u32 {
    if for_a_slot { entry.concurrency.min(most) } else { most }
}

/// Whether every instance of a pool has as many requests in flight as the pool allows.
pub fn is_full(pool: &PoolTable) -> bool {
    let Some(most) = pool.settings.choice.max_requests else { return false };
    pool.instances.iter().all(|entry| entry.live.requests_at_once() >= most)
}

/// Share of its usual load that an instance gets: a linear ramp from 0.1 to 1 over the pool's slow start.
pub fn warmth(warm_since: Timestamp, slow_start: Duration, now: Timestamp) -> f64 {
    let age_us = now.as_us().saturating_sub(warm_since.as_us());
    let ramp_us = slow_start.as_micros() as u64;
    if age_us >= ramp_us {
        return 1.0;
    }
    WARM_START + (1.0 - WARM_START) * (age_us as f64 / ramp_us as f64)
}

/// A number below `bound` from 64 random bits, without division (Lemire 2019, bias below 2^-32); 0 for bound 0.
pub(crate) fn below(chance: u64, bound: usize) -> usize {
    ((u128::from(chance) * bound as u128) >> 64) as usize
}
