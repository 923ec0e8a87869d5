//! What a request costs on an instance: its own time plus what it does to others.
//!
//! For a request of predicted work `x` on `k` slots with `n` requests there already, `W` their work, `I(x)` their
//! interference with it (see [`crate::buckets`]):
//!
//! ```text
//! processor sharing   L(x) = x + 2 · I(x) · (n + 1 − k) / (n · k)                        n ≥ k, else x
//! worker pool         L(x) = x + W/k · min(1, n/k)¹² + x/2 · ((n + 1)/k)³
//! score                    = L(x) · slowness / warm + penalty
//! ```
//!
//! Under processor sharing two requests that share a slot delay each other by the smaller of their sizes, so the wait of
//! the newcomer and the wait it brings to the others are the same sum: hence the 2. In a pool with FIFO workers a light
//! request waits for whole heavy ones, so all work counts. Nobody waits where a worker is free: the twelfth power leaves a
//! pool with one free worker of four nearly free, and still a little dear, because a pool that looks full to one balancer
//! is overfull when two think so. The cube makes the last worker dear to heavy requests, which would hold it for long.
//!
//! `heavy_yields` makes heavy requests avoid light ones: their work counts `1 + h` times in `I(x)`. 0 minimises the mean
//! response time; larger values lower the slowdown of light requests, at the price of the tail of heavy ones where
//! instances differ in speed: there, who yields ends on a slow one. Where all are alike hardly anybody pays. So, where nothing
//! else is set, `h` is 10 in a fleet of equals and 0 in one that is not ([`yielding`]).
//!
//! Known weaknesses: the worker-pool form was fitted, not derived; others' requests are not yielded to.

use std::ops::{Add, Div, Mul};

/// Own delay, and as much again for what a request does to the others.
pub const EXTERNALITY: f32 = 2.0;
/// Share of a request's own work that a full pool costs it, in the worker-pool form.
const CROWDING: f32 = 0.5;
/// How much heavy requests yield in a fleet of equals: the slowdown of light ones is then that of least-request, which is
/// hard to beat there, and mean and tail are still lower.
const MOST_YIELDING: f64 = 10.0;
/// A fleet of equals: its instances are measured to differ by no more than that (root mean square of speed residuals; 0.1 to
/// 0.14 where costs are known to a factor of 1.8).
const EQUAL: f64 = 0.15;
/// No fleet of equals: 30 % faster and slower. With a factor of three between instances it is 0.4 to 0.5.
const UNEQUAL: f64 = 0.28;

/// How the instances of a pool serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// All requests in flight progress at once and share the slots (event loops, threads on few cores).
    #[default]
    ProcessorSharing,
    /// As many requests as there are slots progress, the others wait in order of arrival (prefork, worker processes).
    WorkerPool,
}

/// What a newcomer finds on an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ahead {
    /// Requests in flight; a fraction where part of them is an estimate.
    pub requests: f32,
    /// Interference with the newcomer, microseconds.
    pub interference_us: f32,
    /// Their work, microseconds.
    pub work_us: f32,
}

/// What a generation of the routing table fixes of an instance's score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    pub(crate) own: f32,
    /// Slots without the newcomer's.
    pub(crate) spare: f32,
    pub(crate) wait: f32,
    form: Form,
}

impl Terms {
    /// For an instance with so many slots. `own` and `waiting` multiply the request's own work and its waiting: 1, or more
    /// where other requests are expected meanwhile or something is wrong there.
    pub fn new(form: Form, slots: u32, own: f32, waiting: f32) -> Self {
        let slots = slots.max(1) as f32;
        let externality = match form {
            Form::ProcessorSharing => EXTERNALITY,
            Form::WorkerPool => 1.0,
        };
        Self { spare: slots - 1.0, own, wait: externality / slots * waiting, form }
    }

    /// `L(x)`, microseconds, where `requests` are in flight. Their work and their interference with the request,
    /// microseconds, are asked only where they matter.
    #[inline(always)]
    pub fn cost_us(
        &self,
        work_us: f32,
        requests: f32,
        in_flight_us: impl FnOnce() -> f32,
        interference_us: impl FnOnce() -> f32,
    ) -> f32 {
        let own_us = work_us * self.own;
        match self.form {
            Form::ProcessorSharing if requests <= self.spare => own_us,
            Form::ProcessorSharing => {
                own_us + interference_us() * self.wait * ((requests - self.spare) / requests)
            }
            Form::WorkerPool => {
                let taken = |slots: f32| (requests / slots).min(1.0);
                pool_us(own_us, requests, in_flight_us(), (self.spare, self.wait), taken)
            }
        }
    }
}

