//! Gateway mode: where requests wait while every slot of their pool is taken, and who goes next.
//!
//! A request that waits here can still go to whichever instance has a free slot first; one that was sent on waits behind
//! what it found there. Shortest predicted first, with ageing ([`foretide_steering::queue`]). A [`Pass`] stands for one
//! slot of the pool: who holds one may be sent, and dropping it, on whatever path, lets the next one in. There are as many as
//! the pool has slots in the newest table; where that falls, passes are given out again when enough have come back.
//!
//! Bounded: beyond the pool's limit a request is refused at once; who has waited for too long is let go by the caller.
//! Only pools that ask for it have a queue, and only their requests take its lock.
//!
//! Known weakness: several proxies in front of one pool each count only their own requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foretide_predictor::time::Timestamp;
use foretide_routing::table::PoolTable;
use foretide_steering::queue::{Next, Queue};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::sync::oneshot;

const LENGTH: &str = "foretide_queue_length";
const REFUSED: &str = "foretide_queue_refused_total";

/// Queues by pool. Pools come from the configuration, so there are never many.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: Mutex<BTreeMap<Arc<str>, Arc<Room>>>,
}

/// One pool's queue.
pub(super) struct Room {
    state: Mutex<State>,
    length: Gauge,
    full: Counter,
    expired: Counter,
}

struct State {
    queue: Queue<oneshot::Sender<Pass>>,
    limit: usize,
    /// Passes given out.
    admitted: u64,
    /// Slots of the pool.
    slots: u64,
}

/// One slot of a pool.
pub(super) struct Pass {
    room: Option<Arc<Room>>,
}

/// What becomes of a request that wants a slot.
pub(super) enum Entered {
    /// There is one.
    Admitted(Pass),
    /// It comes through this, unless the wait gets too long.
    Waits(oneshot::Receiver<Pass>, Arc<Room>),
    /// Too many wait.
    Full,
}

/// Says what the metrics mean.
pub(super) fn describe() {
    describe_gauge!(LENGTH, "Requests that wait in the proxy for a slot of their pool");
    describe_counter!(REFUSED, "Requests that found the queue full, or waited in it for too long");
}

impl Rooms {
    /// A request of predicted work wants a slot of this pool; `None`: the pool has no queue.
    pub(super) fn enter(&self, pool: &PoolTable, work_us: f64, arrived: Timestamp) -> Option<Entered> {
        let limit = pool.settings.queue?.limit;
        let slots = pool.instances.iter().map(|entry| u64::from(entry.concurrency)).sum();
        let room = Arc::clone(
            locked(&self.rooms).entry(Arc::clone(&pool.name)).or_insert_with(|| Room::new(&pool.name)),
        );
        Some(room.enter(work_us, arrived, slots, limit))
    }
}

impl Room {
    fn new(pool: &Arc<str>) -> Arc<Self> {
        let refused =
            |reason: &'static str| counter!(REFUSED, "pool" => Arc::clone(pool), "reason" => reason);
        let state = State { queue: Queue::new(0), limit: 0, admitted: 0, slots: 0 };
        let length = gauge!(LENGTH, "pool" => Arc::clone(pool));
        Arc::new(Self {
            state: Mutex::new(state),
            length,
            full: refused("full"),
            expired: refused("expired"),
        })
    }

    fn enter(self: Arc<Self>, work_us: f64, arrived: Timestamp, slots: u64, limit: usize) -> Entered {
        let mut state = locked(&self.state);
        state.slots = slots;
        if state.queue.is_empty() {
            if state.limit != limit {
                state.queue = Queue::new(limit);
                state.limit = limit;
            }
            if state.admitted < slots {
                state.admitted += 1;
                drop(state);
                return Entered::Admitted(Pass { room: Some(self) });
            }
        }
        let (wake, woken) = oneshot::channel();
        // Who waits looks at the time itself.
        let pushed = state.queue.push(wake, work_us, arrived, Timestamp::from_us(u64::MAX));
        self.length.set(state.queue.len() as f64);
        drop(state);
        if pushed.is_err() {
            self.full.increment(1);
            return Entered::Full;
        }
        // A new instance may have brought slots while others waited.
        self.admit();
        Entered::Waits(woken, self)
    }

    /// A request has waited for too long.
    pub(super) fn expired(&self) {
        self.expired.increment(1);
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
        let (Next::Serve(wake) | Next::Expired(wake)) = state.queue.pop(Timestamp::ZERO)?;
        state.admitted += 1;
        self.length.set(state.queue.len() as f64);
        Some(wake)
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds a lock here can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(room: &Arc<Room>, work_us: f64) -> Entered {
        Arc::clone(room).enter(work_us, Timestamp::ZERO, 2, 3)
    }

    fn waits(entered: Entered) -> oneshot::Receiver<Pass> {
        match entered {
            Entered::Waits(woken, _) => woken,
            Entered::Admitted(_) | Entered::Full => panic!("does not wait"),
        }
    }

    #[test]
    fn the_shortest_goes_next_and_the_queue_is_bounded() {
        let room = Room::new(&"pool".into());
        let passes = [enter(&room, 5.0), enter(&room, 5.0)];
        assert!(passes.iter().all(|entered| matches!(entered, Entered::Admitted(_))));
        let (mut heavy, mut light) = (waits(enter(&room, 900.0)), waits(enter(&room, 10.0)));
        let gone = waits(enter(&room, 1.0));
        assert!(matches!(enter(&room, 1.0), Entered::Full));
        drop(gone);
        let [first, second] = passes;
        drop(first);
        let served = light.try_recv().expect("the shortest of those still there");
        assert!(heavy.try_recv().is_err());
        drop(second);
        assert!(heavy.try_recv().is_ok());
        drop(served);
        assert_eq!(locked(&room.state).admitted, 0, "every slot has come back");
        assert!(matches!(enter(&room, 1.0), Entered::Admitted(_)));
    }

    #[test]
    fn new_slots_let_in_who_waits() {
        let room = Room::new(&"pool".into());
        let _held = [enter(&room, 5.0), enter(&room, 5.0)];
        let mut first = waits(enter(&room, 5.0));
        let mut second = waits(Arc::clone(&room).enter(9.0, Timestamp::ZERO, 4, 3));
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
    }
}
