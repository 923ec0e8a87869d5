//! A fake world around the controller: a manager that starts instances in a fixed time, requests that are decided by
//! the published table, and virtual time in steps of 10 ms.
use foretide_control::controller::Controller;
use foretide_control::io::{Effect, FleetEvent, Input};
use foretide_control::report::StatusReport;
use foretide_forecast::calendar::ScheduledEvent;
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::id::{InstanceId, PoolId, RouteId};
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{Attempt, Decision, decide, predict};
use foretide_routing::extract::RequestFacts;
use foretide_routing::live::Ticket;
use foretide_routing::observe::{Observation, Outcome, Reported};
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::*;
use foretide_routing::table::{InstanceState, RoutingTable};
use std::sync::Arc;
use std::time::Duration;

/// Steps of virtual time.
const STEP: Duration = Duration::from_millis(10);

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::from_us(ms * 1_000)
}

/// One pool `web` with a manager that fills 1 to 5 instances of concurrency 1, in steps of 500 ms.
pub(crate) fn settings() -> RoutingSettings {
    RoutingSettings {
        routes: vec![RouteSettings {
            name: "all".to_owned(),
            matches: RouteMatch::default(),
            pool: "web".to_owned(),
            consumer: vec![],
            parameters: vec![],
            body_limit_bytes: 0,
            request_timeout: None,
            level: ServiceLevel::default(),
        }],
        pools: vec![pool("web")],
        events: vec![],
        learning: LearningSettings {
            step: Duration::from_millis(500),
            seasons: vec![],
            horizons: vec![5],
            history_steps: 2_000,
            refit_every: Duration::from_secs(2),
            retrain_every: Duration::from_secs(5),
            retrain_rows: 300,
            reservoir_rows: 2_000,
            key_cells: 256,
            trees: 5,
            depth: 3,
            cost_model: true,
            shadow: true,
        },
        seed: 7,
    }
}

pub(crate) fn pool(name: &str) -> PoolSettings {
    PoolSettings {
        name: name.to_owned(),
        policy: Policy::Predictive,
        choice: Default::default(),
        endpoints: vec![],
        manager: Some(ProcessManager {
            command: vec!["producer".to_owned()],
            environment: vec![],
            ports: (4_000, 4_100),
            ready_path: "/ready".to_owned(),
            warm_paths: vec![],
            start_timeout: Duration::from_secs(10),
            stop_grace: Duration::from_secs(1),
        }),
        scaling: ScalingSettings {
            mode: ScalingMode::Act,
            rule: ScalingRule::Predictive,
            floor: 1,
            ceiling: 5,
            step_up: 3,
            step_down: 1,
            cooldown: Duration::from_secs(3),
            target_utilisation: 0.8,
            target_rate_per_s: None,
            assumed_lead: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(5),
        },
        concurrency: 1,
        serving: ServingSettings::default(),
        queue: None,
        admission: None,
        sight: None,
        hedge: None,
        slow_start: Duration::ZERO,
        health: HealthSettings {
            path: Some("/live".to_owned()),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            unhealthy_after: 2,
            healthy_after: 2,
        },
        ejection: EjectionSettings {
            consecutive_failures: 5,
            success_rate: None,
            base: Duration::from_secs(5),
            longest: Duration::from_secs(60),
            cap_ratio: 0.5,
            panic_ratio: 0.4,
        },
        retry: RetrySettings { attempts: 2, budget_ratio: 0.2, budget_floor_per_s: 1.0 },
        upstream: UpstreamSettings {
            tls_server_name: None,
            tls_ca: None,
            http2: false,
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            cost_from: None,
            pass_load_report: false,
            load_stream: None,
        },
        objective: Duration::from_millis(500),
    }
}

pub(crate) fn event(name: &str, start_ms: u64, end_ms: u64, ratio: f64) -> ScheduledEvent {
    ScheduledEvent { name: name.to_owned(), start: at(start_ms), end: at(end_ms), ratio }
}

