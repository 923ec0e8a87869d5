//! The queue in the proxy, in front of worker pools: who waits, and who goes next.
//!
//! ```text
//! order = x + 0.02 · arrival        smallest first
//! ```
//!
//! Shortest predicted first, bound late: a request that waits in the proxy can still go to whichever worker becomes free
//! first, one that waits at an instance cannot. Ageing: a request that has waited a second goes before one that is 20 ms
//! shorter and just came, so heavy ones are overtaken for a bounded time only. With equal predictions the order is that
//! of arrival.
//!
//! Bounded: who finds it full is refused at once. Who has waited beyond its deadline is handed out as expired, so that
//! somebody can say so; who has gone away is simply not served by the caller, who knows.
//!
//! Known weakness: requests that have gone away keep their place in the sums until it is their turn.

use crate::buckets::{Load, Newcomer, whole_us};
use foretide_predictor::time::Timestamp;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Microseconds of work that a microsecond of waiting is worth: its inverse, 1 / 0.02.
const AGEING: u64 = 50;

/// Who waits. `T` is whatever lets the caller wake it.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: BinaryHeap<Waiting<T>>,
    load: Load,
    room: usize,
    arrivals: u64,
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Goes to the worker that has become free.
    Serve(T),
    /// Its deadline has passed.
    Expired(T),
}

#[derive(Debug)]
struct Waiting<T> {
    order: u64,
    arrival: u64,
    work_us: u64,
    deadline: Timestamp,
    who: T,
}

impl<T> Queue<T> {
    /// For at most `room` requests, allocated at once.
    pub fn new(room: usize) -> Self {
        Self { waiting: BinaryHeap::with_capacity(room), load: Load::default(), room, arrivals: 0 }
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Work that waits, microseconds.
    pub fn work_us(&self) -> u64 {
        self.load.work_us()
    }

    /// Work that would be served before a newcomer, microseconds.
    pub fn before_us(&self, newcomer: Newcomer) -> f32 {
        self.load.up_to_us(newcomer)
    }

    /// Queues a request of predicted work `work_us` that came at `arrived`.
    ///
    /// # Errors
    /// The queue is full: the request comes back, to be refused.
    pub fn push(&mut self, who: T, work_us: f64, arrived: Timestamp, deadline: Timestamp) -> Result<(), T> {
        if self.waiting.len() >= self.room {
            return Err(who);
        }
        let work_us = whole_us(work_us);
        self.load.add(work_us);
        self.arrivals += 1;
        let order = work_us.saturating_add(arrived.as_us() / AGEING);
        self.waiting.push(Waiting { order, arrival: self.arrivals, work_us, deadline, who });
        Ok(())
    }

    /// Whose turn it is; `None`: nobody waits.
    pub fn pop(&mut self, now: Timestamp) -> Option<Next<T>> {
        let Waiting { work_us, deadline, who, .. } = self.waiting.pop()?;
        self.load.remove(work_us);
        Some(if deadline < now { Next::Expired(who) } else { Next::Serve(who) })
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives out its largest.
        (other.order, other.arrival).cmp(&(self.order, self.arrival))
    }
}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Waiting<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEVER: Timestamp = Timestamp::from_us(u64::MAX);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_us(ms * 1_000)
    }

    #[test]
    fn short_ones_first_but_not_for_ever() {
        let mut queue = Queue::new(4);
        assert!(queue.push("heavy", 30_000.0, at(0), NEVER).is_ok());
        assert!(queue.push("light", 1_000.0, at(10), NEVER).is_ok());
        // 29 ms more work are worth 1.45 s of waiting.
        assert!(queue.push("late light", 1_000.0, at(1_500), NEVER).is_ok());
        assert!(queue.push("in time", 1_000.0, at(1_400), NEVER).is_ok());
        assert_eq!(queue.push("fifth", 1.0, at(10), NEVER), Err("fifth"));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(at(2_000))).collect();
        assert_eq!(order, ["light", "in time", "heavy", "late light"].map(Next::Serve));
    }

    #[test]
    fn equals_go_in_order_of_arrival_and_the_late_ones_expire() {
        let mut queue = Queue::new(8);
        for who in 0..3 {
            assert!(queue.push(who, 5.0, at(1), at(10 + who)).is_ok());
        }
        assert_eq!(queue.before_us(Newcomer::of(100.0)), 15.0);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(at(11))).collect();
        assert_eq!(order, [Next::Expired(0), Next::Serve(1), Next::Serve(2)]);
    }

    proptest! {
        #[test]
        fn work_that_waits_is_exact_and_nobody_is_lost(works in prop::collection::vec(any::<f64>(), 0..80), room in 0usize..60) {
            let mut queue = Queue::new(room);
            let mut refused = 0;
            for (who, &work) in works.iter().enumerate() {
                refused += usize::from(queue.push(who, work, at(who as u64), NEVER).is_err());
            }
            prop_assert_eq!(refused, works.len().saturating_sub(room));
            let expected: u64 = works.iter().take(room).map(|&work| whole_us(work)).sum();
            prop_assert_eq!(queue.work_us(), expected);
            let served = std::iter::from_fn(|| queue.pop(at(0))).count();
            prop_assert_eq!((served + refused, queue.work_us()), (works.len(), 0));
        }
    }
}
