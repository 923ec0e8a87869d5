//! What the very same request cost before, and how long ago that was.
//!
//! Caches make the second of two equal requests cheap, and a cost depends then on how much else came between. And where
//! requests are made from templates, equal ones cost alike while those that merely look like them do not. One slot a
//! key, the newer takes it: what was forgotten here has most likely left the producer's cache as well. 32 bytes a slot,
//! relaxed atomics, one writer.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use wide::f32x4;

use crate::cost::cells::LEAST_REACH;
use crate::cost::lanes::{SharedFour, SharedTwo, at_least, at_most, first, towards};

/// Recently completed requests by their exact parameters.
#[derive(Debug)]
pub(crate) struct Recent {
    slots: Box<[Slot]>,
    /// Completions so far, wrapping.
    clock: AtomicU32,
}

#[derive(Debug, Default)]
#[repr(align(32))]
struct Slot {
    tag: AtomicU32,
    at: AtomicU32,
    /// Times seen, and ln of the last cost.
    counted: SharedTwo,
    gist: SharedFour,
}

/// What is remembered of one request; of a count of 0: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Same {
    /// ln of its last cost.
    pub log_last: f32,
    /// Completions of any requests since.
    pub age: u32,
    /// Times it was seen.
    pub count: f32,
    /// Mean of ln cost, and shares of its costs above the three class borders.
    pub gist: f32x4,
}

/// A slot for the state file. Its place is the lowest bits of the key, of which a smaller table uses fewer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedSlot {
    place: u32,
    tag: u32,
    same: Same,
}

/// Times seen that the means reach back: as far as those of the cells.
const MEMORY: f32 = 500.0;

impl Same {
    /// Seen once, just now.
    fn once(gist: f32x4) -> Self {
        Self { log_last: gist.as_array()[0], age: 0, count: 1.0, gist }
    }

    /// Seen again, just now.
    #[inline(always)]
    fn again(self, gist: f32x4) -> Self {
        let count = at_most(self.count + 1.0, MEMORY);
        let (log, mean) = (gist.as_array()[0], self.gist.as_array()[0]);
        // Who lies now and then does not own what all others who ask the same are told.
        let log_last = at_least(at_most(log, mean + LEAST_REACH), mean - LEAST_REACH);
        let drawn_in = gist + first(log_last - log);
        Self { log_last, age: 0, count, gist: towards(self.gist, drawn_in, f32x4::splat(1.0 / count)) }
    }

    fn is_sound(&self) -> bool {
        let [log_mean, shares @ ..] = self.gist.to_array();
        let counted = (1.0..=MEMORY).contains(&self.count);
        self.log_last.is_finite()
            && log_mean.is_finite()
            && counted
            && shares.iter().all(|share| (-0.01..=1.01).contains(share))
    }
}

impl Slot {
    #[inline(always)]
    fn same(&self, clock: u32) -> Same {
        let [count, log_last] = self.counted.load();
        Same { log_last, age: clock.wrapping_sub(self.at.load(Relaxed)), count, gist: self.gist.load() }
    }

    #[inline(always)]
    fn put(&self, tag: u32, same: Same, clock: u32) {
        self.tag.store(tag, Relaxed);
        self.at.store(clock.wrapping_sub(same.age), Relaxed);
        self.counted.store([same.count, same.log_last]);
        self.gist.store(same.gist);
    }
}

impl Recent {
    /// Room for so many, rounded up to a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = (0..capacity.next_power_of_two()).map(|_| Slot::default()).collect();
        Self { slots, clock: AtomicU32::new(0) }
    }

    /// What is remembered of it.
    #[inline(always)]
    pub(crate) fn same(&self, key: u64) -> Same {
        let slot = self.slot(key);
        if slot.tag.load(Relaxed) == tag(key) { slot.same(self.clock.load(Relaxed)) } else { Same::default() }
    }

    /// It completed: ln of its cost, and 1 for each class border it is above.
    #[inline(always)]
    pub(crate) fn note(&self, key: u64, gist: f32x4) {
        let clock = self.clock.load(Relaxed).wrapping_add(1);
        self.clock.store(clock, Relaxed);
        let (slot, tag) = (self.slot(key), tag(key));
        let is_known = slot.tag.load(Relaxed) == tag;
        let same = if is_known { slot.same(clock).again(gist) } else { Same::once(gist) };
        slot.put(tag, same, clock);
    }

    /// All that is remembered, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<SavedSlot> {
        let clock = self.clock.load(Relaxed);
        let saved = |(place, slot): (usize, &Slot)| SavedSlot {
            place: place as u32,
            tag: slot.tag.load(Relaxed),
            same: slot.same(clock),
        };
        let mut saved: Vec<_> =
            self.slots.iter().enumerate().map(saved).filter(|slot| slot.tag != 0).collect();
        saved.sort_by_key(|slot| std::cmp::Reverse(slot.same.age));
        saved
    }

    /// Remembers again; what is not sound is left out. In a smaller table the newer of two in one place stays.
    pub(crate) fn restore(&self, saved: &[SavedSlot]) {
        let clock = self.clock.load(Relaxed);
        for kept in saved.iter().filter(|kept| kept.same.is_sound()) {
            self.slot(u64::from(kept.place)).put(kept.tag, kept.same, clock);
        }
    }

    fn slot(&self, key: u64) -> &Slot {
        &self.slots[key as usize & (self.slots.len() - 1)]
    }
}

fn tag(key: u64) -> u32 {
    ((key >> 32) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a cost of this logarithm, below all class borders.
    fn light(log: f32) -> f32x4 {
        f32x4::new([log, 0.0, 0.0, 0.0])
    }

    #[test]
    fn equal_requests_are_averaged() {
        let recent = Recent::new(16);
        recent.note(1 << 32, f32x4::new([2.0, 1.0, 0.0, 0.0]));
        recent.note(2 << 32 | 1, light(9.0));
        recent.note(1 << 32, f32x4::new([4.0, 1.0, 1.0, 0.0]));
        let same = recent.same(1 << 32);
        assert_eq!((same.count, same.log_last, same.age), (2.0, 4.0, 0));
        assert_eq!(same.gist.to_array(), [3.0, 1.0, 0.5, 0.0]);
        // Another request in its place: nothing of the old one is left.
        recent.note(3 << 32, light(7.0));
        assert_eq!(recent.same(1 << 32), Same::default());
        assert_eq!(recent.same(3 << 32), Same::once(light(7.0)));
    }

    #[test]
    fn what_is_saved_is_known_again_with_its_age() {
        let before = Recent::new(64);
        let keys: Vec<u64> = (1..=40).map(|i| i << 32 | (i * 7)).collect();
        for (i, &key) in keys.iter().enumerate() {
            before.note(key, light(i as f32));
        }
        let after = Recent::new(64);
        after.restore(&before.snapshot());
        assert!(keys.iter().filter(|&&key| before.same(key).count > 0.0).count() > 30);
        assert!(keys.iter().all(|&key| after.same(key) == before.same(key)));
        let smaller = Recent::new(16);
        smaller.restore(&before.snapshot());
        assert_eq!(smaller.same(keys[39]), Same::once(light(39.0)), "the newest of those in one place stays");
        let broken = SavedSlot { place: u32::MAX, tag: 5, same: Same::once(light(f32::NAN)) };
        after.restore(&[broken]);
        assert_eq!(after.same(5 << 32 | u64::from(u32::MAX)), Same::default());
    }
}
