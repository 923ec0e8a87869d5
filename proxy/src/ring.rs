//! From the hot path to the control loop: bounded rings that drop and count rather than wait.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use foretide_routing::observe::{Observation, Refusal};

/// Finished tries on their way to the controller.
pub type ObservationRing = Ring<Observation>;
/// Requests that were not let in, for people: under a flood of them most are only counted.
pub type RefusalRing = Ring<Refusal>;

/// What happened on the hot path, on its way to the controller. Lock-free; memory is taken once, at the start.
#[derive(Debug)]
pub struct Ring<T> {
    queue: ArrayQueue<T>,
    dropped: AtomicU64,
}

impl<T> Ring<T> {
    /// Room for `capacity` of them between two ticks.
    pub fn new(capacity: usize) -> Self {
        Self { queue: ArrayQueue::new(capacity.max(1)), dropped: AtomicU64::new(0) }
    }

    /// Leaves one; a full ring drops it and counts.
    pub fn push(&self, item: T) {
        if self.queue.push(item).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the oldest.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
