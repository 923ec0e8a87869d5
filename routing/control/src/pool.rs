//! One pool: its instances, its demand and its forecast. Each tick `tend` brings it up to date.
//!
//! The order matters: collect what arrived, judge health, let draining ones go, score the load, ask for forecasts, plan.
use crate::health;
use crate::hearsay::Hearsay;
use crate::instance::{DrainStep, Instance, Life};
use crate::io::{Effect, LoadSample, SeriesKey};
use crate::meter::{Arrived, ClosedStep, Steps, Window};
use crate::outbox::Outbox;
use crate::outlier::Outliers;
use crate::report::FormReport;
use crate::scaling::Scaler;
use crate::track::{FitPlan, Track, highest, steps_in};
use foretide_predictor::blend::TierWeights;
use foretide_predictor::id::{InstanceId, PoolId};
use foretide_predictor::peers::PeerTable;
use foretide_predictor::time::Timestamp;
use foretide_routing::hedge::Hedging;
use foretide_routing::live::others::PoolSight;
use foretide_routing::observe::Observation;
use foretide_routing::retry::RetryBudget;
use foretide_routing::settings::{LearningSettings, PoolSettings, RoutingSettings};
use foretide_shadow::fleet::{Member, Setup};
use foretide_shadow::shadow::{Finished, Shadow};
use foretide_steering::buckets::whole_us;
use foretide_steering::score::{self, Form};
use foretide_steering::serving::Serving;
use foretide_steering::speed::{self, Speed};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Speeds, anomalies and load scores are renewed this often: their inputs move within seconds, not within ticks.
const SCORE_EVERY: Duration = Duration::from_millis(500);
/// Forecasts of instances asked for per tick, so that a large fleet does not want them all at once.
const INSTANCE_FITS: usize = 2;
/// An instance's load is forecast this many steps ahead: its part of the score looks no further.
const INSTANCE_STEPS: usize = 5;
/// Requests over which the weight of predictions in a pool is averaged: its routes' own glide already.
const WEIGHT_MEMORY: f64 = 50.0;
/// Steps ahead at most: a day of minutes.
const MOST_STEPS_AHEAD: usize = 1_440;

/// What a tick brings to each pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Timestamp,
    pub(crate) settings: &'a RoutingSettings,
    pub(crate) peers: &'a PeerTable,
    /// What other proxies say.
    pub(crate) hearsay: &'a Hearsay,
    pub(crate) weights: TierWeights,
    /// No more starts and stops.
    pub(crate) frozen: bool,
}

/// One pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) name: Arc<str>,
    pub(crate) settings: Arc<PoolSettings>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) track: Track,
    pub(crate) window: Window,
    pub(crate) scaler: Scaler,
    pub(crate) retry_budget: Arc<RetryBudget>,
    pub(crate) hedging: Option<Arc<Hedging>>,
    /// What is known of others' requests, if that is asked for.
    pub(crate) sight: Option<Arc<PoolSight>>,
    /// Proxies in front of it that are known, this one included; `None`: nobody listens.
    pub(crate) proxies: Option<usize>,
    pub(crate) panic: bool,
    /// Taken out of the configuration: lives until its last instance has gone.
    pub(crate) retired: bool,
    /// How its instances serve, as their answers show.
    serving: Serving,
    /// Who fails more often than the others.
    outliers: Outliers,
    /// Weight of predictions on its routes, as its requests come, 0 to 1.
    pub(crate) prediction_weight: f64,
    /// Other policies on the same requests.
    pub(crate) shadow: Shadow,
    steps: Steps,
    /// Was not let in since the last collection.
    refused: Arrived,
    collected_at: Timestamp,
    score_due: Timestamp,
}

