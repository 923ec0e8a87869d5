//! One run: arrivals through the controller's table to simulated instances and back as observations.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use foretide_control::controller::Controller;
use foretide_control::io::{Effect, FleetEvent, Input};
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{self, Attempt, Decision};
use foretide_routing::extract::RequestFacts;
use foretide_routing::live::{Attained, Ticket};
use foretide_routing::observe::{Observation, Outcome as Ending, Reported};
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::RoutingSettings;
use foretide_routing::table::RoutingTable;
use rand::Rng as _;
use rand_distr::{Distribution as _, Exp1};
use rand_pcg::Pcg64Mcg;

use crate::sim::check::{Checker, Violation};
use crate::sim::outcome::{Digest, Figures, Latencies};
use crate::sim::processor::Processor;
use crate::stream;

/// A fitted forecast or a trained model arrives this much later in virtual time, about what it takes in production.
const JOB_DELAY: Duration = Duration::from_millis(200);

/// One request of the world.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When its head is there.
    pub at: Timestamp,
    /// What extraction made of it.
    pub facts: RequestFacts,
    /// What it really costs, microseconds at speed 1. The controller learns it only from watching.
    pub work_us: f64,
}

/// Periods in which an instance is slow for reasons of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// Share of time disturbed.
    pub ratio: f64,
    /// Speed then, as a factor.
    pub factor: f64,
    /// Mean length of a slow period; lengths are exponential.
    pub mean: Duration,
}

/// Everything that is not the product.
#[derive(Clone, Debug)]
pub struct World {
    /// What the product is configured with.
    pub settings: RoutingSettings,
    /// In order of time.
    pub arrivals: Vec<Arrival>,
    /// Begin of the run; calendars use the same epoch.
    pub start: Timestamp,
    /// The n-th instance gets speed `speeds[n % len]`.
    pub speeds: Vec<f64>,
    /// Start of an instance until it is ready, the n-th again by `n % len`.
    pub cold_starts: Vec<Duration>,
    /// One way between proxy and instance.
    pub network_delay: Duration,
    /// Slow periods.
    pub disturbance: Option<Disturbance>,
    /// Crashes: when, and which instance in order of start.
    pub crashes: Vec<(Timestamp, usize)>,
    /// Seed of everything random in the world.
    pub seed: u64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// Latencies and cost.
    pub figures: Figures,
    /// Mean latency, milliseconds.
    pub mean_ms: f64,
    /// Hash of all decisions.
    pub digest: Digest,
    /// Instances asked for, instances released, in order: (when, words of the plan).
    pub scaling: Vec<(Timestamp, String)>,
    /// Broken invariants; empty in a sound run.
    pub violations: Vec<Violation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Deliver { job: usize },
    Complete { instance: InstanceId, version: u64 },
    Ready(InstanceId),
    Gone(InstanceId),
    Answer(usize),
    SpeedChange { instance: InstanceId, slow: bool },
    Crash(usize),
}

struct Job {
    arrival: Arrival,
    prediction: CostPrediction,
    decision: Decision,
    ticket: Option<Ticket>,
    tried: Vec<InstanceId>,
    sent_at: Timestamp,
}

struct Instance {
    processor: Processor,
    base_speed: f64,
    asked_at: Timestamp,
    ended_at: Option<Timestamp>,
    cold_start: Duration,
}

/// Runs a world to the end of its last request.
pub fn run(world: &World) -> RunOutcome {
    let mut sim = Sim::new(world);
    sim.perform_effects();
    while sim.unfinished > 0 {
        let tick_at = sim.controller.due().max(sim.now);
        match sim.events.peek() {
            Some(Reverse((at, _, _))) if *at <= tick_at => sim.next_event(),
            _ => sim.tick(tick_at),
        }
        sim.perform_effects();
        if sim.now.since(world.start) > sim.deadline {
            break;
        }
    }
    sim.finish()
}

struct Sim<'w> {
    world: &'w World,
    controller: Controller,
    now: Timestamp,
    sequence: u64,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    instances: BTreeMap<InstanceId, Instance>,
    started: Vec<InstanceId>,
    jobs: Vec<Job>,
    answers: Vec<Option<Input>>,
    latencies: Latencies,
    digest: Digest,
    checker: Checker,
    scaling: Vec<(Timestamp, String)>,
    seen_scaling: u64,
    choices: Pcg64Mcg,
    disturbances: Pcg64Mcg,
    unfinished: usize,
    deadline: Duration,
    decisions: u64,
}

