//! The sans-IO controller: learn → forecast → plan → lint → effects → publish.
//!
//! `handle` takes what happened and only writes it down; decisions are made in ticks, in stages of one pool each, so
//! that the shell can watch the clock between them. A tick that was abandoned is taken up by the next one where it
//! stopped, so that the last pool is not the one that never gets its turn. Whatever changes who may get requests
//! (an instance became ready, ended, failed) makes the next tick due at once.
//!
//! Time and chance come in as parameters; the same inputs give the same effects. Nothing here grows without bound:
//! rings and caps are in the parts.
use crate::decisions::{RefusedEntry, RoutingEntry};
use crate::gates::{Place, RouteGates};
use crate::hearsay::Hearsay;
use crate::instance::{Instance, Life};
use crate::io::{Effect, FleetEvent, Input, LoadSample, SeriesKey};
use crate::learning::{Learning, Unit};
use crate::outbox::Outbox;
use crate::pool::{Pool, Surroundings};
use crate::publish::{self, PUBLISH_EVERY, Shared};
use crate::reload;
use crate::report::{RoutingDecisionReport, ScalingDecisionReport};
use crate::training::Training;
use foretide_forecast::fit::Forecast;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_predictor::hash;
use foretide_predictor::id::{InstanceId, PoolId, RouteId};
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::CompiledRoutes;
use foretide_routing::observe::{Observation, Outcome, Refusal, Utilisation};
use foretide_routing::settings::RoutingSettings;
use foretide_routing::table::RoutingTable;
use foretide_steering::score::Form;
use std::sync::Arc;
use std::time::Duration;

/// Time between ticks: how long a broken instance may stay in the table, and how finely demand is seen.
const TICK_EVERY: Duration = Duration::from_millis(100);
/// Weights move this often, a little each time: minutes from one end to the other.
const WEIGHTS_EVERY: Duration = Duration::from_secs(1);
/// Reports come this often, twice as often where a step is shorter than a second.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// All decisions that are not about a single request. `handle` and `step` never block; slow work leaves as effects.
#[derive(Debug)]
pub struct Controller {
    pub(crate) settings: RoutingSettings,
    pub(crate) pools: Vec<Pool>,
    pub(crate) learning: Learning,
    pub(crate) training: Training,
    pub(crate) gates: RouteGates,
    pub(crate) hearsay: Hearsay,
    pub(crate) weights: TierWeights,
    pub(crate) out: Outbox,
    routes: Arc<CompiledRoutes>,
    route_names: Vec<Arc<str>>,
    table: Arc<RoutingTable>,
    now: Timestamp,
    due: Timestamp,
    /// Next stage of the tick under way: pools, then the rest; `None`: no tick under way.
    stage: Option<usize>,
    publish_due: Timestamp,
    report_due: Timestamp,
    weights_due: Timestamp,
    frozen: bool,
}

impl Controller {
    /// Starts with static endpoints in service and floors to be filled; the first effects are a `Publish` and `Start`s.
    pub fn new(settings: RoutingSettings, now: Timestamp) -> Self {
        let mut out = Outbox::default();
        let pools: Vec<Pool> = (settings.pools.iter().zip(0..))
            .map(|(pool, index)| Pool::new(PoolId(index), pool, &settings.learning, now, &mut out))
            .collect();
        let learning = Learning::new(
            settings.learning.key_cells,
            settings.learning.reservoir_rows,
            hash::pair(settings.seed, hash::bytes(b"reservoir")),
        );
        let routes = Arc::new(CompiledRoutes::compile(&settings));
        let weights = TierWeights::START;
        let mut gates = RouteGates::default();
        gates.follow(&settings.routes);
        let shared = Shared {
            routes: &routes,
            learning: &learning,
            gates: &gates,
            model: None,
            weights,
            previous: None,
        };
        let table = Arc::new(publish::table(&pools, &shared, now));
        out.push(Effect::Publish(Arc::clone(&table)));
        let mut controller = Self {
            route_names: names(&settings),
            settings,
            pools,
            learning,
            training: Training::default(),
            gates,
            hearsay: Hearsay::default(),
            weights,
            out,
            routes,
            table,
            now,
            due: now.plus(TICK_EVERY),
            stage: None,
            publish_due: now.plus(PUBLISH_EVERY),
            report_due: now,
            weights_due: now,
            frozen: false,
        };
        (0..controller.pools.len()).for_each(|index| controller.tend(index));
        controller
    }

