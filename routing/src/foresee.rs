//! How long a request would take in a pool, by what is in flight there now: what admission asks before it lets it in.
//!
//! ```text
//! sent on at once        min over instances of  latency(x, in flight) · exp(rho)         in the form of the pool
//! waits in the proxy     work before it in the queue / capacity + x · slots / capacity       capacity = Σ slots · exp(-rho)
//! ```
//!
//! The request's own latency, not its score: without what it does to others, and with measured speeds in full, because it
//! is compared with a deadline and with what was measured. Up to 128 instances are looked at, from a random one on.
//!
//! Known weakness: who comes later may overtake or share, and what others send there is not seen; admission leaves a margin
//! for that and learns a correction.

use crate::table::{InstanceEntry, PoolTable};
use foretide_steering::buckets::Newcomer;
use foretide_steering::score::{Ahead, Form};

/// Instances looked at: as many as a full scan of the score.
const MOST: usize = 128;

/// Latency of a request of predicted work `work_us` on the instance that is best for it, microseconds; infinite if there is
/// none. `chance`: 64 random bits.
pub fn latency_us(pool: &PoolTable, work_us: f64, chance: u64) -> f64 {
    let newcomer = Newcomer::of(work_us);
    let count = pool.instances.len();
    let start = if count > MOST { (chance % count as u64) as usize } else { 0 };
    let instances = pool.instances.iter().cycle().skip(start).take(count.min(MOST));
    instances.map(|entry| on(entry, pool.form, newcomer)).fold(f64::INFINITY, f64::min)
}

fn on(entry: &InstanceEntry, form: Form, newcomer: Newcomer) -> f64 {
    let in_flight = entry.live.in_flight();
    let busy = in_flight.requests >= entry.concurrency;
    let ahead = Ahead {
        requests: in_flight.requests as f32,
        interference_us: if busy { entry.live.interference_us(newcomer) } else { 0.0 },
        work_us: in_flight.work_us as f32,
    };
    let latency_us = form.latency_us(newcomer.work_us() as f32, &ahead, entry.concurrency as f32);
    f64::from(latency_us * entry.live.speed_residual().exp())
}

/// Latency of a request of predicted work `work_us` that finds work of `before_us` before it in its pool's queue,
/// microseconds; infinite if there is no instance.
pub fn queued_us(pool: &PoolTable, work_us: f64, before_us: f64) -> f64 {
    let slots = |entry: &InstanceEntry| f64::from(entry.concurrency);
    let speed = |entry: &InstanceEntry| f64::from(-entry.live.speed_residual()).exp();
    let all: f64 = pool.instances.iter().map(slots).sum();
    let capacity: f64 = pool.instances.iter().map(|entry| slots(entry) * speed(entry)).sum();
    if capacity > 0.0 { (before_us + work_us * all) / capacity } else { f64::INFINITY }
}

/// Requests in flight in a pool, and its slots.
pub fn fill(pool: &PoolTable) -> (u32, u32) {
    let add = |(requests, slots): (u32, u32), entry: &InstanceEntry| {
        let in_flight = entry.live.in_flight().requests;
        (requests.saturating_add(in_flight), slots.saturating_add(entry.concurrency))
    };
    pool.instances.iter().fold((0, 0), add)
}
