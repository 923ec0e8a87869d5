//! From the hot path to the control loop: a bounded ring that drops and counts rather than waits.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use foretide_routing::observe::Observation;

/// Finished tries on their way to the controller. Lock-free; memory is taken once, at the start.
#[derive(Debug)]
pub struct ObservationRing {
    queue: ArrayQueue<Observation>,
    dropped: AtomicU64,
}

impl ObservationRing {
    /// Room for `capacity` observations between two ticks.
    pub fn new(capacity: usize) -> Self {
        Self { queue: ArrayQueue::new(capacity.max(1)), dropped: AtomicU64::new(0) }
    }

    /// Leaves one; a full ring drops it and counts.
    pub fn push(&self, observation: Observation) {
        if self.queue.push(observation).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the oldest.
    pub fn pop(&self) -> Option<Observation> {
        self.queue.pop()
    }

    /// Dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
