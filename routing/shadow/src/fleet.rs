//! One policy with a fleet of its own: the instances of the real pool, in virtual time.
//!
//! Requests come in with the work that was measured; who serves them is the policy's choice. Everything else is the
//! same for all policies: speeds, slots, form. Probes take no time.
//!
//! Bounded: at most 8,192 requests at once. A policy that falls behind further than that has lost anyway, and
//! so that nothing grows its fleet is emptied and begins anew.

use crate::chooser::{Chooser, Placed, Policy};
use crate::producer::Producer;
use crate::tally::Tally;
use foretide_predictor::time::Timestamp;
use foretide_steering::admission::Priority;
use foretide_steering::queue::{Guest, Next, Queue};
use foretide_steering::score::Form;

/// Requests in flight at once.
const MOST_IN_FLIGHT: usize = 8_192;
/// Speeds are within these: what lies beyond is no measurement.
const SPEEDS: (f64, f64) = (0.05, 20.0);

/// One instance of the real pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Its number, never used twice.
    pub id: u32,
    /// 1: the average instance.
    pub speed: f64,
}

/// The real pool as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setup {
    /// How the instances serve.
    pub form: Form,
    /// Requests each serves at full speed at once.
    pub slots: usize,
    /// γ of the predictive policy.
    pub temper: f64,
    /// How much heavy requests yield to light ones under it.
    pub heavy_yields: f32,
    /// Those that get requests.
    pub members: Vec<Member>,
    /// Requests wait in the proxy for a free slot under the predictive policy.
    pub late_binding: bool,
}

/// A request: when it came, microseconds, and what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request {
    /// Since whatever epoch the clock has.
    pub at_us: f64,
    /// Measured work at speed 1, microseconds.
    pub work_us: f64,
    /// What steered it, microseconds.
    pub steered_us: f64,
    /// Whether it is counted.
    pub counted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    request: Request,
    placed: Placed,
}

/// A policy's fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    policy: Policy,
    chooser: Chooser,
    producers: Vec<Producer>,
    /// When each ends something next.
    due_us: Vec<f64>,
    slots: usize,
    jobs: Vec<Job>,
    /// Places in `jobs` that are free.
    free: Vec<usize>,
    /// Who waits for a slot, where the policy binds late.
    queue: Option<Queue<usize>>,
    now_us: f64,
    pub(crate) tally: Tally,
    /// Times it fell behind too far.
    pub(crate) emptied: u64,
}

impl Fleet {
    /// Idle, in front of at least one instance; `tally`: what was counted before.
    pub(crate) fn new(policy: Policy, setup: &Setup, now_us: f64, tally: Tally) -> Self {
        let count = setup.members.len();
        let producer = |_: &Member| Producer::new(setup.form, setup.slots, 1.0, now_us);
        let late = setup.late_binding && policy == Policy::Predictive;
        let mut fleet = Self {
            policy,
            chooser: Chooser::new(policy, count, setup.form, setup.slots),
            producers: setup.members.iter().map(producer).collect(),
            due_us: vec![f64::INFINITY; count],
            slots: setup.slots.max(1),
            jobs: Vec::new(),
            free: Vec::new(),
            queue: late.then(|| Queue::new(MOST_IN_FLIGHT)),
            now_us,
            tally,
            emptied: 0,
        };
        fleet.set_speeds(setup);
        fleet
    }

    /// Speeds as they are measured now, of the same instances.
    pub(crate) fn set_speeds(&mut self, setup: &Setup) {
        self.chooser.set_heavy_yields(setup.heavy_yields);
        for (index, member) in setup.members.iter().enumerate().take(self.producers.len()) {
            let speed = if member.speed.is_finite() { member.speed.clamp(SPEEDS.0, SPEEDS.1) } else { 1.0 };
            self.chooser.set_slowness(index, speed.powf(-setup.temper) as f32);
            self.producers[index].set_speed(speed, self.now_us);
            self.due_us[index] = self.producers[index].due_us();
        }
    }

    /// Requests in flight, those that wait in the proxy included.
    pub(crate) fn in_flight(&self) -> usize {
        self.jobs.len() - self.free.len()
    }

    /// A request comes in, not before the last one.
    pub(crate) fn arrive(&mut self, request: Request, setup: &Setup) {
        self.advance(request.at_us);
        if self.in_flight() >= MOST_IN_FLIGHT {
            let tally = std::mem::take(&mut self.tally);
            let emptied = self.emptied + 1;
            *self = Self { emptied, ..Self::new(self.policy, setup, self.now_us, tally) };
        }
        let job = Job { request, placed: Placed { instance: 0, steered_us: request.steered_us, found: 0 } };
        let place = self.free.pop().unwrap_or(self.jobs.len());
        if place == self.jobs.len() {
            self.jobs.push(job);
        } else {
            self.jobs[place] = job;
        }
        let full = self.producers.iter().all(|producer| producer.requests() >= self.slots);
        match &mut self.queue {
            Some(queue) if full || !queue.is_empty() => {
                // It has room for as many as may be in flight.
                let guest = Guest {
                    work_us: request.steered_us,
                    priority: Priority::Normal,
                    arrived: Timestamp::from_us(self.now_us as u64),
                    latest: Timestamp::from_us(u64::MAX),
                };
                let _full = queue.push(place, guest);
            }
            _ => self.dispatch(place),
        }
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, until_us: f64) {
        loop {
            let earlier = |best: (usize, f64), next: (usize, f64)| if next.1 < best.1 { next } else { best };
            let dues = self.due_us.iter().copied().enumerate();
            let (instance, due_us) = dues.fold((0, f64::INFINITY), earlier);
            if due_us > until_us || due_us == f64::INFINITY {
                self.now_us = self.now_us.max(until_us);
                return;
            }
            self.now_us = self.now_us.max(due_us);
            let mut ended = false;
            while let Some(end) = self.producers[instance].end(self.now_us) {
                ended = true;
                self.finish(end.job);
            }
            self.due_us[instance] = self.producers[instance].due_us();
            if !ended {
                // Rounding put the end a hair later; a microsecond on it is there, whatever the rounding.
                self.due_us[instance] = self.due_us[instance].max(self.now_us + 1.0);
            }
        }
    }

    fn dispatch(&mut self, place: usize) {
        let Job { request, .. } = self.jobs[place];
        let (producers, slots) = (&self.producers, self.slots);
        let in_flight = |instance: usize| producers[instance].requests() as u32;
        let late = self.queue.is_some();
        let allowed = |instance: usize| !late || producers[instance].requests() < slots;
        let instance = self.chooser.choose(request.steered_us, self.now_us, in_flight, allowed);
        let placed = Placed { instance, steered_us: request.steered_us, found: in_flight(instance) };
        self.jobs[place].placed = placed;
        self.chooser.sent(placed);
        self.producers[instance].add(place, request.work_us, self.now_us);
        self.due_us[instance] = self.producers[instance].due_us();
    }

    fn finish(&mut self, place: usize) {
        let Job { request, placed } = self.jobs[place];
        self.free.push(place);
        let latency_us = self.now_us - request.at_us;
        self.chooser.answered(placed, latency_us, self.now_us);
        if request.counted {
            self.tally.observe(latency_us, request.work_us);
        }
        let next = self.queue.as_mut().and_then(|queue| queue.pop(Timestamp::from_us(self.now_us as u64)));
        if let Some(Next::Serve(place) | Next::Expired(place)) = next {
            self.dispatch(place);
        }
    }
}
