//! The events of a run, in order of time.

use crate::figures::{Fate, Figures};
use crate::policy::steerer::{Choice, Done, Steerer};
use crate::policy::{Policy, Steering};
use crate::world::{Arrival, World};
use foretide_loadtest::stream;
use foretide_predictor::time::Timestamp;
use foretide_shadow::agenda::Agenda;
use foretide_shadow::producer::Producer;
use foretide_shadow::reactive::{Reactive, Rule};
use foretide_steering::admission::Priority;
use foretide_steering::buckets::Load;
use foretide_steering::prequal::{self, Answer, Latencies};
use foretide_steering::queue::{Guest, Next, Queue};
use foretide_steering::sight::Report;
use foretide_steering::speed::Speed;
use foretide_steering::wire;
use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp1};
use rand_pcg::Pcg64Mcg;

/// Runs a policy in a world; `arrivals` are the world's.
pub fn run(world: &World, arrivals: &[Arrival], policy: Policy) -> Figures {
    let fates = Run::new(world, arrivals, policy).fates();
    Figures::of(&fates, world.objective_ms)
}

/// An instance and what is known beside it.
#[derive(Clone, Debug)]
struct Instance {
    producer: Producer,
    usual_speed: f64,
    slow: bool,
    toggles_us: f64,
    cold_since_us: f64,
    generation: u32,
    rng: Pcg64Mcg,
    /// All that is in flight here, by predicted work.
    load: Load,
    speed: Speed,
    latencies: Latencies,
}

/// A request under way.
#[derive(Clone, Copy, Debug, Default)]
struct Job {
    choice: Choice,
    /// Of the instance when it was chosen, and when it was reached.
    generations: [u32; 2],
    sent_us: f64,
    found: u32,
    expected_us: f64,
    tried: bool,
}

/// What travels, or waits to happen.
#[derive(Clone, Copy, Debug)]
enum Message {
    Arrives(usize),
    Returns { job: usize, service_us: f64, left: u32, report: Option<Report>, said_us: f64 },
    Refused(usize),
    Probes { balancer: usize, instance: usize },
    Answers { balancer: usize, answer: Answer, report: Option<Report> },
}

/// A balancer of either kind.
#[derive(Debug)]
enum Balancer {
    Reactive(Box<Reactive>),
    Steerer(Box<Steerer>, Queue<usize>),
}