/// A request under way.
struct UnderWay {
    ends: Timestamp,
    arrived: Timestamp,
    query: CostQuery,
    prediction: CostPrediction,
    decision: Decision,
    ticket: Ticket,
    outcome: Outcome,
}

/// The world.
pub(crate) struct World {
    pub controller: Controller,
    pub now: Timestamp,
    pub table: Arc<RoutingTable>,
    /// Everything that was done, in words; two equal worlds have equal logs.
    pub log: Vec<String>,
    pub report: Option<Arc<StatusReport>>,
    pub cold_start: Duration,
    /// Starts fail instead of becoming ready.
    pub starts_fail: bool,
    /// Instances on which every request fails.
    pub failing: Vec<InstanceId>,
    /// Clients go away after so long.
    pub impatient: Option<Duration>,
    /// What instances say with every answer.
    pub reported: Reported,
    /// How many requests a second arrive, and how much work each is.
    pub load: (f64, Duration),
    pub served: u64,
    pub refused: u64,
    ready: Vec<(Timestamp, InstanceId)>,
    under_way: Vec<UnderWay>,
    owed: f64,
    requests: u64,
    jobs: Vec<Input>,
}

impl World {
    pub(crate) fn new(settings: RoutingSettings) -> Self {
        let start = at(1_000);
        let controller = Controller::new(settings, start);
        let table = Arc::clone(controller.table());
        let mut world = Self {
            controller,
            now: start,
            table,
            log: vec![],
            report: None,
            cold_start: Duration::from_secs(1),
            starts_fail: false,
            failing: vec![],
            impatient: None,
            reported: Reported::default(),
            load: (0.0, Duration::from_millis(50)),
            served: 0,
            refused: 0,
            ready: vec![],
            under_way: vec![],
            owed: 0.0,
            requests: 0,
            jobs: vec![],
        };
        world.perform();
        world
    }

    /// Lets time pass until `ms`.
    pub(crate) fn run_until(&mut self, ms: u64) {
        while self.now < at(ms) {
            self.now = self.now.plus(STEP);
            self.serve();
            let due: Vec<_> =
                self.ready.iter().filter(|(at, _)| *at <= self.now).map(|(_, id)| *id).collect();
            self.ready.retain(|(at, _)| *at > self.now);
            for instance in due {
                let event = if self.starts_fail {
                    FleetEvent::Failed { instance, why: "no such program".to_owned() }
                } else {
                    FleetEvent::Ready { instance, took: self.cold_start }
                };
                self.tell(Input::Fleet(event));
            }
            for job in std::mem::take(&mut self.jobs) {
                self.controller.handle(self.now, job);
            }
            if self.now >= self.controller.due() {
                self.controller.begin_tick(self.now);
                while self.controller.step() {}
            }
            self.perform();
        }
    }

    /// Tells the controller something.
    pub(crate) fn tell(&mut self, input: Input) {
        self.controller.handle(self.now, input);
        self.perform();
    }

    /// A producer is killed: what it was working on is lost.
    pub(crate) fn kill(&mut self, instance: InstanceId) {
        for request in &mut self.under_way {
            if request.decision.instance == instance {
                request.ends = self.now;
                request.outcome = Outcome::ProducerUnreachable;
            }
        }
        self.tell(Input::Fleet(FleetEvent::Exited { instance, asked: false }));
    }

    /// Instances that get requests, of the first pool.
    pub(crate) fn serving(&self) -> Vec<InstanceId> {
        self.table.pools[0].instances.iter().map(|entry| entry.id).collect()
    }

    /// State of an instance by the controller's own report.
    pub(crate) fn state(&self, id: InstanceId) -> Option<InstanceState> {
        let report = self.controller.report(self.now);
        let instance = report.pools.iter().flat_map(|pool| &pool.instances).find(|one| one.id == id);
        instance.map(|one| one.state)
    }