impl<'w> Sim<'w> {
    fn new(world: &'w World) -> Self {
        let last = world.arrivals.last().map_or(world.start, |arrival| arrival.at);
        let mut sim = Self {
            world,
            controller: Controller::new(world.settings.clone(), world.start),
            now: world.start,
            sequence: 0,
            events: BinaryHeap::new(),
            instances: BTreeMap::new(),
            started: Vec::new(),
            jobs: Vec::with_capacity(world.arrivals.len()),
            answers: Vec::new(),
            latencies: Latencies::default(),
            digest: Digest::default(),
            checker: Checker::default(),
            scaling: Vec::new(),
            seen_scaling: 0,
            choices: stream::named(world.seed, "choices"),
            disturbances: stream::named(world.seed, "disturbances"),
            unfinished: world.arrivals.len(),
            // What is not answered ten minutes after the last arrival never will be.
            deadline: last.since(world.start) + Duration::from_secs(600),
            decisions: 0,
        };
        if let Some(first) = world.arrivals.first() {
            sim.plan(first.at, Event::Arrive(0));
        }
        for (at, nth) in &world.crashes {
            sim.plan(*at, Event::Crash(*nth));
        }
        sim
    }

    fn plan(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn next_event(&mut self) {
        let Some(Reverse((at, _, event))) = self.events.pop() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Arrive(index) => self.arrive(index),
            Event::Deliver { job } => self.deliver(job),
            Event::Complete { instance, version } => self.complete(instance, version),
            Event::Ready(instance) => self.ready(instance),
            Event::Gone(instance) => self.gone(instance, true),
            Event::Answer(index) => {
                if let Some(input) = self.answers[index].take() {
                    self.controller.handle(self.now, input);
                }
            }
            Event::SpeedChange { instance, slow } => self.change_speed(instance, slow),
            Event::Crash(nth) => self.crash(nth),
        }
        self.checker.after_event(self.controller.table(), &self.world.settings, self.now);
    }

    fn tick(&mut self, at: Timestamp) {
        self.now = at;
        self.controller.begin_tick(at);
        while self.controller.step() {}
    }

    fn arrive(&mut self, index: usize) {
        let mut arrival = self.world.arrivals[index];
        let to_come = self.world.arrivals.len() - index;
        arrival.facts.query.in_flight = self.unfinished.saturating_sub(to_come) as f32;
        if let Some(next) = self.world.arrivals.get(index + 1) {
            self.plan(next.at, Event::Arrive(index + 1));
        }
        self.dispatch(arrival, Vec::new());
    }

    fn dispatch(&mut self, arrival: Arrival, tried: Vec<InstanceId>) {
        let table: Arc<RoutingTable> = Arc::clone(self.controller.table());
        let Some(pool) = table.pools.get(arrival.facts.pool.index()) else { return self.fail() };
        let prediction = decide::predict(&table, &arrival.facts, self.now);
        self.decisions += 1;
        let attempt = Attempt {
            tried: &tried,
            id: self.decisions,
            chance: self.choices.next_u64(),
            wish: Wish::default(),
            now: self.now,
        };
        match decide::decide(&table, pool, &arrival.facts, &prediction, attempt) {
            None => self.fail(),
            Some((decision, ticket)) => {
                self.checker.routed(
                    &decision,
                    self.instances.get(&decision.instance).map(|i| i.ended_at),
                    self.now,
                );
                self.digest.add(self.now.as_us());
                self.digest.add(u64::from(decision.instance.0));
                let job = self.jobs.len();
                let ticket = Some(ticket);
                self.jobs.push(Job { arrival, prediction, decision, ticket, tried, sent_at: self.now });
                self.adopt(decision.instance);
                self.plan(self.now.plus(self.world.network_delay), Event::Deliver { job });
            }
        }
    }

    fn fail(&mut self) {
        self.latencies.failed();
        self.unfinished -= 1;
    }