    /// Takes something that happened.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Observed(seen) => self.observed(seen),
            Input::Refused(refusal) => self.refused(*refusal),
            Input::Probed { instance, healthy } => self.probed(instance, healthy),
            Input::Said { instance, utilisation } => self.said(instance, utilisation),
            Input::Fleet(event) => self.fleet(event),
            Input::Heard(heard) => self.hearsay.hear(*heard, self.now),
            Input::Forecast { of, result } => self.fitted(&of, result),
            Input::Trained { result } => {
                self.out.dirty |= self.training.trained(result, self.table.generation + 1);
            }
            Input::History(samples) => self.recall(samples),
            Input::Learned(learned) => self.relearn(*learned),
            Input::Settings(settings) => self.reload(*settings),
            Input::SetModel(model) => {
                self.training.serve(model.map(|model| *model), self.table.generation + 1);
                self.urgent();
            }
            Input::Freeze => self.frozen = true,
        }
    }

    /// Begins a tick: `step` until it returns false. A tick still under way is taken up where it stopped.
    pub fn begin_tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.due = self.now.plus(TICK_EVERY);
        self.stage.get_or_insert(0);
        self.learning.begin_tick();
    }

    /// Does one stage of the tick for one pool; true: more to do. The caller watches the clock and may simply stop.
    pub fn step(&mut self) -> bool {
        let Some(stage) = self.stage else { return false };
        if stage < self.pools.len() {
            self.tend(stage);
            self.stage = Some(stage + 1);
            return true;
        }
        self.finish_tick();
        self.stage = None;
        false
    }

    /// When the next tick is due.
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// Next thing to do, in order.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// The table in service.
    pub fn table(&self) -> &Arc<RoutingTable> {
        &self.table
    }

    /// A routing decision of the last while, by id, with what moved its prediction.
    pub fn routing_decision(&self, id: u64) -> Option<RoutingDecisionReport> {
        let expect_bytes = |query: &_| self.learning.costs.expected_bytes(query);
        self.out.log.routing(id, |seen| self.training.explain(seen), expect_bytes)
    }

    /// A scaling decision of the last while, by id.
    pub fn scaling_decision(&self, id: u64) -> Option<ScalingDecisionReport> {
        self.out.log.scaling(id)
    }

    /// For the state file.
    pub fn learned(&self) -> LearnedCosts {
        LearnedCosts {
            table: self.learning.costs.snapshot(),
            rows: self.learning.reservoir.rows(),
            model: self.training.model.as_deref().cloned(),
            gates: self.gates.saved(),
        }
    }

    /// Brings one pool up to date.
    fn tend(&mut self, index: usize) {
        let around = Surroundings {
            now: self.now,
            settings: &self.settings,
            peers: &self.learning.peers,
            hearsay: &self.hearsay,
            weights: self.weights,
            frozen: self.frozen,
        };
        self.pools[index].tend(around, &mut self.out);
    }

    /// What concerns all pools.
    fn finish_tick(&mut self) {
        let now = self.now;
        self.pools.retain(|pool| !pool.retired || !pool.instances.is_empty());
        if now >= self.weights_due {
            self.weights_due = now.plus(WEIGHTS_EVERY);
            self.weights = self.weights.follow(self.skills());
        }
        let seed = self.settings.seed;
        if let Some(job) = self.training.next_job(&self.learning, &self.settings.learning, seed, now) {
            self.out.push(Effect::Train(Box::new(job)));
        }
        if self.out.dirty || now >= self.publish_due {
            self.publish();
        }
        if !self.out.records.is_empty() {
            let records = std::mem::take(&mut self.out.records);
            self.out.push(Effect::Record(records));
        }
        if now >= self.report_due {
            let halved = self.settings.learning.step < REPORT_EVERY;
            self.report_due = now.plus(if halved { REPORT_EVERY / 2 } else { REPORT_EVERY });
            let report = Arc::new(self.report(now));
            self.out.push(Effect::Report(report));
        }
    }

    fn publish(&mut self) {
        self.out.dirty = false;
        self.publish_due = self.now.plus(PUBLISH_EVERY);
        let model = self.training.model.as_ref().filter(|_| self.settings.learning.cost_model);
        let shared = Shared {
            routes: &self.routes,
            learning: &self.learning,
            gates: &self.gates,
            model,
            weights: self.weights,
            previous: Some(&self.table),
        };
        self.table = Arc::new(publish::table(&self.pools, &shared, self.now));
        self.out.push(Effect::Publish(Arc::clone(&self.table)));
    }

    /// The hot path must see this soon.
    fn urgent(&mut self) {
        self.out.dirty = true;
        self.due = self.due.min(self.now);
    }

    fn pool_of(&mut self, id: InstanceId) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| pool.instances.contains_key(&id))
    }

    fn observed(&mut self, seen: Box<Observation>) {
        let (now, id) = (self.now, seen.decision.instance);
        let failed = matches!(seen.outcome, Outcome::ProducerError | Outcome::ProducerUnreachable);
        if self.training.judge(&seen) {
            self.urgent();
        }
        let mut lesson = Default::default();
        let mut ejected = false;
        let mut form = Form::default();
        // Its pool is found by instance: pool numbers change with the settings, instance numbers never.
        let position = self.pools.iter().position(|pool| pool.instances.contains_key(&id));
        if let Some(pool) = position.map(|position| &mut self.pools[position]) {
            if seen.outcome != Outcome::ClientGone {
                ejected = pool.tried(id, failed, now);
            }
            if seen.outcome == Outcome::Ok && !seen.retried {
                self.out.dirty |= pool.served(&seen);
            }
            form = pool.form();
            let reports_cost = pool.settings.upstream.cost_from.is_some();
            if let Some(instance) = pool.instances.get_mut(&id) {
                instance.reported(seen.reported.utilisation, seen.finished_at);
                let unit = if reports_cost { Unit::Reported } else { Unit::Service };
                lesson = self.learning.observe(&seen, instance.speed, unit, now);
                lesson.speed_residual.into_iter().for_each(|residual| instance.speed.observe(residual));
                if let Some(work_us) = lesson.work_us.filter(|_| lesson.learned) {
                    let slots = pool.settings.concurrency;
                    let place = Place { form, slots, rho: instance.speed.rho() };
                    pool.believe(self.gates.observe(&seen, work_us, place));
                }
            }
        }
        let whole = lesson.work_us.filter(|_| self.settings.learning.shadow);
        if let (Some(work_us), Some(position)) = (whole, position) {
            self.pools[position].cast_shadow(&seen, work_us);
        }
        if ejected {
            self.urgent();
        }
        let pool =
            position.map_or_else(|| Arc::from("gone"), |position| Arc::clone(&self.pools[position].name));
        let route = self.route_name(seen.query.route);
        let actual = lesson.work_us.map(|work_us| (work_us, self.learning.costs.class_of(work_us)));
        self.out.log.routed(RoutingEntry { seen, route, pool, form, actual });
    }

    fn route_name(&self, route: RouteId) -> Arc<str> {
        self.route_names.get(route.index()).cloned().unwrap_or_else(|| Arc::from("gone"))
    }

    /// Demand that was not served is demand.
    fn refused(&mut self, refusal: Refusal) {
        let route = self.route_name(refusal.query.route);
        let pool = self.pools.iter_mut().find(|pool| pool.id == refusal.pool && !pool.retired);
        let Some(pool) = pool else { return };
        pool.turned_away(refusal.work_us);
        self.out.log.refused(RefusedEntry { refusal, route, pool: Arc::clone(&pool.name) });
    }

    fn said(&mut self, id: InstanceId, utilisation: Utilisation) {
        let now = self.now;
        if let Some(instance) = self.pool_of(id).and_then(|pool| pool.instances.get_mut(&id)) {
            instance.reported(utilisation, now);
        }
    }

    fn probed(&mut self, id: InstanceId, healthy: bool) {
        let now = self.now;
        let Some(pool) = self.pool_of(id) else { return };
        let settings = Arc::clone(&pool.settings);
        let Some(instance) = pool.instances.get_mut(&id).filter(|instance| instance.is_warm()) else {
            return;
        };
        if !instance.health.probed(healthy, &settings.health) {
            return;
        }
        if healthy {
            // It may have restarted: its caches are cold, so it climbs its ramp again.
            instance.warm_since = now;
        }
        pool.scaler.plan_now(now);
        self.urgent();
    }

    fn fleet(&mut self, event: FleetEvent) {
        let now = self.now;
        match event {
            FleetEvent::Started { instance, address } => {
                self.change(instance, |one| {
                    one.address = Some(Arc::from(address.as_str()));
                    if one.life == Life::Cold {
                        one.life = Life::Warming;
                    }
                });
            }
            FleetEvent::Ready { instance, took } => {
                let Some(pool) = self.pool_of(instance) else { return };
                pool.scaler.measured_start(took);
                pool.scaler.backoff.ready();
                self.change(instance, |one| {
                    if matches!(one.life, Life::Cold | Life::Warming) {
                        one.life = Life::Warm;
                        one.warm_since = now;
                    }
                });
                self.urgent();
            }
            FleetEvent::Failed { instance, why } => self.ended(instance, Some(why), false),
            FleetEvent::Exited { instance, asked } => self.ended(instance, None, asked),
        }
    }

    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Instance)) {
        let instance = self.pool_of(id).and_then(|pool| pool.instances.get_mut(&id));
        if let Some(instance) = instance.filter(|instance| instance.managed) {
            change(instance);
        }
    }

    /// A managed instance is gone. Unless that was wished for, the next tick plans at once.
    fn ended(&mut self, id: InstanceId, failure: Option<String>, asked: bool) {
        let now = self.now;
        let Some(pool) = self.pool_of(id) else { return };
        let Some(gone) = pool.instances.get(&id).filter(|instance| instance.managed) else { return };
        let (life, warm_since) = (gone.life, gone.warm_since);
        pool.instances.remove(&id);
        let backoff = &mut pool.scaler.backoff;
        match (life, failure) {
            (Life::Draining { .. }, _) => {}
            (_, Some(why)) => backoff.failed(why, now),
            _ if asked => {}
            (Life::Warm, None) => backoff.ended(now.since(warm_since), now),
            (_, None) => backoff.failed("ended by itself before it was ready".to_owned(), now),
        }
        pool.scaler.plan_now(now);
        self.learning.peers.forget(id);
        self.urgent();
    }

    fn fitted(&mut self, of: &SeriesKey, result: Result<Forecast, String>) {
        let Some(pool) = self.pools.get_mut(of.pool.index()).filter(|pool| !pool.retired) else { return };
        let track = match of.instance {
            None => Some(&mut pool.track),
            Some(id) => pool.instances.get_mut(&id).map(|instance| &mut instance.track),
        };
        if let Some(track) = track {
            track.fitted(result);
        }
    }

    /// History from before the start; what has a place by name is put there.
    fn recall(&mut self, mut samples: Vec<LoadSample>) {
        samples.sort_by_key(|sample| sample.at);
        for sample in samples.iter().filter(|sample| sample.at <= self.now && sample.work_rate.is_finite()) {
            let Some(pool) = self.pools.iter_mut().find(|pool| *pool.name == *sample.pool) else { continue };
            match &sample.instance {
                None => pool.recall(sample),
                Some(address) => {
                    let same = |one: &&mut Instance| one.address.as_deref() == Some(address);
                    let instance = pool.instances.values_mut().find(same);
                    instance
                        .into_iter()
                        .for_each(|one| one.track.recall(sample.at, sample.work_rate, Duration::ZERO));
                }
            }
        }
        self.pools.iter_mut().for_each(|pool| pool.track.refit(self.now));
    }

    fn relearn(&mut self, learned: LearnedCosts) {
        self.learning.costs.restore(&learned.table);
        self.gates.restore(&learned.gates);
        for row in learned.rows {
            self.learning.reservoir.push(row);
        }
        if learned.model.is_some() {
            self.training.serve(learned.model, self.table.generation + 1);
        }
        self.urgent();
    }

    fn reload(&mut self, settings: RoutingSettings) {
        let before = std::mem::take(&mut self.pools);
        self.pools = reload::pools(before, &self.settings, &settings, self.now, &mut self.out);
        self.learning.resize(&self.settings.learning, &settings.learning);
        self.gates.follow(&settings.routes);
        self.routes = Arc::new(CompiledRoutes::compile(&settings));
        self.route_names = names(&settings);
        self.settings = settings;
        self.stage = None;
        self.publish();
    }
}

fn names(settings: &RoutingSettings) -> Vec<Arc<str>> {
    settings.routes.iter().map(|route| Arc::from(route.name.as_str())).collect()
}