impl Pool {
    /// A pool with its endpoints in service.
    pub(crate) fn new(
        id: PoolId,
        settings: &PoolSettings,
        learning: &LearningSettings,
        now: Timestamp,
        out: &mut Outbox,
    ) -> Self {
        let fixed = settings.endpoints.iter().map(|endpoint| {
            let id = out.next_instance();
            (id, Instance::fixed(id, endpoint, learning, now))
        });
        Self {
            id,
            name: Arc::from(settings.name.as_str()),
            instances: fixed.collect(),
            track: Track::new(learning.step, learning.history_steps, now),
            window: Window::new(learning.step),
            scaler: Scaler::default(),
            retry_budget: Arc::new(RetryBudget::new(settings.retry)),
            hedging: settings.hedge.map(Hedging::new).map(Arc::new),
            sight: settings.sight.as_ref().map(|sight| Arc::new(PoolSight::new(sight.max_age))),
            proxies: None,
            panic: false,
            retired: false,
            serving: Serving::assuming(assumed(settings)),
            outliers: Outliers::default(),
            prediction_weight: 0.0,
            shadow: Shadow::new(),
            steps: Steps::new(learning.step),
            refused: Arrived::default(),
            collected_at: now,
            score_due: now,
            settings: Arc::new(settings.clone()),
        }
    }

    /// A new step width, or another length of history.
    pub(crate) fn rescale_history(&mut self, learning: &LearningSettings, now: Timestamp) {
        self.track = self.track.rescaled(learning.step, learning.history_steps, now);
        self.window = Window::new(learning.step);
        self.steps = Steps::new(learning.step);
        self.instances.values_mut().for_each(|instance| instance.rescale_history(learning, now));
    }

    /// Brings everything up to `around.now`.
    pub(crate) fn tend(&mut self, around: Surroundings<'_>, out: &mut Outbox) {
        self.collect(around, out);
        self.judge_health(around.now, out);
        if !around.frozen {
            self.let_go(around.now, out);
        }
        if around.now >= self.score_due {
            self.score_due = around.now.plus(SCORE_EVERY);
            self.score(around);
        }
        if around.settings.learning.shadow {
            // What is left is done in the next tick.
            self.shadow.advance(around.now.as_us());
        }
        if !self.retired {
            self.forecast(around, out);
            self.plan(around, out);
        }
    }

    fn collect(&mut self, around: Surroundings<'_>, out: &mut Outbox) {
        let (from, to) = (self.collected_at, around.now);
        if to <= from {
            return;
        }
        self.collected_at = to;
        let lead = self.scaler.lead(&self.settings.scaling);
        let mut sum = std::mem::take(&mut self.refused);
        let mut in_flight = 0;
        for instance in self.instances.values_mut() {
            let (arrived, closed) = instance.collect(from, to);
            sum.work_s += arrived.work_s;
            sum.requests += arrived.requests;
            in_flight += instance.live.in_flight().requests;
            let address = instance.address.as_deref();
            for step in closed {
                instance.track.close(step.at, step.rate.work_s, lead);
                out.records.extend(address.map(|address| sample(&self.name, Some(address), step)));
            }
        }
        self.window.add(from, to, sum);
        for step in self.steps.add(from, to, sum, f64::from(in_flight)) {
            self.track.close(step.at, step.rate.work_s, lead);
            self.scaler.target_rate.close(step, around.settings.learning.step);
            out.records.push(sample(&self.name, None, step));
        }
    }

    /// A request of so much predicted work was not let in; it counts as demand all the same, or a pool that refuses would
    /// never grow.
    pub(crate) fn turned_away(&mut self, work_us: f64) {
        self.refused.requests += 1.0;
        self.refused.work_s += whole_us(work_us) as f64 / 1e6;
    }

    /// A step of this pool's own history, read back at the start.
    pub(crate) fn recall(&mut self, sample: &LoadSample) {
        let lead = self.scaler.lead(&self.settings.scaling);
        self.track.recall(sample.at, sample.work_rate, lead);
    }

    /// Ends ejections, ejects who fails more often than the others, and finds out whether too few are left.
    fn judge_health(&mut self, now: Timestamp, out: &mut Outbox) {
        let settings = &self.settings.ejection;
        for instance in self.instances.values_mut() {
            out.dirty |= instance.health.tick(now, settings);
        }
        if let Some(settings) = settings.success_rate {
            for id in self.outliers.judge(&self.instances, &settings, now) {
                out.dirty |= self.eject_within_cap(id, now);
            }
        }
        let panic = self.panics();
        out.dirty |= panic != self.panic;
        self.panic = panic;
    }