    /// How many lines of the log begin with this.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.log.iter().filter(|line| line.contains(what)).count()
    }

    /// What the controller decided, oldest first, for people who read a failed test.
    pub(crate) fn decisions(&self) -> String {
        let decisions = self.controller.report(self.now).scaling_decisions;
        let lines =
            decisions.iter().rev().map(|one| format!("{} {}\n", one.at.as_us() / 1_000, one.plan.words));
        lines.collect()
    }

    fn serve(&mut self) {
        let now = self.now;
        let (ended, rest) = std::mem::take(&mut self.under_way).into_iter().partition(|one| one.ends <= now);
        self.under_way = rest;
        for one in ended {
            self.finish(one);
        }
        self.owed += self.load.0 * STEP.as_secs_f64();
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.request();
        }
    }

    /// One request, decided by the table in service.
    pub(crate) fn request(&mut self) {
        self.requests += 1;
        let query = CostQuery::new(RouteId(0), 11, 1 + self.requests % 3);
        let facts = RequestFacts { route: RouteId(0), pool: PoolId(0), query, consumer_named: true };
        let prediction = predict(&self.table, &facts, self.now);
        let chance = self.requests.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let attempt = Attempt { tried: &[], id: self.requests, chance, wish: Wish::default(), now: self.now };
        match decide(&self.table, &self.table.pools[0], &facts, &prediction, attempt) {
            None => self.refused += 1,
            Some((decision, ticket)) => {
                let failing = self.failing.contains(&decision.instance);
                let outcome = if failing { Outcome::ProducerError } else { Outcome::Ok };
                let gives_up = self.impatient.filter(|patience| *patience < self.load.1);
                let outcome = if gives_up.is_some() { Outcome::ClientGone } else { outcome };
                let ends = self.now.plus(gives_up.unwrap_or(self.load.1));
                let arrived = self.now;
                let one = UnderWay { ends, arrived, query, prediction, decision, ticket, outcome };
                self.under_way.push(one);
            }
        }
    }

    fn finish(&mut self, one: UnderWay) {
        self.served += 1;
        let ended = one.outcome == Outcome::Ok;
        let attained = if ended { one.ticket.finish(self.now) } else { one.ticket.cut_short(self.now) };
        let seen = Observation {
            arrived_at: one.arrived,
            finished_at: self.now,
            pool: PoolId(0),
            query: one.query,
            prediction: one.prediction,
            decision: one.decision,
            upstream_us: self.now.since(one.arrived).as_micros() as u64,
            attained_us: if one.outcome == Outcome::ProducerError {
                0.0
            } else {
                attained.by(self.table.pools[0].form)
            },
            attained,
            status: if ended { 200 } else { 500 },
            response_bytes: None,
            reported: self.reported,
            outcome: one.outcome,
            retried: false,
        };
        self.controller.handle(self.now, Input::Observed(Box::new(seen)));
    }

    fn perform(&mut self) {
        while let Some(effect) = self.controller.next_effect() {
            let ms = self.now.as_us() / 1_000;
            match effect {
                Effect::Publish(table) => {
                    assert!(table.generation >= self.table.generation, "generations only grow");
                    self.log.push(format!("{ms} publish {}", table.pools[0].instances.len()));
                    self.table = table;
                }
                Effect::Start { instance, pool, .. } => {
                    self.log.push(format!("{ms} start {} in {}", instance.0, pool.0));
                    let address = format!("127.0.0.1:{}", 4_000 + instance.0);
                    let event = FleetEvent::Started { instance, address };
                    self.controller.handle(self.now, Input::Fleet(event));
                    self.ready.push((self.now.plus(self.cold_start), instance));
                }
                Effect::Stop { instance } => {
                    self.log.push(format!("{ms} stop {}", instance.0));
                    self.ready.retain(|(_, id)| *id != instance);
                    let event = FleetEvent::Exited { instance, asked: true };
                    self.controller.handle(self.now, Input::Fleet(event));
                }
                Effect::Fit(job) => self.jobs.push(job.run()),
                Effect::Train(job) => self.jobs.push(job.run()),
                Effect::Record(samples) => self.log.push(format!("{ms} record {}", samples.len())),
                Effect::Report(report) => self.report = Some(report),
            }
        }
    }
}
