//! What the very same request cost before, and how long ago that was.
//!
//! Caches make the second of two equal requests cheap, and a cost depends then on how much else came between. And where
//! requests are made from templates, equal ones cost alike while those that merely look like them do not. One slot a
//! key, the newer takes it: what was forgotten here has most likely left the producer's cache as well. 32 bytes a slot,
//! relaxed atomics, one writer.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::cost::cells::{load, store};

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
    log_last: AtomicU32,
    at: AtomicU32,
    count: AtomicU32,
    log_mean: AtomicU32,
    above: [AtomicU32; 3],
}

/// What is remembered of one request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Same {
    /// ln of its last cost.
    pub log_last: f32,
    /// Completions of any requests since.
    pub age: u32,
    /// Times it was seen.
    pub count: f32,
    /// Mean of ln cost.
    pub log_mean: f32,
    /// Shares of its costs above the three class borders.
    pub above: [f32; 3],
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
    fn once(log: f32, above: [f32; 3]) -> Self {
        Self { log_last: log, age: 0, count: 1.0, log_mean: log, above }
    }

    /// Seen again, just now.
    fn again(self, log: f32, above: [f32; 3]) -> Self {
        let count = (self.count + 1.0).min(MEMORY);
        let towards = |mean: f32, new: f32| mean + (new - mean) / count;
        Self {
            log_last: log,
            age: 0,
            count,
            log_mean: towards(self.log_mean, log),
            above: std::array::from_fn(|border| towards(self.above[border], above[border])),
        }
    }

    fn is_sound(&self) -> bool {
        let shares = self.above.iter().all(|share| (-0.01..=1.01).contains(share));
        let counted = (1.0..=MEMORY).contains(&self.count);
        self.log_last.is_finite() && self.log_mean.is_finite() && counted && shares
    }
}

impl Slot {
    fn same(&self, clock: u32) -> Same {
        Same {
            log_last: load(&self.log_last),
            age: clock.wrapping_sub(self.at.load(Relaxed)),
            count: load(&self.count),
            log_mean: load(&self.log_mean),
            above: [0, 1, 2].map(|border| load(&self.above[border])),
        }
    }

    fn put(&self, tag: u32, same: Same, clock: u32) {
        self.tag.store(tag, Relaxed);
        store(&self.log_last, same.log_last);
        self.at.store(clock.wrapping_sub(same.age), Relaxed);
        store(&self.count, same.count);
        store(&self.log_mean, same.log_mean);
        self.above.iter().zip(same.above).for_each(|(slot, share)| store(slot, share));
    }
}

impl Recent {
    /// Room for so many, rounded up to a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = (0..capacity.next_power_of_two()).map(|_| Slot::default()).collect();
        Self { slots, clock: AtomicU32::new(0) }
    }

    /// What is remembered of it; `None`: nothing.
    pub(crate) fn same(&self, key: u64) -> Option<Same> {
        let slot = self.slot(key);
        (slot.tag.load(Relaxed) == tag(key)).then(|| slot.same(self.clock.load(Relaxed)))
    }

    /// It completed, at this ln cost, above these class borders.
    pub(crate) fn note(&self, key: u64, log: f32, above: [f32; 3]) {
        let clock = self.clock.load(Relaxed).wrapping_add(1);
        self.clock.store(clock, Relaxed);
        let (slot, tag) = (self.slot(key), tag(key));
        let is_known = slot.tag.load(Relaxed) == tag;
        let same = if is_known { slot.same(clock).again(log, above) } else { Same::once(log, above) };
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

    fn remembered(recent: &Recent, key: u64) -> Option<(f32, u32)> {
        recent.same(key).map(|same| (same.log_last, same.age))
    }

    #[test]
    fn equal_requests_are_averaged() {
        let recent = Recent::new(16);
        recent.note(1 << 32, 2.0, [1.0, 0.0, 0.0]);
        recent.note(2 << 32 | 1, 9.0, [1.0; 3]);
        recent.note(1 << 32, 4.0, [1.0, 1.0, 0.0]);
        let same = recent.same(1 << 32).unwrap();
        assert_eq!((same.count, same.log_mean, same.log_last, same.age), (2.0, 3.0, 4.0, 0));
        assert_eq!(same.above, [1.0, 0.5, 0.0]);
        // Another request in its place: nothing of the old one is left.
        recent.note(3 << 32, 7.0, [1.0; 3]);
        assert_eq!(recent.same(1 << 32), None);
        assert_eq!(recent.same(3 << 32), Some(Same::once(7.0, [1.0; 3])));
    }

    #[test]
    fn what_is_saved_is_known_again_with_its_age() {
        let before = Recent::new(64);
        let keys: Vec<u64> = (1..=40).map(|i| i << 32 | (i * 7)).collect();
        for (i, &key) in keys.iter().enumerate() {
            before.note(key, i as f32, [0.0; 3]);
        }
        let after = Recent::new(64);
        after.restore(&before.snapshot());
        assert!(keys.iter().filter(|&&key| before.same(key).is_some()).count() > 30);
        assert!(keys.iter().all(|&key| after.same(key) == before.same(key)));
        let smaller = Recent::new(16);
        smaller.restore(&before.snapshot());
        assert_eq!(remembered(&smaller, keys[39]), Some((39.0, 0)), "the newest of those in one place stays");
        let broken = SavedSlot { place: u32::MAX, tag: 5, same: Same::once(f32::NAN, [0.0; 3]) };
        after.restore(&[broken]);
        assert_eq!(after.same(5 << 32 | u64::from(u32::MAX)), None);
    }
}