    fn deliver(&mut self, job: usize) {
        let (instance, work_us) = (self.jobs[job].decision.instance, self.jobs[job].arrival.work_us);
        match self.instances.get_mut(&instance) {
            Some(held) if held.ended_at.is_none() => {
                held.processor.add(job, work_us, self.now);
                self.plan_completion(instance);
            }
            _ => self.broken(job),
        }
    }

    fn plan_completion(&mut self, instance: InstanceId) {
        let Some(held) = self.instances.get(&instance) else { return };
        if let Some(at) = held.processor.next_completion() {
            let version = held.processor.version;
            self.plan(at, Event::Complete { instance, version });
        }
    }

    fn complete(&mut self, instance: InstanceId, version: u64) {
        let Some(held) = self.instances.get_mut(&instance) else { return };
        if held.processor.version != version {
            return;
        }
        for job in held.processor.finished(self.now) {
            self.answered(job);
        }
        self.plan_completion(instance);
    }

    fn answered(&mut self, job: usize) {
        let finished_at = self.now.plus(self.world.network_delay);
        let held = &mut self.jobs[job];
        let Some(ticket) = held.ticket.take() else { return };
        let attained = ticket.finish(self.now);
        let latency_ms = finished_at.since(held.arrival.at).as_secs_f64() * 1e3;
        let pool = &self.world.settings.pools[held.arrival.facts.pool.index()];
        self.latencies.finished(latency_ms, pool.objective.as_secs_f64() * 1e3);
        self.unfinished -= 1;
        self.observe(job, Ending::Ok, attained, 200, false);
    }

    fn broken(&mut self, job: usize) {
        self.jobs[job].ticket = None;
        let (arrival, mut tried) = (self.jobs[job].arrival, self.jobs[job].tried.clone());
        tried.push(self.jobs[job].decision.instance);
        let attempts = self.world.settings.pools[arrival.facts.pool.index()].retry.attempts as usize;
        let again = tried.len() < attempts;
        self.observe(job, Ending::ProducerUnreachable, Attained::default(), 0, again);
        if again {
            self.dispatch(arrival, tried);
        } else {
            self.fail();
        }
    }

    fn observe(&mut self, job: usize, outcome: Ending, attained: Attained, status: u16, retried: bool) {
        let held = &self.jobs[job];
        let upstream_us = self.now.since(held.sent_at).as_micros() as u64;
        let pool = self.controller.table().pools.get(held.arrival.facts.pool.index());
        let form = pool.map(|pool| pool.form).unwrap_or_default();
        let observation = Observation {
            arrived_at: held.arrival.at,
            finished_at: self.now,
            pool: held.arrival.facts.pool,
            query: held.arrival.facts.query,
            prediction: held.prediction,
            decision: held.decision,
            upstream_us,
            attained_us: attained.by(form),
            attained,
            status,
            response_bytes: None,
            reported: Reported::default(),
            outcome,
            retried,
        };
        self.controller.handle(self.now, Input::Observed(Box::new(observation)));
    }

    /// Instances that are simply there appear with the first request that goes to them.
    fn adopt(&mut self, instance: InstanceId) {
        if !self.instances.contains_key(&instance) {
            self.start(instance, Duration::ZERO);
        }
    }

    fn start(&mut self, instance: InstanceId, cold_start: Duration) {
        let nth = self.started.len();
        let speed = self.world.speeds.get(nth % self.world.speeds.len().max(1)).copied().unwrap_or(1.0);
        let cores = self.world.settings.pools.first().map_or(1, |pool| pool.concurrency);
        self.started.push(instance);
        let processor = Processor::new(speed, cores, self.now);
        let held = Instance { processor, base_speed: speed, asked_at: self.now, ended_at: None, cold_start };
        self.instances.insert(instance, held);
        if let Some(disturbance) = self.world.disturbance {
            let after = self.period(disturbance.mean.mul_f64((1.0 - disturbance.ratio) / disturbance.ratio));
            self.plan(self.now.plus(after), Event::SpeedChange { instance, slow: true });
        }
    }

    fn period(&mut self, mean: Duration) -> Duration {
        let draw: f64 = Exp1.sample(&mut self.disturbances);
        mean.mul_f64(draw)
    }

