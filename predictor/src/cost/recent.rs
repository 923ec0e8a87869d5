//! The last cost of the very same request, and how long ago that was.
//!
//! Caches make the second of two equal requests cheap, and a cost depends then on how much else came between. One
//! slot a key, the newer takes it: what was forgotten here has most likely left the producer's cache as well. 16 bytes
//! a slot, relaxed atomics, one writer.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

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

    fn slot(&self, key: u64) -> &Slot {
        &self.slots[key as usize & (self.slots.len() - 1)]
    }
}

fn tag(key: u64) -> u32 {
    ((key >> 32) as u32).max(1)
}
