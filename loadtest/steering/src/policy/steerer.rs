//! Foretide's own policy, as one balancer runs it: production's score, gate, sight, queue and admission put together.

use crate::policy::Steering;
use foretide_predictor::time::Timestamp;
use foretide_steering::admission::{Admission, Applicant, MARGIN, Priority};
use foretide_steering::buckets::{Load, Newcomer, whole_us};
use foretide_steering::gate::SkillGate;
use foretide_steering::queue::Queue;
use foretide_steering::score::{self, Ahead, Form, Terms};
use foretide_steering::sight::{Fleet, Report};
use foretide_steering::speed::{self, Speed};
use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;
use std::time::Duration;

/// Others' requests are believed for so many mean service times.
const MEMORY_SERVICES: f64 = 8.0;
/// Speeds are worked out anew so often, as the controller's tick does.
const TICK_US: f64 = 100_000.0;
/// Requests that may wait in the proxy.
const ROOM: usize = 20_000;
/// Requests the concurrency limit lies between, per slot.
const LIMITS: (u32, u32) = (2, 200);
/// Best few of a scan, whom to probe; further probes go anywhere, or what looks bad would never be looked at again.
const BEST: usize = 2;
/// Ties are broken by this much of chance.
const TIE: f32 = 1e-4;

/// A choice, with what it rested on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Who.
    pub instance: usize,
    /// Predicted work that steered it, whole microseconds: what is taken on there.
    pub work_us: u64,
    /// Latency foreseen on it, by the score and for the mean request, microseconds.
    pub foreseen_us: [f32; 2],
}

/// A request that ended.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Its choice.
    pub choice: Choice,
    /// What the predictor had said, microseconds.
    pub predicted_us: f64,
    /// Service it got, waiting taken off, microseconds.
    pub service_us: f64,
    /// From its dispatch to its answer, microseconds.
    pub latency_us: f64,
}

/// One balancer.
#[derive(Clone, Debug)]
pub struct Steerer {
    form: Form,
    slots: usize,
    terms: Terms,
    steering: Steering,
    own: Vec<Load>,
    fleet: Option<Fleet>,
    speeds: Vec<Speed>,
    slowness: Vec<f32>,
    /// `exp(rho)`, not tempered: for labels and for latencies.
    slow: Vec<f64>,
    heavy_yields: f32,
    ticked_us: f64,
    gate: SkillGate,
    admission: Admission,
    best: [usize; BEST],
}

impl Steerer {
    /// In front of so many instances of this form; `mean_us`: mean service time, which the proxy measures.
    pub fn new(form: Form, slots: usize, instances: usize, steering: Steering, mean_us: f64) -> Self {
        let memory = Duration::from_micros((MEMORY_SERVICES * mean_us) as u64);
        let all = (slots * instances) as u32;
        Self {
            form,
            slots,
            terms: Terms::new(form, slots as u32, 1.0, 1.0),
            steering,
            own: vec![Load::default(); instances],
            fleet: (steering.probes > 0).then(|| Fleet::new(instances, memory)),
            speeds: vec![Speed::default(); instances],
            slowness: vec![1.0; instances],
            slow: vec![1.0; instances],
            heavy_yields: steering.heavy_yields.unwrap_or(0.0),
            ticked_us: 0.0,
            gate: SkillGate::default(),
            admission: Admission::new(LIMITS.0 * all, LIMITS.1 * all),
            best: [0; BEST],
        }
    }

    /// The queue of a gateway that binds late.
    pub fn queue(&self) -> Queue<usize> {
        Queue::new(ROOM)
    }

    /// What a prediction is worth, microseconds.
    pub fn work_us(&self, predicted_us: f64) -> f64 {
        self.gate.work_us(predicted_us)
    }

    /// How a request of this work would fare, waiting in `queue` included, microseconds.
    pub fn expected_us(&self, work_us: f64, queue: &Queue<usize>) -> f64 {
        let slots = self.slots as f64;
        let capacity: f64 = self.slow.iter().map(|slow| slots / slow).sum();
        let service_us = work_us * self.slow.len() as f64 * slots / capacity;
        if self.has_room(None) {
            return service_us;
        }
        f64::from(queue.before_us(work_us, Priority::Normal)) / capacity + service_us
    }

    /// Whether a request that is expected to take so long may come in.
    pub fn admits(&self, expected_us: f64, objective_us: f64, waiting: usize) -> bool {
        let in_flight: u64 = self.own.iter().map(Load::requests).sum();
        let all = in_flight as u32 + waiting as u32;
        let (predicted_us, deadline_us) = (Some(expected_us), Some(objective_us));
        let applicant = Applicant { predicted_us, deadline_us, priority: Priority::Normal };
        !self.steering.admission || self.admission.admits(applicant, MARGIN, all).is_ok()
    }

    /// A request that was expected to take so long took so long, with so many waiting.
    pub fn admitted(&mut self, expected_us: f64, latency_us: f64, waiting: usize) {
        let in_flight: u64 = self.own.iter().map(Load::requests).sum();
        self.admission.observe(Some(expected_us), latency_us, in_flight as u32 + waiting as u32);
    }

    /// Whether some instance, or this one, has a free slot.
    pub fn has_room(&self, instance: Option<usize>) -> bool {
        let free = |load: &Load| load.requests() < self.slots as u64;
        instance.map_or_else(|| self.own.iter().any(free), |instance| free(&self.own[instance]))
    }