    fn panics(&self) -> bool {
        let warm = self.instances.values().filter(|instance| instance.is_warm());
        let usable =
            warm.clone().filter(|one| !one.health.is_unhealthy() && !one.health.is_ejected()).count();
        health::panics(usable, warm.count(), &self.settings.ejection)
    }

    /// A try on one of its instances came back; true: the instance is ejected for it.
    pub(crate) fn tried(&mut self, id: InstanceId, failed: bool, now: Timestamp) -> bool {
        let settings = &self.settings.ejection;
        let Some(instance) = self.instances.get_mut(&id) else { return false };
        instance.requests += 1;
        instance.failures += u64::from(failed);
        instance.errors.tried(failed, now);
        let wanted = instance.health.tried(failed, settings) && instance.is_warm();
        // Counted only now: this runs for every request.
        wanted && self.eject_within_cap(id, now)
    }

    /// How its instances serve: as the operator says, or as was found out.
    pub(crate) fn form(&self) -> Form {
        self.settings.serving.form.unwrap_or_else(|| self.serving.form())
    }

    /// A try ended in order; true: it showed that the instances serve otherwise than was thought.
    pub(crate) fn served(&mut self, seen: &Observation) -> bool {
        let speed = self.instances.get(&seen.decision.instance).map_or(0.0, |instance| instance.speed.rho());
        let expected_us = f64::from(seen.prediction.steering.work_us) * speed.exp();
        self.serving.observe(seen.attained.sharing_us, seen.attained.in_turn_us, expected_us)
            && self.settings.serving.form.is_none()
    }

    /// In words and numbers, for people.
    pub(crate) fn form_report(&self) -> FormReport {
        let because = match (self.settings.serving.form, self.serving.is_found()) {
            (Some(_), _) => "as configured",
            (None, true) => "found out",
            (None, false) if self.settings.queue.is_some() => {
                "assumed: behind a queue nobody waits at an instance"
            }
            (None, false) => "assumed: too few requests have waited at an instance",
        };
        FormReport {
            form: self.form().name(),
            because,
            seen: self.serving.seen(),
            ratio: self.serving.ratio(),
        }
    }

    /// New settings for the same pool. What was found out stays, unless it is about another number of workers.
    pub(crate) fn renew_settings(&mut self, settings: &PoolSettings) {
        let old = &self.settings;
        if (old.concurrency, old.queue.is_some()) != (settings.concurrency, settings.queue.is_some()) {
            self.serving = Serving::assuming(assumed(settings));
        }
        self.settings = Arc::new(settings.clone());
    }

    fn eject_within_cap(&mut self, id: InstanceId, now: Timestamp) -> bool {
        let settings = &self.settings.ejection;
        let warm = self.instances.values().filter(|one| one.is_warm());
        let ejected = warm.clone().filter(|one| one.health.is_ejected()).count();
        if !health::may_eject(ejected, warm.count(), settings) {
            return false;
        }
        let instance = self.instances.get_mut(&id);
        instance.map(|instance| instance.health.eject(now, settings)).is_some()
    }

    /// Draining instances that are done, and starts that nobody will report on.
    fn let_go(&mut self, now: Timestamp, out: &mut Outbox) {
        let settings = Arc::clone(&self.settings);
        let mut gone = Vec::new();
        for instance in self.instances.values_mut() {
            if instance.is_lost(&settings, now) {
                self.scaler.backoff.failed("the start was never reported on".to_owned(), now);
                instance.drain(now);
            }
            match instance.drain_step(&settings, now) {
                DrainStep::Wait => {}
                DrainStep::Stop => out.push(Effect::Stop { instance: instance.id }),
                DrainStep::Forget => gone.push(instance.id),
            }
        }
        for id in gone {
            self.instances.remove(&id);
        }
    }

