//! Gateway mode: where requests wait while every slot of their pool is taken, and who goes next.
//!
//! A request that waits here can still go to whichever instance has a free slot first; one that was sent on waits behind
//! what it found there. Shortest predicted first, by priority, with ageing ([`foretide_steering::queue`]). A [`Pass`] stands
//! for one slot of the pool: who holds one may be sent, and dropping it, on whatever path, lets the next one in. There are
//! as many as the pool has slots in the newest table; where that falls, passes are given out again when enough have come
//! back.
//!
//! Bounded: beyond the pool's limit a request is refused at once. Who waits is let go when the queue's timeout or its own is
//! over, or as soon as it could no longer be in time; whoever stops waiting, for whatever reason, gives up its place.
//! Only pools that ask for it have a queue, and only their requests take its lock.
//!
//! Known weakness: several proxies in front of one pool each count only their own requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foretide_routing::table::PoolTable;
use foretide_steering::admission::Priority;
use foretide_steering::queue::{Guest, Next, Place, Queue};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::sync::oneshot;

use crate::clock::Clock;

const LENGTH: &str = "foretide_queue_length";
const REFUSED: &str = "foretide_queue_refused_total";

/// Queues by pool. Pools come from the configuration, so there are never many.
pub(super) struct Rooms {
    rooms: Mutex<BTreeMap<Arc<str>, Arc<Room>>>,
    clock: Clock,
}

/// One pool's queue.
pub(super) struct Room {
    state: Mutex<State>,
    clock: Clock,
    length: Gauge,
    full: Counter,
    expired: Counter,
    late: Counter,
}

struct State {
    queue: Queue<oneshot::Sender<Pass>>,
    /// Passes given out.
    admitted: u64,
    /// Slots of the pool.
    slots: u64,
}

/// One slot of a pool.
pub(super) struct Pass {
    room: Option<Arc<Room>>,
}

/// A place in a queue, given up when dropped.
pub(super) struct Wait {
    woken: oneshot::Receiver<Pass>,
    room: Arc<Room>,
    place: Place,
}

/// What becomes of a request that wants a slot.
pub(super) enum Entered {
    /// There is one.
    Admitted(Pass),
    /// It comes later, unless the wait gets too long.
    Waits(Wait),
    /// Too many wait.
    Full,
}

/// What a request that comes now would find.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line {
    /// Requests that wait.
    pub(super) waiting: u32,
    /// Work that would go before it, microseconds; 0 while there is a free slot.
    pub(super) before_us: f64,
}

/// Says what the metrics mean.
pub(super) fn describe() {
    describe_gauge!(LENGTH, "Requests that wait in the proxy for a slot of their pool");
    describe_counter!(
        REFUSED,
        "Requests that found the queue full, waited in it for too long, or could no longer be in time"
    );
}

impl Rooms {
    pub(super) fn new(clock: Clock) -> Self {
        Self { rooms: Mutex::default(), clock }
    }

    /// A request wants a slot of this pool; `None`: the pool has no queue.
    pub(super) fn enter(&self, pool: &PoolTable, guest: Guest) -> Option<Entered> {
        let limit = pool.settings.queue?.limit;
        let slots = pool.instances.iter().map(|entry| u64::from(entry.concurrency)).sum();
        let room = Arc::clone(
            locked(&self.rooms)
                .entry(Arc::clone(&pool.name))
                .or_insert_with(|| Room::new(&pool.name, self.clock)),
        );
        Some(room.enter(guest, slots, limit))
    }

    /// What a request of this work and priority would find there.
    pub(super) fn line(&self, pool: &str, work_us: f64, priority: Priority) -> Line {
        let room = locked(&self.rooms).get(pool).map(Arc::clone);
        let Some(room) = room else { return Line::default() };
        let state = locked(&room.state);
        let free = state.queue.is_empty() && state.admitted < state.slots;
        let before_us = if free { 0.0 } else { f64::from(state.queue.before_us(work_us, priority)) };
        Line { waiting: state.queue.len() as u32, before_us }
    }
}

impl Room {
    fn new(pool: &Arc<str>, clock: Clock) -> Arc<Self> {
        let refused =
            |reason: &'static str| counter!(REFUSED, "pool" => Arc::clone(pool), "reason" => reason);
        Arc::new(Self {
            state: Mutex::new(State { queue: Queue::new(0), admitted: 0, slots: 0 }),
            clock,
            length: gauge!(LENGTH, "pool" => Arc::clone(pool)),
            full: refused("full"),
            expired: refused("expired"),
            late: refused("late"),
        })
    }

    fn enter(self: Arc<Self>, guest: Guest, slots: u64, limit: usize) -> Entered {
        let mut state = locked(&self.state);
        state.slots = slots;
        state.queue.set_room(limit);
        if state.queue.is_empty() && state.admitted < slots {
            state.admitted += 1;
            drop(state);
            return Entered::Admitted(Pass { room: Some(self) });
        }
        let (wake, woken) = oneshot::channel();
        let pushed = state.queue.push(wake, guest);
        self.length.set(state.queue.len() as f64);
        drop(state);
        let Ok(place) = pushed else {
            self.full.increment(1);
            return Entered::Full;
        };
        // A new instance may have brought slots while others waited.
        self.admit();
        Entered::Waits(Wait { woken, room: self, place })
    }