    /// Whom a request of so much work goes to, except to `tried`. `warm(instance)`: the share of its usual speed that the
    /// instance manager says it has.
    pub fn choose(
        &mut self,
        work_us: f64,
        now: Timestamp,
        tried: Option<usize>,
        warm: impl Fn(usize) -> f64,
        rng: &mut Pcg64Mcg,
    ) -> Choice {
        let newcomer = Newcomer::of(work_us);
        let average = self.fleet.as_ref().map(|fleet| fleet.average(newcomer, now));
        let mut best = [(f32::INFINITY, 0); BEST];
        for index in (0..self.own.len()).filter(|&index| Some(index) != tried) {
            if self.steering.late_binding && !self.has_room(Some(index)) {
                continue;
            }
            let mut ahead = self.ahead(index, newcomer);
            if let (Some(fleet), Some(average)) = (&self.fleet, &average) {
                ahead = ahead.and(fleet.ahead(index, newcomer, average));
            }
            let work = newcomer.work_us() as f32;
            let cost = self.terms.cost_us(work, ahead.requests, || ahead.work_us, || ahead.interference_us);
            let chance = 1.0 + TIE * rng.random::<f32>();
            let score = cost * self.slowness[index] / warm(index) as f32 * chance;
            let mut entry = (score, index);
            for held in &mut best {
                if entry.0 < held.0 {
                    std::mem::swap(held, &mut entry);
                }
            }
        }
        self.best = best.map(|(_, index)| index);
        let instance = self.best[0];
        Choice { instance, work_us: newcomer.work_us(), foreseen_us: self.foreseen(instance, newcomer, now) }
    }

    /// Whom to probe, after a choice: the best of it, then anybody. `number` counts from 0.
    pub fn probe(&self, number: usize, rng: &mut Pcg64Mcg) -> usize {
        self.best.get(number).copied().unwrap_or_else(|| rng.random_range(0..self.own.len()))
    }

    /// It went there.
    pub fn sent(&mut self, choice: &Choice) {
        self.own[choice.instance].add(choice.work_us);
    }

    /// It was refused there.
    pub fn lost(&mut self, choice: &Choice) {
        self.own[choice.instance].remove(choice.work_us);
    }

    /// It came back. `same`: from the instance it was sent to, not from a predecessor.
    pub fn answered(&mut self, done: &Done, same: bool, warm: f64, now_us: f64) {
        let Done { choice, predicted_us, service_us, latency_us } = *done;
        let instance = choice.instance;
        if same {
            self.own[instance].remove(choice.work_us);
            self.speeds[instance].observe((service_us * warm / choice.work_us as f64).ln());
            self.gate.observe(predicted_us, service_us * warm / self.slow[instance]);
            let [foreseen, blind] = choice.foreseen_us.map(f64::from);
            self.gate.observe_latency(latency_us, foreseen, blind);
        }
        if now_us > self.ticked_us + TICK_US {
            self.ticked_us = now_us;
            self.tick();
        }
    }

    /// What control does in production. With sight of others' requests, speeds come with each report.
    fn tick(&mut self) {
        if self.fleet.is_none() {
            let mut speeds: Vec<&mut Speed> = self.speeds.iter_mut().collect();
            speed::centre(&mut speeds);
            (0..self.own.len()).for_each(|index| self.set_slowness(index, self.speeds[index].rho()));
        }
        let rhos = self.slow.iter().map(|slow| slow.ln());
        self.heavy_yields = self.steering.heavy_yields.unwrap_or_else(|| score::yielding(rhos));
    }

    /// An instance said what it has in flight, at `said_at`.
    pub fn heard(&mut self, instance: usize, report: &Report, said_at: Timestamp) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.hear(instance, report, &self.own[instance], said_at);
        let mean = fleet.mean_residual();
        let residual = fleet.sight(instance).and_then(|sight| sight.residual()).unwrap_or(mean);
        let rho = f64::from(residual - mean).clamp(-speed::LIMIT, speed::LIMIT);
        self.set_slowness(instance, rho);
    }

    /// The instance is a new one: nothing is in flight there, nothing known of it.
    pub fn replaced(&mut self, instance: usize) {
        self.own[instance] = Load::default();
        self.speeds[instance] = Speed::default();
        self.set_slowness(instance, 0.0);
    }

    /// Weight of the prediction, 0 to 1.
    pub fn weight(&self) -> f64 {
        self.gate.weight()
    }

    fn set_slowness(&mut self, instance: usize, rho: f64) {
        let gamma = f64::from(speed::temper(self.form, Some(speed::FULL_SKILL * self.gate.weight())));
        self.slowness[instance] = (gamma * rho).exp() as f32;
        self.slow[instance] = rho.exp();
    }

    fn ahead(&self, index: usize, newcomer: Newcomer) -> Ahead {
        let mut ahead = Ahead::of(&self.own[index], newcomer);
        ahead.interference_us = self.own[index].meets(newcomer).yielding_us(self.heavy_yields);
        ahead
    }

    /// Latency foreseen there for this request, and for the mean request.
    fn foreseen(&self, instance: usize, newcomer: Newcomer, now: Timestamp) -> [f32; 2] {
        let mean = Newcomer::of(whole_us(self.gate.mean_us()) as f64);
        [newcomer, mean].map(|newcomer| {
            let mut ahead = Ahead::of(&self.own[instance], newcomer);
            if let Some(fleet) = &self.fleet {
                ahead = ahead.and(fleet.ahead(instance, newcomer, &fleet.average(newcomer, now)));
            }
            self.form.latency_us(newcomer.work_us() as f32, &ahead, self.slots as f32)
                * self.slow[instance] as f32
        })
    }
}