struct Run<'a> {
    world: &'a World,
    arrivals: &'a [Arrival],
    policy: Policy,
    now_us: f64,
    instances: Vec<Instance>,
    /// Replaced instances that finish what they have.
    leaving: Vec<(usize, Producer)>,
    replaces_us: f64,
    replaced: usize,
    balancers: Vec<Balancer>,
    jobs: Vec<Job>,
    fates: Vec<Fate>,
    messages: Agenda<Message>,
    chance: Pcg64Mcg,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, arrivals: &'a [Arrival], policy: Policy) -> Self {
        let mut chance = stream::named(world.seed, "choices");
        let count = world.speeds.len();
        let balancer = |_| match policy {
            Policy::Foretide(steering) => {
                let mean_us = 1e3 * world.sizes.mean_ms();
                let steerer = Steerer::new(world.form, world.slots, count, steering, mean_us);
                let queue = steerer.queue();
                Balancer::Steerer(Box::new(steerer), queue)
            }
            _ => {
                let (rule, first) = (policy.rule().unwrap_or(Rule::Random), chance.random_range(0..count));
                Balancer::Reactive(Box::new(Reactive::new(rule, count, world.balancers, first)))
            }
        };
        let balancers = (0..world.balancers.max(1)).map(balancer).collect();
        let sizes = arrivals.iter().map(|arrival| Fate {
            latency_ms: f64::NAN,
            size_ms: arrival.work_us / 1e3,
            refused: false,
        });
        Self {
            world,
            arrivals,
            policy,
            now_us: 0.0,
            instances: (0..count).map(|index| Instance::new(world, index)).collect(),
            leaving: Vec::new(),
            replaces_us: world.replacement.map_or(f64::INFINITY, |replacement| replacement.every_s * 1e6),
            replaced: 0,
            balancers,
            jobs: vec![Job::default(); arrivals.len()],
            fates: sizes.collect(),
            messages: Agenda::default(),
            chance,
        }
    }

    fn fates(mut self) -> Vec<Fate> {
        let mut next = 0;
        loop {
            let arrival_us = self.arrivals.get(next).map_or(f64::INFINITY, |arrival| arrival.at_us);
            let message_us = self.messages.next_at();
            let (instance, ends_us) = self.next_end();
            let first = arrival_us.min(message_us).min(ends_us);
            if first == f64::INFINITY {
                return self.fates;
            }
            let (toggling, toggles_us) = self.next_toggle();
            if toggles_us.min(self.replaces_us) < first {
                if toggles_us < self.replaces_us {
                    self.now_us = toggles_us;
                    self.toggle(toggling);
                } else {
                    self.now_us = self.replaces_us;
                    self.replace();
                }
                continue;
            }
            self.now_us = first;
            if ends_us == first {
                self.end(instance);
            } else if message_us == first {
                if let Some(message) = self.messages.pop() {
                    self.deliver(message);
                }
            } else {
                self.arrive(next);
                next += 1;
            }
        }
    }

    fn next_end(&self) -> (usize, f64) {
        let current = self.instances.iter().map(|instance| instance.producer.due_us());
        let leaving = self.leaving.iter().map(|(_, producer)| producer.due_us());
        earliest(current.chain(leaving))
    }

    fn next_toggle(&self) -> (usize, f64) {
        earliest(self.instances.iter().map(|instance| instance.toggles_us))
    }

    /// An instance becomes slow or is itself again.
    fn toggle(&mut self, index: usize) {
        let Some(disturbance) = self.world.disturbance else { return };
        let now_us = self.now_us;
        let instance = &mut self.instances[index];
        instance.slow = !instance.slow;
        let mean_s = if instance.slow { disturbance.slow_s } else { disturbance.fast_s };
        instance.toggles_us = now_us + span_us(mean_s, &mut instance.rng);
        instance.set_speed(self.world, now_us);
    }

    /// The next in turn is replaced, or is warm.
    fn replace(&mut self) {
        let Some(replacement) = self.world.replacement else { return };
        let (every_us, cold_us) = (replacement.every_s * 1e6, replacement.cold_s * 1e6);
        let now_us = self.now_us;
        for instance in &mut self.instances {
            // Whoever has become warm: checked at every step, of which there are several while one is cold.
            instance.set_speed(self.world, now_us);
        }
        // A tenth of the interval is a step, so that warmth comes in time.
        let step_us = every_us.min(cold_us) / 10.0;
        let turn = (now_us / every_us + 1e-9) as usize;
        self.replaces_us = now_us + step_us;
        if turn <= self.replaced {
            return;
        }
        self.replaced = turn;
        let index = turn % self.instances.len();
        let instance = &mut self.instances[index];
        let fresh = Producer::new(self.world.form, self.world.slots, 1.0, now_us);
        let old = std::mem::replace(&mut instance.producer, fresh);
        instance.cold_since_us = now_us;
        instance.generation += 1;
        instance.load = Load::default();
        instance.speed = Speed::default();
        instance.set_speed(self.world, now_us);
        self.leaving.retain(|(_, producer)| producer.requests() > 0);
        self.leaving.push((index, old));
        for balancer in &mut self.balancers {
            match balancer {
                Balancer::Reactive(reactive) => reactive.replaced(index),
                Balancer::Steerer(steerer, _) => steerer.replaced(index),
            }
        }
    }

    fn arrive(&mut self, job: usize) {
        let arrival = &self.arrivals[job];
        let (now_us, objective_us) = (self.now_us, self.world.objective_ms * 1e3);
        let Policy::Foretide(steering) = self.policy else { return self.dispatch(job, None) };
        let Balancer::Steerer(steerer, queue) = &mut self.balancers[arrival.balancer] else { return };
        if !steering.late_binding {
            return self.dispatch(job, None);
        }
        let work_us = steerer.work_us(steering.predictor.guess_us(arrival));
        let expected_us = steerer.expected_us(work_us, queue);
        self.jobs[job].expected_us = expected_us;
        if !steerer.admits(expected_us, objective_us, queue.len()) {
            self.fates[job].refused = true;
        } else if queue.is_empty() && steerer.has_room(None) {
            self.dispatch(job, None);
        } else {
            // Beyond that a worker would only waste its time on it.
            let latest_us = if steering.admission { now_us + objective_us - work_us } else { f64::MAX };
            let latest = at(latest_us.max(now_us));
            let guest = Guest { work_us, priority: Priority::Normal, arrived: at(now_us), latest };
            if queue.push(job, guest).is_err() {
                self.fates[job].refused = true;
            }
        }
    }

    /// Chooses an instance and sends the request there. Probes go out first; the choice rests on whatever has come back by
    /// then: where the network takes no time, as in the reference's world, on their answers, otherwise on those to earlier
    /// ones.
    fn dispatch(&mut self, job: usize, tried: Option<usize>) {
        let balancer = self.arrivals[job].balancer;
        if self.is_shared() {
            // Whom to probe: who looks best for this request.
            self.choose(job, tried);
        }
        self.probe(balancer);
        let choice = self.choose(job, tried);
        match &mut self.balancers[balancer] {
            Balancer::Steerer(steerer, _) => steerer.sent(&choice),
            Balancer::Reactive(reactive) => reactive.sent(choice.instance),
        }
        let generation = self.instances[choice.instance].generation;
        let job_before = self.jobs[job];
        self.jobs[job] = Job {
            choice,
            generations: [generation; 2],
            sent_us: self.now_us,
            tried: tried.is_some(),
            ..job_before
        };
        self.send(Message::Arrives(job));
    }

    /// Whom a request goes to.
    fn choose(&mut self, job: usize, tried: Option<usize>) -> Choice {
        let arrival = &self.arrivals[job];
        let (now_us, instances, world) = (self.now_us, &self.instances, self.world);
        let warm = |index: usize| instances[index].warm(world, now_us);
        match (&mut self.balancers[arrival.balancer], self.policy) {
            (Balancer::Steerer(steerer, _), Policy::Foretide(steering)) => {
                let work_us = steerer.work_us(steering.predictor.guess_us(arrival));
                steerer.choose(work_us, at(now_us), tried, warm, &mut self.chance)
            }
            (Balancer::Reactive(reactive), policy) => {
                let ramped = policy == Policy::LeastRequestSlowStart;
                let warm = |index: usize| if ramped { instances[index].ramp(world, now_us) } else { 1.0 };
                let instance =
                    reactive.choose(now_us, tried, warm, |count| self.chance.random_range(0..count));
                Choice { instance, ..Choice::default() }
            }
            (Balancer::Steerer(..), _) => Choice::default(),
        }
    }

    /// Probes go out with a request.
    fn probe(&mut self, balancer: usize) {
        let probes = match self.policy {
            Policy::Prequal(_) => prequal::PROBES,
            Policy::Foretide(Steering { probes, .. }) => probes,
            _ => 0,
        };
        for number in 0..probes {
            let instance = match &self.balancers[balancer] {
                Balancer::Reactive(_) => self.chance.random_range(0..self.instances.len()),
                Balancer::Steerer(steerer, _) => steerer.probe(number, &mut self.chance),
            };
            self.send(Message::Probes { balancer, instance });
        }
    }

    /// Delivers at once where the network takes no time.
    fn send(&mut self, message: Message) {
        if self.world.delay_ms == 0.0 {
            return self.deliver(message);
        }
        self.messages.push(self.now_us + self.world.delay_ms * 1e3, message);
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Arrives(job) => self.begin(job),
            Message::Returns { job, service_us, left, report, said_us } => {
                self.answered(job, (service_us, f64::from(left)), report.as_ref(), said_us);
            }
            Message::Refused(job) => self.retry(job),
            Message::Probes { balancer, instance } => {
                let asked = &self.instances[instance];
                let in_flight = asked.producer.requests() as u32;
                let latency_us = asked.latencies.estimate_us(in_flight);
                let answer = Answer { instance, in_flight, latency_us, at: at(self.now_us) };
                let report = self.is_shared().then(|| asked.report());
                self.send(Message::Answers { balancer, answer, report });
            }
            Message::Answers { balancer, answer, report } => match &mut self.balancers[balancer] {
                Balancer::Reactive(reactive) => reactive.probed(answer),
                Balancer::Steerer(steerer, _) => {
                    if let Some(report) = report {
                        steerer.heard(answer.instance, &report, answer.at);
                    }
                }
            },
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self.policy, Policy::Foretide(Steering { probes: 1.., .. }))
    }

    /// A request reaches its instance, or what has taken its place.
    fn begin(&mut self, job: usize) {
        let (arrival, now_us) = (&self.arrivals[job], self.now_us);
        let Job { choice, tried, .. } = self.jobs[job];
        if arrival.refused_once && !tried {
            return self.send(Message::Refused(job));
        }
        let instance = &mut self.instances[choice.instance];
        self.jobs[job].found = instance.producer.requests() as u32;
        self.jobs[job].generations[1] = instance.generation;
        instance.load.add(choice.work_us.max(1));
        instance.producer.add(job, arrival.work_us, now_us);
    }

    /// A refused request goes elsewhere.
    fn retry(&mut self, job: usize) {
        let instance = self.jobs[job].choice.instance;
        match &mut self.balancers[self.arrivals[job].balancer] {
            Balancer::Reactive(reactive) => reactive.lost(instance),
            Balancer::Steerer(steerer, _) => steerer.lost(&self.jobs[job].choice),
        }
        self.dispatch(job, Some(instance));
    }

    /// A request ends at an instance; those beyond the fleet are leaving.
    fn end(&mut self, place: usize) {
        let now_us = self.now_us;
        let producer = match place.checked_sub(self.instances.len()) {
            Some(leaving) => &mut self.leaving[leaving].1,
            None => &mut self.instances[place].producer,
        };
        let Some(ended) = producer.end(now_us) else { return };
        let left = producer.requests() as u32;
        let Job { choice, generations, found, sent_us, .. } = self.jobs[ended.job];
        let shared = self.is_shared();
        let instance = &mut self.instances[choice.instance];
        let mut report = None;
        if instance.generation == generations[1] {
            instance.load.remove(choice.work_us.max(1));
            if shared {
                instance.speed.observe((ended.service_us / choice.work_us as f64).ln());
                report = Some(instance.report());
            }
            instance.latencies.observe(found, (now_us - sent_us) as f32);
        }
        let service_us = ended.service_us;
        self.send(Message::Returns { job: ended.job, service_us, left, report, said_us: now_us });
    }

    /// The answer is back at its balancer.
    fn answered(
        &mut self,
        job: usize,
        (service_us, left): (f64, f64),
        report: Option<&Report>,
        said_us: f64,
    ) {
        let (now_us, arrival) = (self.now_us, &self.arrivals[job]);
        let Job { choice, generations, sent_us, expected_us, .. } = self.jobs[job];
        self.fates[job].latency_ms = (now_us - arrival.at_us) / 1e3;
        let instance = &self.instances[choice.instance];
        let same = instance.generation == generations[0];
        let latency_us = now_us - sent_us;
        match (&mut self.balancers[arrival.balancer], self.policy) {
            (Balancer::Reactive(reactive), _) => {
                if same {
                    reactive.answered(choice.instance, (latency_us, service_us), left, now_us);
                }
            }
            (Balancer::Steerer(steerer, queue), Policy::Foretide(steering)) => {
                let predicted_us = steering.predictor.guess_us(arrival);
                let done = Done { choice, predicted_us, service_us, latency_us };
                steerer.answered(&done, same, instance.warm(self.world, now_us), now_us);
                if let Some(report) = report {
                    steerer.heard(choice.instance, report, at(said_us));
                }
                if steering.late_binding {
                    steerer.admitted(expected_us, now_us - arrival.at_us, queue.len());
                    self.bind(arrival.balancer);
                }
            }
            (Balancer::Steerer(..), _) => {}
        }
    }

    /// Who waits goes to the workers that have become free.
    fn bind(&mut self, balancer: usize) {
        while let Balancer::Steerer(steerer, queue) = &mut self.balancers[balancer] {
            if !steerer.has_room(None) {
                return;
            }
            match queue.pop(at(self.now_us)) {
                None => return,
                Some(Next::Expired(job)) => self.fates[job].refused = true,
                Some(Next::Serve(job)) => self.dispatch(job, None),
            }
        }
    }
}