/// `L(x)` in a worker pool, of one instance or of several at once. `taken`: the share of so many slots that is taken.
#[inline(always)]
pub(crate) fn pool_us<T>(
    own_us: T,
    requests: T,
    in_flight_us: T,
    (spare, wait): (T, T),
    taken: impl Fn(T) -> T,
) -> T
where
    T: Copy + From<f32> + Add<Output = T> + Mul<Output = T> + Div<Output = T>,
{
    let one = T::from(1.0);
    let slots = spare + one;
    let with_it = (requests + one) / slots;
    own_us + in_flight_us * wait * twelfth(taken(slots)) + own_us * T::from(CROWDING) * cube(with_it)
}

impl Form {
    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProcessorSharing => "processor-sharing",
            Self::WorkerPool => "worker-pool",
        }
    }

    /// How long the newcomer itself is expected to take, microseconds, on an instance of average speed. Without what it
    /// does to others: to be compared with deadlines and with what was measured, not to choose by.
    pub fn latency_us(self, work_us: f32, ahead: &Ahead, slots: f32) -> f32 {
        let turns = crowded(ahead.requests, slots);
        match self {
            Self::ProcessorSharing => work_us + ahead.interference_us / slots * turns,
            Self::WorkerPool => work_us + ahead.work_us / slots * turns,
        }
    }
}

/// Share of what is in flight that a newcomer waits for: `(n + 1 − k) / n`, 0 while a slot is free.
fn crowded(requests: f32, slots: f32) -> f32 {
    // In this order a fraction of a request on one slot gives exactly 1.
    let beyond = requests - (slots - 1.0);
    if beyond > 0.0 { beyond / requests } else { 0.0 }
}

#[inline(always)]
fn cube<T: Copy + Mul<Output = T>>(value: T) -> T {
    value * value * value
}

#[inline(always)]
fn twelfth<T: Copy + Mul<Output = T>>(value: T) -> T {
    let sixth = cube(value * value);
    sixth * sixth
}

/// `heavy_yields` for a fleet with these speed residuals, where the operator says nothing; 0 while all are 0, which means that
/// nobody was measured. What is not finite is ignored.
pub fn yielding(rhos: impl Iterator<Item = f64> + Clone) -> f32 {
    let squares = rhos.filter(|rho| rho.is_finite()).map(|rho| rho * rho);
    let mean_square = squares.clone().sum::<f64>() / squares.count().max(1) as f64;
    if mean_square == 0.0 {
        return 0.0;
    }
    (MOST_YIELDING * ((UNEQUAL - mean_square.sqrt()) / (UNEQUAL - EQUAL)).clamp(0.0, 1.0)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(requests: f32, each_us: f32) -> Ahead {
        Ahead { requests, interference_us: requests * each_us, work_us: requests * each_us }
    }

    fn waiting_us(form: Form, slots: u32, work_us: f32, ahead: &Ahead) -> f32 {
        let terms = Terms::new(form, slots, 1.0, 1.0);
        terms.cost_us(work_us, ahead.requests, || ahead.work_us, || ahead.interference_us) - work_us
    }

    #[test]
    fn free_slots_cost_nothing_under_processor_sharing() {
        let form = Form::ProcessorSharing;
        assert_eq!(waiting_us(form, 4, 5.0, &ahead(3.0, 10.0)), 0.0);
        assert_eq!(waiting_us(form, 1, 5.0, &ahead(1.0, 10.0)), 20.0);
        assert_eq!(form.latency_us(5.0, &ahead(1.0, 10.0), 1.0), 15.0);
        // A fraction of a request on one slot: its interference is a fraction already.
        assert!((form.latency_us(5.0, &ahead(0.25, 10.0), 1.0) - 7.5).abs() < 1e-6);
        assert_eq!(form.latency_us(5.0, &ahead(0.0, 10.0), 1.0), 5.0);
        assert_eq!(form.latency_us(5.0, &ahead(-1e-6, 0.0), 1.0), 5.0);
    }

    #[test]
    fn a_worker_pool_gets_dear_with_its_last_slots() {
        let form = Form::WorkerPool;
        let cost = |n: f32| waiting_us(form, 4, 8.0, &ahead(n, 10.0));
        assert!(cost(0.0) < 0.1 && cost(1.0) < 1.0 && cost(3.0) < 6.0 && cost(4.0) > 10.0);
        assert!((cost(4.0) - (10.0 + 4.0 * 1.25f32.powi(3))).abs() < 1e-4);
        assert_eq!(form.latency_us(8.0, &ahead(3.0, 10.0), 4.0), 8.0);
        assert_eq!(form.latency_us(8.0, &ahead(4.0, 10.0), 4.0), 10.5);
    }

    #[test]
    fn heavy_ones_yield_most_where_all_are_alike() {
        let by_spread = |rho: f64| yielding([rho, -rho, f64::NAN].into_iter());
        assert_eq!([yielding(std::iter::empty()), by_spread(0.1), by_spread(0.3)], [0.0, 10.0, 0.0]);
        assert!((by_spread(0.215) - 5.0).abs() < 1e-5);
    }
}
