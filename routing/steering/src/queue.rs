//! The queue in the proxy, in front of worker pools: who waits, and who goes next.
//!
//! ```text
//! order = x / weight(priority) + 0.02 · arrival        smallest first
//! ```
//!
//! Shortest predicted first, bound late: a request that waits in the proxy can still go to whichever worker becomes free
//! first, one that waits at an instance cannot. Ageing: a request that has waited a second goes before one that is 20 ms
//! shorter and just came, so heavy ones are overtaken for a bounded time only. With equal predictions the order is that
//! of arrival. Work over weight is the order that keeps the weighted sum of waiting least (Smith 1956); so priority does
//! not put a heavy request before every light one, and ageing ends every wait.
//!
//! Bounded: who finds it full is refused at once. Everybody brings the latest moment at which serving it is still worth
//! something: beyond that it is handed out as expired. Who leaves gives up its place, exactly.

use crate::admission::Priority;
use crate::buckets::{Load, Newcomer, whole_us};
use foretide_predictor::time::Timestamp;
use std::collections::BTreeMap;

/// Microseconds of work that a microsecond of waiting is worth: its inverse, 1 / 0.02.
const AGEING: u64 = 50;

/// Who waits. `T` is whatever lets the caller wake it.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: BTreeMap<Place, Waiting<T>>,
    load: Load,
    room: usize,
    arrivals: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    order: u64,
    arrival: u64,
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Goes to the worker that has become free.
    Serve(T),
    /// It is too late for it.
    Expired(T),
}

/// A request that wants to wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guest {
    /// Predicted work, microseconds.
    pub work_us: f64,
    /// What it may expect.
    pub priority: Priority,
    /// When it came.
    pub arrived: Timestamp,
    /// Serving it later than this is of no use.
    pub latest: Timestamp,
}

impl Guest {
    /// Work over weight, whole microseconds: its rank among those that came at the same time.
    fn size_us(&self) -> u64 {
        whole_us(self.work_us / self.priority.weight())
    }
}

#[derive(Debug)]
struct Waiting<T> {
    size_us: u64,
    work_us: u64,
    latest: Timestamp,
    who: T,
}

impl<T> Queue<T> {
    /// For at most `room` requests.
    pub fn new(room: usize) -> Self {
        Self { waiting: BTreeMap::new(), load: Load::default(), room, arrivals: 0 }
    }

    /// Changes how many may wait; those that wait stay.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
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
    pub fn before_us(&self, work_us: f64, priority: Priority) -> f32 {
        self.load.up_to_us(Newcomer::of(work_us / priority.weight()))
    }

    /// Queues a request; where it stands, to be able to leave.
    ///
    /// # Errors
    /// The queue is full: the request comes back, to be refused.
    pub fn push(&mut self, who: T, guest: Guest) -> Result<Place, T> {
        if self.waiting.len() >= self.room {
            return Err(who);
        }
        let (size_us, work_us) = (guest.size_us(), whole_us(guest.work_us));
        self.load.add_as(size_us, work_us);
        self.arrivals += 1;
        let order = size_us.saturating_add(guest.arrived.as_us() / AGEING);
        let place = Place { order, arrival: self.arrivals };
        self.waiting.insert(place, Waiting { size_us, work_us, latest: guest.latest, who });
        Ok(place)
    }

    /// Whose turn it is; `None`: nobody waits.
    pub fn pop(&mut self, now: Timestamp) -> Option<Next<T>> {
        let (_, waiting) = self.waiting.pop_first()?;
        let late = waiting.latest < now;
        let who = self.taken(waiting);
        Some(if late { Next::Expired(who) } else { Next::Serve(who) })
    }

    /// Gives up a place; `None`: its turn has come already.
    pub fn leave(&mut self, place: Place) -> Option<T> {
        let waiting = self.waiting.remove(&place)?;
        Some(self.taken(waiting))
    }

    fn taken(&mut self, waiting: Waiting<T>) -> T {
        self.load.remove_as(waiting.size_us, waiting.work_us);
        waiting.who
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEVER: Timestamp = Timestamp::from_us(u64::MAX);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_us(ms * 1_000)
    }

    fn guest(work_us: f64, arrived: Timestamp) -> Guest {
        Guest { work_us, priority: Priority::Normal, arrived, latest: NEVER }
    }

