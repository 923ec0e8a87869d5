//! The last cost of the very same request, and how long ago that was.
//!
//! Caches make the second of two equal requests cheap, and a cost depends then on how much else came between. One
//! slot a key, the newer takes it: what was forgotten here has most likely left the producer's cache as well. 16 bytes
//! a slot, relaxed atomics, one writer.

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
#[repr(align(16))]
struct Slot {
    tag: AtomicU32,
    log_last: AtomicU32,
    at: AtomicU32,
}

/// A slot for the state file. Its place is the lowest bits of the key, of which a smaller table uses fewer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedSlot {
    place: u32,
    tag: u32,
    log_last: f32,
    /// Completions since.
    age: u32,
}

impl Recent {
    /// Room for so many, rounded up to a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = (0..capacity.next_power_of_two()).map(|_| Slot::default()).collect();
        Self { slots, clock: AtomicU32::new(0) }
    }

    /// ln of its last cost, and completions since; `None` if it is not remembered.
    pub(crate) fn last(&self, key: u64) -> Option<(f32, u32)> {
        let slot = self.slot(key);
        (slot.tag.load(Relaxed) == tag(key))
            .then(|| (load(&slot.log_last), self.clock.load(Relaxed).wrapping_sub(slot.at.load(Relaxed))))
    }

    /// It completed, at this ln cost.
    pub(crate) fn note(&self, key: u64, log: f32) {
        let now = self.clock.load(Relaxed).wrapping_add(1);
        self.clock.store(now, Relaxed);
        let slot = self.slot(key);
        slot.tag.store(tag(key), Relaxed);
        store(&slot.log_last, log);
        slot.at.store(now, Relaxed);
    }

    /// All that is remembered, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<SavedSlot> {
        let now = self.clock.load(Relaxed);
        let saved = |(place, slot): (usize, &Slot)| SavedSlot {
            place: place as u32,
            tag: slot.tag.load(Relaxed),
            log_last: load(&slot.log_last),
            age: now.wrapping_sub(slot.at.load(Relaxed)),
        };
        let mut saved: Vec<_> =
            self.slots.iter().enumerate().map(saved).filter(|slot| slot.tag != 0).collect();
        saved.sort_by_key(|slot| std::cmp::Reverse(slot.age));
        saved
    }

    /// Remembers again; what is not finite is left out. In a smaller table the newer of two in one place stays.
    pub(crate) fn restore(&self, saved: &[SavedSlot]) {
        let now = self.clock.load(Relaxed);
        for kept in saved.iter().filter(|kept| kept.log_last.is_finite()) {
            let slot = self.slot(u64::from(kept.place));
            slot.tag.store(kept.tag, Relaxed);
            store(&slot.log_last, kept.log_last);
            slot.at.store(now.wrapping_sub(kept.age), Relaxed);
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

    #[test]
    fn what_is_saved_is_known_again_with_its_age() {
        let before = Recent::new(64);
        let keys: Vec<u64> = (1..=40).map(|i| i << 32 | (i * 7)).collect();
        for (i, &key) in keys.iter().enumerate() {
            before.note(key, i as f32);
        }
        let after = Recent::new(64);
        after.restore(&before.snapshot());
        assert!(keys.iter().filter(|&&key| before.last(key).is_some()).count() > 30);
        assert!(keys.iter().all(|&key| after.last(key) == before.last(key)));
        let smaller = Recent::new(16);
        smaller.restore(&before.snapshot());
        assert_eq!(smaller.last(keys[39]), Some((39.0, 0)), "the newest of those in one place stays");
        let broken = SavedSlot { place: u32::MAX, tag: 5, log_last: f32::NAN, age: 3 };
        after.restore(&[broken]);
        assert_eq!(after.last(5 << 32 | u64::from(u32::MAX)), None);
    }
}