impl Instance {
    fn new(world: &World, index: usize) -> Self {
        let mut rng = stream::named(world.seed, &format!("disturbance {index}"));
        let toggles_us = world.disturbance.map_or(f64::INFINITY, |d| span_us(d.fast_s, &mut rng));
        let usual_speed = world.speeds[index];
        Self {
            producer: Producer::new(world.form, world.slots, usual_speed, 0.0),
            usual_speed,
            slow: false,
            toggles_us,
            cold_since_us: f64::NEG_INFINITY,
            generation: 0,
            rng,
            load: Load::default(),
            speed: Speed::default(),
            latencies: Latencies::default(),
        }
    }

    /// Share of its usual speed: what a cold start leaves of it.
    fn warm(&self, world: &World, now_us: f64) -> f64 {
        world
            .replacement
            .map_or(1.0, |r| if now_us < self.cold_since_us + 1e6 * r.cold_s { r.factor } else { 1.0 })
    }

    /// Linear slow start over the time it is cold, from a tenth on.
    fn ramp(&self, world: &World, now_us: f64) -> f64 {
        let age = world.replacement.map_or(1.0, |r| (now_us - self.cold_since_us) / (1e6 * r.cold_s));
        age.clamp(0.1, 1.0)
    }

    fn set_speed(&mut self, world: &World, now_us: f64) {
        let disturbed = world.disturbance.filter(|_| self.slow).map_or(1.0, |d| d.factor);
        self.producer.set_speed(self.usual_speed * disturbed * self.warm(world, now_us), now_us);
    }

    /// What it says of itself, with what the wire loses.
    fn report(&self) -> Report {
        wire::unpack(wire::pack(&Report::of(&self.load, self.speed.residual())))
    }
}

/// Index and time of the earliest.
fn earliest(times: impl Iterator<Item = f64>) -> (usize, f64) {
    let later = |best: (usize, f64), next: (usize, f64)| if next.1 < best.1 { next } else { best };
    times.enumerate().fold((0, f64::INFINITY), later)
}

fn span_us(mean_s: f64, rng: &mut Pcg64Mcg) -> f64 {
    let unit: f64 = Exp1.sample(rng);
    unit * mean_s * 1e6
}

fn at(us: f64) -> Timestamp {
    Timestamp::from_us(us as u64)
}