    fn score(&mut self, around: Surroundings<'_>) {
        let warm = || self.instances.values().filter(|instance| instance.is_warm());
        let ids: Vec<InstanceId> = warm().map(|instance| instance.id).collect();
        let anomalies = around.peers.anomalies(&ids, around.now);
        let capacity: f64 = warm().map(|instance| instance.capacity(&self.settings)).sum();
        let learning = &around.settings.learning;
        let window_end = around.now.plus(learning.step * INSTANCE_STEPS as u32);
        let ahead = |track: &Track| {
            let forecast = track.fresh(learning.refit_every, around.now)?;
            Some(highest(forecast, around.now, window_end)?.mean())
        };
        let pool_ahead = ahead(&self.track);
        let sight = self.mind_others();
        let heard = self.listen(around);
        let mut speeds: Vec<&mut Speed> = Vec::with_capacity(ids.len());
        for instance in self.instances.values_mut().filter(|instance| instance.is_warm()) {
            instance.anomaly = anomalies.iter().find(|anomaly| anomaly.instance == instance.id).copied();
            // Too new for a forecast of its own: its fair share of the pool's.
            let share = instance.capacity(&self.settings) / capacity;
            let baseline = ahead(&instance.track).or(pool_ahead.map(|rate| rate * share));
            instance.score(&self.settings, around.weights, baseline, around.now);
            let said = sight.as_ref().and_then(|sight| sight.residual(&instance.live, around.now));
            instance.speed.said(said.map(f64::from));
            speeds.push(&mut instance.speed);
        }
        speed::tell(&mut speeds, &heard);
        speed::centre(&mut speeds);
        let measured = speeds.iter().filter(|speed| speed.residual().is_some());
        let usual_yields = score::yielding(measured.map(|speed| speed.rho()));
        let heavy_yields = self.settings.serving.heavy_yields.unwrap_or(usual_yields);
        let temper = speed::temper(self.form(), Some(speed::FULL_SKILL * self.prediction_weight));
        for instance in self.instances.values() {
            instance.live.set_speed_residual(instance.speed.rho() as f32, temper);
            instance.live.set_heavy_yields(heavy_yields);
            instance.live.settle();
        }
        if learning.shadow {
            let setup = self.shadowed(temper, heavy_yields);
            self.shadow.set(setup);
        }
    }

    /// A request of so much work ended in order: the shadows get it too.
    pub(crate) fn cast_shadow(&mut self, seen: &Observation, work_us: f64) {
        // Behind a queue the wait in the proxy is part of what policies differ in.
        let whole = seen.finished_at.since(seen.arrived_at).as_micros() as f64;
        let request = Finished {
            at_us: seen.arrived_at.as_us(),
            latency_us: if self.settings.queue.is_some() { whole } else { seen.upstream_us as f64 },
            work_us,
            steered_us: f64::from(seen.prediction.steering.work_us),
        };
        self.shadow.observe(request, seen.finished_at.as_us());
    }

    /// The pool as the shadows have it.
    fn shadowed(&self, temper: f32, heavy_yields: f32) -> Setup {
        let member = |instance: &Instance| Member { id: instance.id.0, speed: (-instance.speed.rho()).exp() };
        Setup {
            form: self.form(),
            slots: self.settings.concurrency.max(1) as usize,
            temper: f64::from(temper),
            heavy_yields,
            members: self.in_service().map(member).collect(),
            late_binding: self.settings.queue.is_some(),
        }
    }

    /// What other proxies say of the warm instances: their slowness, in order of ids.
    fn listen(&mut self, around: Surroundings<'_>) -> Vec<Option<f64>> {
        let addresses = || self.instances.values().filter_map(|instance| instance.address.as_deref());
        let hearsay = around.hearsay.of_pool(&self.name, addresses(), around.now);
        self.proxies = hearsay.as_ref().map(|hearsay| hearsay.proxies());
        let warm = self.instances.values_mut().filter(|instance| instance.is_warm());
        warm.map(|instance| {
            instance.heard = hearsay.as_ref().and_then(|said| said.of(instance.address.as_deref()?));
            instance.heard?.slowness
        })
        .collect()
    }

