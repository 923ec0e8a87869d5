//! From a routed request to one that may be sent: the pool's door, then its queue.
//!
//! Who waits is let go at the first of three moments: when the queue's own timeout is over (503, `UO`), when it could no
//! longer be in time (503, `OM`), when the route's time for the whole request is over (504, `UT`).

use std::time::Duration;

use foretide_predictor::time::Timestamp;
use foretide_routing::foresee;
use foretide_routing::observe::{Refusal, RefusalReason};
use foretide_steering::queue::Guest;
use tokio::time::Instant;

use super::{RequestContext, Routed, pool_of};
use crate::engine::access_line::Flag;
use crate::engine::admission::{Caller, TurnedAway};
use crate::engine::waiting::{Entered, Pass, Wait};

/// How long a request waits in the proxy, and what ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Patience {
    pub(in crate::engine) until: Instant,
    pub(in crate::engine) end: WaitEnd,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum WaitEnd {
    /// The whole request is over its time.
    Request,
    /// It could no longer be in time for whoever asked.
    Deadline,
    /// The queue keeps nobody longer.
    Queue,
}

impl RequestContext {
    /// Asks at the pool's door. Something: it is turned away.
    pub(in crate::engine) fn apply(&mut self) -> Option<TurnedAway> {
        let left = self.time_left();
        let routed = self.routed.as_mut()?;
        let pool = pool_of(routed)?;
        pool.settings.admission?;
        let caller = Caller {
            table: &routed.table,
            pool,
            prediction: &routed.prediction,
            claim: routed.claim,
            left,
            now: self.latest.stamp,
            chance: self.shared.chance.draw().bits,
        };
        match self.shared.doors.ask(&self.shared.rooms, &caller)? {
            Ok(admitted) => {
                routed.admitted = Some(admitted);
                None
            }
            Err(turned_away) => {
                self.flag = Flag::Refused;
                self.refused(turned_away);
                Some(turned_away)
            }
        }
    }

    /// Asks for a slot of the pool, and says how long to wait for it; `None`: its requests need none.
    pub(in crate::engine) fn enter(&self) -> Option<(Entered, Patience)> {
        let routed = self.routed.as_ref()?;
        let pool = pool_of(routed)?;
        let timeout = pool.settings.queue?.timeout;
        let latest = routed.latest_start();
        let guest = Guest {
            work_us: f64::from(routed.prediction.steering.work_us),
            priority: routed.claim.priority,
            arrived: self.arrived.stamp,
            latest: latest.map_or(Timestamp::from_us(u64::MAX), |latest| self.arrived.stamp.plus(latest)),
        };
        let entered = self.shared.rooms.enter(pool, guest)?;
        let ends = [
            (self.deadline, WaitEnd::Request),
            (latest.map(|latest| Instant::from_std(self.arrived.instant) + latest), WaitEnd::Deadline),
            (Some(Instant::from_std(self.latest.instant) + timeout), WaitEnd::Queue),
        ];
        let ends = ends.into_iter().filter_map(|(until, end)| Some(Patience { until: until?, end }));
        Some((entered, ends.min_by_key(|patience| patience.until)?))
    }

    /// It has its slot, perhaps after a while: the fleet may have changed since.
    pub(in crate::engine) fn admit(&mut self, pass: Pass) {
        self.read_clock();
        if let Some(routed) = self.routed.as_mut() {
            routed.pass = Some(pass);
            routed.refresh(&self.shared.table.load());
        }
    }

    /// It has waited in vain; the status to say so with.
    pub(in crate::engine) fn let_go(&mut self, wait: &Wait, end: WaitEnd) -> u16 {
        self.read_clock();
        match end {
            WaitEnd::Request => {
                wait.expired();
                self.flag = Flag::Timeout;
                504
            }
            WaitEnd::Queue => {
                wait.expired();
                self.overflow(RefusalReason::QueueTimeout);
                503
            }
            WaitEnd::Deadline => {
                wait.late();
                self.flag = Flag::Refused;
                let admitted = self.routed.as_mut().and_then(|routed| routed.admitted.take());
                let latency_us = admitted.as_ref().and_then(|admitted| admitted.latency_us);
                if let Some(admitted) = admitted {
                    admitted.door.count(RefusalReason::LateInQueue);
                }
                let reason = RefusalReason::LateInQueue;
                let in_flight = self.in_pool();
                self.refused(TurnedAway { reason, latency_us, in_flight, retry_after: Duration::ZERO });
                503
            }
        }
    }

    /// There was no room for it, or for no longer.
    pub(in crate::engine) fn overflow(&mut self, reason: RefusalReason) {
        self.flag = Flag::Overflow;
        let in_flight = self.in_pool();
        self.refused(TurnedAway { reason, latency_us: None, in_flight, retry_after: Duration::ZERO });
    }

    /// It was answered in order at its first try: the door learns from it.
    pub(super) fn tell_door(&mut self, answered_at: Timestamp) {
        let admitted = self.routed.as_mut().and_then(|routed| routed.admitted.take());
        if let Some(admitted) = admitted.filter(|_| self.tries == 1) {
            let latency_us = answered_at.since(self.arrived.stamp).as_micros() as f64;
            admitted.door.observe(admitted.latency_us, latency_us, self.in_pool());
        }
    }

    /// Requests at the pool's instances and in its queue.
    fn in_pool(&self) -> u32 {
        let Some(routed) = &self.routed else { return 0 };
        let Some(pool) = pool_of(routed) else { return 0 };
        let (at_instances, _) = foresee::fill(pool);
        let waiting = pool
            .settings
            .queue
            .map_or(0, |_| self.shared.rooms.line(&pool.name, 0.0, routed.claim.priority).waiting);
        at_instances.saturating_add(waiting)
    }

    /// Tells people.
    fn refused(&self, turned_away: TurnedAway) {
        let Some(routed) = &self.routed else { return };
        self.shared.refusals.push(Refusal {
            arrived_at: self.arrived.stamp,
            pool: routed.facts.pool,
            query: routed.facts.query,
            work_us: routed.prediction.estimate.work_us.mean(),
            latency_us: turned_away.latency_us,
            deadline_us: routed.claim.deadline.map(|deadline| deadline.as_micros() as f64),
            priority: routed.claim.priority,
            in_flight: turned_away.in_flight,
            reason: turned_away.reason,
        });
    }
}

impl Routed {
    /// From its arrival until when serving it still is of use: its deadline less its own time of service.
    fn latest_start(&self) -> Option<Duration> {
        let deadline = self.claim.deadline?;
        let service_us = foresee::queued_us(pool_of(self)?, f64::from(self.prediction.steering.work_us), 0.0);
        Some(deadline.saturating_sub(Duration::from_micros(service_us as u64)))
    }
}