    fn served<T>(queue: &mut Queue<T>, now: Timestamp) -> Vec<Next<T>> {
        std::iter::from_fn(|| queue.pop(now)).collect()
    }

    #[test]
    fn short_ones_first_but_not_for_ever() {
        let mut queue = Queue::new(4);
        assert!(queue.push("heavy", guest(30_000.0, at(0))).is_ok());
        assert!(queue.push("light", guest(1_000.0, at(10))).is_ok());
        // 29 ms more work are worth 1.45 s of waiting.
        assert!(queue.push("late light", guest(1_000.0, at(1_500))).is_ok());
        assert!(queue.push("in time", guest(1_000.0, at(1_400))).is_ok());
        assert_eq!(queue.push("fifth", guest(1.0, at(10))), Err("fifth"));
        let order = served(&mut queue, at(2_000));
        assert_eq!(order, ["light", "in time", "heavy", "late light"].map(Next::Serve));
    }

    #[test]
    fn equals_go_in_order_of_arrival_and_the_late_ones_expire() {
        let mut queue = Queue::new(8);
        for who in 0..3 {
            assert!(queue.push(who, Guest { latest: at(10 + who), ..guest(5.0, at(1)) }).is_ok());
        }
        assert_eq!(queue.before_us(100.0, Priority::Normal), 15.0);
        assert_eq!(served(&mut queue, at(11)), [Next::Expired(0), Next::Serve(1), Next::Serve(2)]);
    }

    #[test]
    fn the_important_go_before_others_of_up_to_their_weight_in_work() {
        let mut queue = Queue::new(8);
        let ask = |priority, work_us| Guest { priority, ..guest(work_us, at(0)) };
        for (who, priority, work_us) in [
            ("low", Priority::Low, 1_000.0),
            ("light", Priority::Normal, 1_500.0),
            ("usual", Priority::Normal, 3_000.0),
            ("high", Priority::High, 8_000.0),
        ] {
            assert!(queue.push(who, ask(priority, work_us)).is_ok());
        }
        assert_eq!(queue.before_us(1_000.0, Priority::Low), 13_500.0);
        assert_eq!(queue.before_us(100.0, Priority::High), 0.0);
        let order = served(&mut queue, at(0));
        assert_eq!(order, ["light", "high", "usual", "low"].map(Next::Serve));
        assert_eq!(queue.work_us(), 0);
    }

    #[test]
    fn who_leaves_is_out_of_all_sums() {
        let mut queue = Queue::new(2);
        let heavy = queue.push("heavy", guest(1e6, at(0))).unwrap();
        assert!(queue.push("light", guest(10.0, at(0))).is_ok());
        assert_eq!(queue.leave(heavy), Some("heavy"));
        assert_eq!(queue.leave(heavy), None, "only once");
        assert_eq!((queue.len(), queue.work_us()), (1, 10));
        assert!(queue.push("another", guest(1.0, at(0))).is_ok(), "its place is free");
    }

    proptest! {
        #[test]
        fn work_that_waits_is_exact_and_nobody_is_lost(
            works in prop::collection::vec((any::<f64>(), 0u8..3, any::<bool>()), 0..80),
            room in 0usize..60,
        ) {
            let mut queue = Queue::new(room);
            let (mut refused, mut left, mut places) = (0, 0, Vec::new());
            for (who, &(work_us, priority, _)) in works.iter().enumerate() {
                let priority = [Priority::Low, Priority::Normal, Priority::High][usize::from(priority)];
                let asking = Guest { priority, ..guest(work_us, at(who as u64)) };
                match queue.push(who, asking) {
                    Ok(place) => places.push((who, place)),
                    Err(_) => refused += 1,
                }
            }
            prop_assert_eq!(refused, works.len().saturating_sub(room));
            let expected: u64 = works.iter().take(room).map(|&(work_us, _, _)| whole_us(work_us)).sum();
            prop_assert_eq!(queue.work_us(), expected);
            for &(who, place) in places.iter().filter(|&&(who, _)| works[who].2) {
                prop_assert_eq!(queue.leave(place), Some(who));
                left += 1;
            }
            let served = served(&mut queue, at(0)).len();
            prop_assert_eq!((served + left + refused, queue.work_us()), (works.len(), 0));
        }
    }
}