    /// A request of it was learned from, on whose route predictions have this weight.
    pub(crate) fn believe(&mut self, weight: f64) {
        self.prediction_weight += (weight - self.prediction_weight) / WEIGHT_MEMORY;
    }

    /// How long reports of others' requests are worth something follows the mean service time.
    fn mind_others(&self) -> Option<Arc<PoolSight>> {
        let sight = self.sight.clone()?;
        let rate = self.window.rate();
        sight.set_mean_service(1e6 * rate.work_s / rate.requests);
        Some(sight)
    }

    fn forecast(&mut self, around: Surroundings<'_>, out: &mut Outbox) {
        let learning = &around.settings.learning;
        let lead_steps = steps_in(self.scaler.lead(&self.settings.scaling), learning.step);
        let horizon = learning.horizons.iter().copied().max().unwrap_or(1);
        let plan = |steps_ahead: usize| FitPlan {
            seasons: &learning.seasons,
            events: &around.settings.events,
            steps_ahead: steps_ahead.min(MOST_STEPS_AHEAD),
            every: learning.refit_every,
        };
        let key = |instance| SeriesKey { pool: self.id, instance };
        // Two leads ahead of a forecast that may be one period old.
        let period = steps_in(learning.refit_every, learning.step);
        let far = horizon.max(2 * lead_steps + period + 2);
        if let Some(job) = self.track.next_fit(key(None), plan(far), around.now) {
            out.push(Effect::Fit(Box::new(job)));
        }
        let warm = self.instances.values_mut().filter(|instance| instance.is_warm());
        let jobs = warm.filter_map(|instance| {
            instance.track.next_fit(key(Some(instance.id)), plan(INSTANCE_STEPS + period), around.now)
        });
        jobs.take(INSTANCE_FITS).for_each(|job| out.push(Effect::Fit(Box::new(job))));
    }

    /// A manager's instance began to leave, or is told to.
    pub(crate) fn drain(&mut self, id: InstanceId, now: Timestamp) -> bool {
        let found = self.instances.get_mut(&id);
        found.map(|instance| instance.drain(now)).is_some()
    }

    /// All of a manager's instances are told to leave; endpoints leave at once.
    pub(crate) fn retire(&mut self, now: Timestamp) {
        self.retired = true;
        self.instances.retain(|_, instance| instance.managed);
        self.instances.values_mut().for_each(|instance| instance.drain(now));
    }

    /// Seconds of service per second of those that may get requests.
    pub(crate) fn capacity(&self) -> f64 {
        self.in_service().map(|instance| instance.capacity(&self.settings)).sum()
    }

    /// Those that may get requests: all warm ones in panic, else the healthy ones.
    pub(crate) fn in_service(&self) -> impl Iterator<Item = &Instance> {
        let usable = |one: &Instance| !one.health.is_unhealthy() && !one.health.is_ejected();
        self.instances.values().filter(move |one| one.is_warm() && (self.panic || usable(one)))
    }

    /// Those that are ready, whatever their health.
    pub(crate) fn warm(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(|one| one.is_warm())
    }

    /// Instances asked for that do not serve yet.
    pub(crate) fn starting(&self) -> u32 {
        let starting = |one: &&Instance| matches!(one.life, Life::Cold | Life::Warming);
        self.instances.values().filter(starting).count() as u32
    }
}

/// Before anything is known. A queue is for worker pools, and harmless where it is not one.
fn assumed(settings: &PoolSettings) -> Form {
    if settings.queue.is_some() { Form::WorkerPool } else { Form::default() }
}

fn sample(pool: &str, instance: Option<&str>, step: ClosedStep) -> LoadSample {
    LoadSample {
        at: step.at,
        pool: pool.to_owned(),
        instance: instance.map(str::to_owned),
        work_rate: step.rate.work_s,
        request_rate: step.rate.requests,
        in_flight: step.in_flight,
    }
}