    /// Gives out passes while there are slots and somebody waits.
    fn admit(self: &Arc<Self>) {
        while let Some(wake) = self.next() {
            if let Err(mut unwanted) = wake.send(Pass { room: Some(Arc::clone(self)) }) {
                // Gone meanwhile. Taken back here: dropping it would come back to this place, call within call.
                unwanted.room = None;
                locked(&self.state).admitted -= 1;
            }
        }
    }

    fn next(&self) -> Option<oneshot::Sender<Pass>> {
        let mut state = locked(&self.state);
        if state.admitted >= state.slots {
            return None;
        }
        let now = if state.queue.is_empty() { return None } else { self.clock.now() };
        let next = loop {
            match state.queue.pop(now) {
                Some(Next::Serve(wake)) => break Some(wake),
                // Dropping what would wake it tells it that it is too late.
                Some(Next::Expired(_)) => {}
                None => break None,
            }
        };
        state.admitted += u64::from(next.is_some());
        self.length.set(state.queue.len() as f64);
        next
    }
}

impl Wait {
    /// The slot, once there is one; `None`: it is too late for it.
    pub(super) async fn pass(&mut self) -> Option<Pass> {
        (&mut self.woken).await.ok()
    }

    /// It waited for longer than the queue allows.
    pub(super) fn expired(&self) {
        self.room.expired.increment(1);
    }

    /// It could no longer be in time.
    pub(super) fn late(&self) {
        self.room.late.increment(1);
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = locked(&self.room.state);
        let left = state.queue.leave(self.place);
        if left.is_some() {
            self.room.length.set(state.queue.len() as f64);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            locked(&room.state).admitted -= 1;
            room.admit();
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds such a lock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_predictor::time::Timestamp;

    fn guest(work_us: f64) -> Guest {
        let latest = Timestamp::from_us(u64::MAX);
        Guest { work_us, priority: Priority::Normal, arrived: Timestamp::ZERO, latest }
    }

    fn room() -> Arc<Room> {
        Room::new(&"pool".into(), Clock::start())
    }

    fn enter(room: &Arc<Room>, work_us: f64) -> Entered {
        Arc::clone(room).enter(guest(work_us), 2, 3)
    }

    fn waits(entered: Entered) -> Wait {
        match entered {
            Entered::Waits(wait) => wait,
            Entered::Admitted(_) | Entered::Full => panic!("does not wait"),
        }
    }

    #[test]
    fn the_shortest_goes_next_and_the_queue_is_bounded() {
        let room = room();
        let passes = [enter(&room, 5.0), enter(&room, 5.0)];
        assert!(passes.iter().all(|entered| matches!(entered, Entered::Admitted(_))));
        let (mut heavy, mut light) = (waits(enter(&room, 900.0)), waits(enter(&room, 10.0)));
        let gone = waits(enter(&room, 1.0));
        assert!(matches!(enter(&room, 1.0), Entered::Full));
        drop(gone);
        assert_eq!(locked(&room.state).queue.work_us(), 910, "who has gone is out of the sums");
        let [first, second] = passes;
        drop(first);
        let served = light.woken.try_recv().expect("the shortest of those still there");
        assert!(heavy.woken.try_recv().is_err());
        drop(second);
        assert!(heavy.woken.try_recv().is_ok());
        drop(served);
        assert_eq!(locked(&room.state).admitted, 0, "every slot has come back");
        assert!(matches!(enter(&room, 1.0), Entered::Admitted(_)));
    }

    #[test]
    fn new_slots_let_in_who_waits() {
        let room = room();
        let _held = [enter(&room, 5.0), enter(&room, 5.0)];
        let mut first = waits(enter(&room, 5.0));
        let mut second = waits(Arc::clone(&room).enter(guest(9.0), 4, 3));
        assert!(first.woken.try_recv().is_ok() && second.woken.try_recv().is_ok());
    }

    #[tokio::test]
    async fn who_is_too_late_is_told_when_its_turn_comes_and_the_next_one_goes() {
        let room = room();
        let held = [enter(&room, 5.0), enter(&room, 5.0)];
        let late = Guest { latest: Timestamp::ZERO, ..guest(1.0) };
        let mut late = waits(Arc::clone(&room).enter(late, 2, 3));
        let mut heavy = waits(enter(&room, 900.0));
        drop(held);
        assert!(late.pass().await.is_none());
        assert!(heavy.pass().await.is_some());
        assert_eq!(locked(&room.state).admitted, 0);
    }

    #[test]
    fn a_line_is_what_goes_before() {
        let rooms = Rooms::new(Clock::start());
        let room = room();
        locked(&rooms.rooms).insert("pool".into(), Arc::clone(&room));
        let line = |work_us| rooms.line("pool", work_us, Priority::Normal);
        let _first = enter(&room, 5.0);
        assert_eq!(line(1e6), Line { waiting: 0, before_us: 0.0 }, "a slot is free");
        let _second = enter(&room, 5.0);
        let _waits = waits(enter(&room, 900.0));
        assert_eq!(line(1.0), Line { waiting: 1, before_us: 0.0 });
        assert_eq!(line(1e6), Line { waiting: 1, before_us: 900.0 });
        assert_eq!(rooms.line("another", 1e6, Priority::Normal), Line::default());
    }
}