    fn change_speed(&mut self, instance: InstanceId, slow: bool) {
        let Some(disturbance) = self.world.disturbance else { return };
        let normal = disturbance.mean.mul_f64((1.0 - disturbance.ratio) / disturbance.ratio);
        let after = self.period(if slow { disturbance.mean } else { normal });
        let Some(held) = self.instances.get_mut(&instance).filter(|held| held.ended_at.is_none()) else {
            return;
        };
        let factor = if slow { disturbance.factor } else { 1.0 };
        held.processor.set_speed(held.base_speed * factor, self.now);
        self.plan(self.now.plus(after), Event::SpeedChange { instance, slow: !slow });
        self.plan_completion(instance);
    }

    fn ready(&mut self, instance: InstanceId) {
        let Some(held) = self.instances.get(&instance).filter(|held| held.ended_at.is_none()) else { return };
        let took = held.cold_start;
        self.controller.handle(self.now, Input::Fleet(FleetEvent::Ready { instance, took }));
    }

    fn gone(&mut self, instance: InstanceId, asked: bool) {
        let Some(held) = self.instances.get_mut(&instance).filter(|held| held.ended_at.is_none()) else {
            return;
        };
        held.ended_at = Some(self.now);
        let lost = held.processor.drop_all();
        self.controller.handle(self.now, Input::Fleet(FleetEvent::Exited { instance, asked }));
        for job in lost {
            self.broken(job);
        }
    }

    fn crash(&mut self, nth: usize) {
        if let Some(instance) = self.started.get(nth).copied() {
            self.gone(instance, false);
        }
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.controller.next_effect() {
            match effect {
                Effect::Publish(table) => self.checker.published(&table),
                Effect::Start { instance, .. } => self.begin_start(instance),
                Effect::Stop { instance } => self.plan(self.now, Event::Gone(instance)),
                Effect::Fit(job) => self.answer_later(job.run()),
                Effect::Train(job) => self.answer_later(job.run()),
                Effect::Record(_) => {}
                Effect::Report(report) => self.note_scaling(&report.scaling_decisions),
            }
        }
    }

    fn begin_start(&mut self, instance: InstanceId) {
        let nth = self.started.len();
        let cold_starts = &self.world.cold_starts;
        let cold_start = cold_starts.get(nth % cold_starts.len().max(1)).copied().unwrap_or_default();
        // The fleet that a run begins with is there already: what is simulated is operation, not installation. What its
        // starts took is known all the same; a planner that took them for instant would not look ahead.
        let ready_at = if self.now == self.world.start { self.now } else { self.now.plus(cold_start) };
        self.start(instance, cold_start);
        let address = format!("sim:{}", instance.0);
        self.controller.handle(self.now, Input::Fleet(FleetEvent::Started { instance, address }));
        self.plan(ready_at, Event::Ready(instance));
    }

    fn answer_later(&mut self, input: Input) {
        self.answers.push(Some(input));
        let index = self.answers.len() - 1;
        self.plan(self.now.plus(JOB_DELAY), Event::Answer(index));
    }

    fn note_scaling(&mut self, newest_first: &[foretide_control::report::ScalingDecisionReport]) {
        for decision in newest_first.iter().rev().filter(|decision| !decision.instances.is_empty()) {
            if decision.id > self.seen_scaling {
                self.seen_scaling = decision.id;
                self.digest.add(decision.at.as_us());
                self.scaling.push((decision.at, decision.plan.words.clone()));
            }
        }
    }

    fn finish(mut self) -> RunOutcome {
        while self.unfinished > 0 {
            self.fail();
        }
        let end = self.now;
        let instance_seconds = self
            .instances
            .values()
            .map(|held| held.ended_at.unwrap_or(end).since(held.asked_at).as_secs_f64())
            .sum();
        let at_rest = self.instances.values().all(|held| held.processor.is_empty());
        self.jobs.clear();
        self.checker.at_end(self.controller.table(), at_rest, end);
        RunOutcome {
            mean_ms: self.latencies.mean_ms(),
            figures: self.latencies.figures(instance_seconds),
            digest: self.digest,
            scaling: self.scaling,
            violations: self.checker.violations,
        }
    }
}
