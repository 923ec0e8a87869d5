//! One instance in the controller's eyes: its life, its health, what it does and how it is doing.
//!
//! ```text
//! Cold ──Started──► Warming ──Ready──► Warm ──drain──► Draining ──Stop──► (gone)
//!   └──Failed, Exited, too slow──► (gone)       any of them ──Exited──► (gone)
//! ```
//!
//! Unhealthy and ejected lie over `Warm` and come from [`crate::health`]. Endpoints that no manager runs are
//! warm from the start and never drain: they leave with the configuration. What is gone is not kept.
use crate::health::{ErrorRatio, Health};
use crate::hearsay::HeardReport;
use crate::meter::{Arrived, ClosedStep, Steps};
use crate::track::Track;
use foretide_predictor::blend::{LoadScore, TierLoads, TierWeights, load_score};
use foretide_predictor::id::InstanceId;
use foretide_predictor::peers::Anomaly;
use foretide_predictor::time::Timestamp;
use foretide_routing::live::{LiveLoad, Taken};
use foretide_routing::observe::Utilisation;
use foretide_routing::settings::choice::{Endpoint, Traits};
use foretide_routing::settings::{LearningSettings, PoolSettings};
use foretide_routing::table::InstanceState;
use foretide_steering::speed::Speed;
use std::sync::Arc;
use std::time::Duration;

/// Steps of history that an instance keeps: a week of minutes. Its pool keeps what the settings say.
const HISTORY_STEPS: usize = 10_080;
/// A request that was decided by the table before may arrive a moment after an instance began to drain.
const SETTLING: Duration = Duration::from_millis(200);
/// A stop that nobody confirmed is asked for again after the grace period and this.
const STOP_REPEAT: Duration = Duration::from_secs(5);
/// ... and the instance is forgotten after so many.
const STOP_ATTEMPTS: u32 = 10;
/// A start may take this multiple of the manager's own timeout before the controller gives it up for lost.
const START_PATIENCE: u32 = 2;
/// What failing costs in the score, microseconds for an instance that always fails: a failed try costs the client a
/// second one with a new connection, and 100 ms is the order of such a request's whole latency.
const PENALTY_US: f64 = 100_000.0;
/// What an instance said of its utilisation counts for so long: reports come with answers, and a quiet instance gives none.
const REPORT_VALID: Duration = Duration::from_secs(10);

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Asked for.
    Cold,
    /// Runs.
    Warming,
    /// Ready.
    Warm,
    /// Finishes what it has.
    Draining {
        /// Since when.
        since: Timestamp,
        /// Whether it ever took requests.
        served: bool,
    },
}

/// What to do about a draining instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainStep {
    /// Requests are left.
    Wait,
    /// Ask the manager to stop it.
    Stop,
    /// The manager never confirmed: forget it.
    Forget,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    /// `host:port`; `None` until it runs.
    pub(crate) address: Option<Arc<str>>,
    /// Run by the pool's manager.
    pub(crate) managed: bool,
    pub(crate) weight: u32,
    pub(crate) traits: Arc<Traits>,
    pub(crate) life: Life,
    pub(crate) asked_at: Timestamp,
    pub(crate) warm_since: Timestamp,
    pub(crate) health: Health,
    pub(crate) errors: ErrorRatio,
    pub(crate) live: Arc<LiveLoad>,
    pub(crate) speed: Speed,
    /// What other proxies say of it.
    pub(crate) heard: Option<HeardReport>,
    pub(crate) track: Track,
    pub(crate) anomaly: Option<Anomaly>,
    pub(crate) load: LoadScore,
    /// Tries since it is known, and failed ones among them.
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    /// What it said last of its own utilisation, and when.
    reported: Option<(Utilisation, Timestamp)>,
    steps: Steps,
    taken: Taken,
    stop_asked: Option<Timestamp>,
    stops: u32,
}

impl Instance {
    /// An endpoint that is simply there.
    pub(crate) fn fixed(
        id: InstanceId,
        endpoint: &Endpoint,
        learning: &LearningSettings,
        now: Timestamp,
    ) -> Self {
        let mut instance = Self::asked_for(id, learning, now);
        instance.address = Some(Arc::from(endpoint.address.as_str()));
        instance.describe(endpoint);
        instance.managed = false;
        instance.life = Life::Warm;
        instance
    }

    /// What operators say of it now.
    pub(crate) fn describe(&mut self, endpoint: &Endpoint) {
        self.weight = endpoint.weight;
        self.traits = Arc::clone(&endpoint.traits);
    }

    /// One that a manager is asked to start.
    pub(crate) fn asked_for(id: InstanceId, learning: &LearningSettings, now: Timestamp) -> Self {
        let history = learning.history_steps.min(HISTORY_STEPS);
        Self {
            id,
            address: None,
            managed: true,
            weight: 1,
            traits: Arc::default(),
            life: Life::Cold,
            asked_at: now,
            warm_since: now,
            health: Health::default(),
            errors: ErrorRatio::default(),
            live: Arc::new(LiveLoad::default()),
            speed: Speed::default(),
            heard: None,
            track: Track::new(learning.step, history, now),
            anomaly: None,
            load: load_score(TierWeights::START, TierLoads::default()),
            requests: 0,
            failures: 0,
            reported: None,
            steps: Steps::new(learning.step),
            taken: Taken::default(),
            stop_asked: None,
            stops: 0,
        }
    }

    /// A new step width, or another length of history.
    pub(crate) fn rescale_history(&mut self, learning: &LearningSettings, now: Timestamp) {
        let history = learning.history_steps.min(HISTORY_STEPS);
        self.track = self.track.rescaled(learning.step, history, now);
        self.steps = Steps::new(learning.step);
    }

    /// As the world sees it.
    pub(crate) fn state(&self) -> InstanceState {
        match self.life {
            Life::Cold => InstanceState::Cold,
            Life::Warming => InstanceState::Warming,
            Life::Draining { .. } => InstanceState::Draining,
            Life::Warm if self.health.is_unhealthy() => InstanceState::Unhealthy,
            Life::Warm if self.health.is_ejected() => InstanceState::Ejected,
            Life::Warm => InstanceState::Warm,
        }
    }

    /// Ready and not on its way out, whatever its health.
    pub(crate) fn is_warm(&self) -> bool {
        self.life == Life::Warm
    }

    /// Seconds of service per second, at speed 1.
    pub(crate) fn capacity(&self, pool: &PoolSettings) -> f64 {
        f64::from(pool.concurrency.max(1)) * (-self.speed.rho()).exp()
    }

    /// What it took on since the last call, and the steps that ended meanwhile.
    pub(crate) fn collect(&mut self, from: Timestamp, to: Timestamp) -> (Arrived, Vec<ClosedStep>) {
        let taken = self.live.taken();
        let (requests, work_us) = taken.since(self.taken);
        let arrived = Arrived { requests: requests as f64, work_s: work_us as f64 / 1e6 };
        self.taken = taken;
        let in_flight = f64::from(self.live.in_flight().requests);
        (arrived, self.steps.add(from, to, arrived, in_flight))
    }

    /// Begins to leave.
    pub(crate) fn drain(&mut self, now: Timestamp) {
        if !matches!(self.life, Life::Draining { .. }) {
            self.life = Life::Draining { since: now, served: self.is_warm() };
        }
    }

    /// What to do about a draining one.
    pub(crate) fn drain_step(&mut self, pool: &PoolSettings, now: Timestamp) -> DrainStep {
        let Life::Draining { since, served } = self.life else { return DrainStep::Wait };
        let waited = now.since(since);
        let empty = !served || (waited >= SETTLING && self.live.in_flight().requests == 0);
        if !empty && waited < pool.scaling.drain_timeout {
            return DrainStep::Wait;
        }
        let grace = pool.manager.as_ref().map_or(Duration::ZERO, |manager| manager.stop_grace);
        if self.stop_asked.is_some_and(|at| now.since(at) < grace + STOP_REPEAT) {
            return DrainStep::Wait;
        }
        if self.stops >= STOP_ATTEMPTS {
            return DrainStep::Forget;
        }
        self.stops += 1;
        self.stop_asked = Some(now);
        DrainStep::Stop
    }

    /// Whether a start takes so long that nobody will ever report its end.
    pub(crate) fn is_lost(&self, pool: &PoolSettings, now: Timestamp) -> bool {
        let timeout = pool.manager.as_ref().map_or(Duration::ZERO, |manager| manager.start_timeout);
        let starting = matches!(self.life, Life::Cold | Life::Warming);
        starting && now.since(self.asked_at) > timeout.saturating_mul(START_PATIENCE) + STOP_REPEAT
    }

    /// It said something of itself.
    pub(crate) fn reported(&mut self, utilisation: Utilisation, at: Timestamp) {
        if !utilisation.is_empty() {
            self.reported = Some((utilisation, at));
        }
    }

    /// What it said of itself lately.
    pub(crate) fn utilisation(&self, now: Timestamp) -> Option<Utilisation> {
        self.reported.filter(|(_, at)| now.since(*at) <= REPORT_VALID).map(|(utilisation, _)| utilisation)
    }

    /// Scores its load, each tier as a share of its capacity. `baseline`: forecast work rate on it. Tier 2 takes the larger
    /// of the work we know to be there and what the instance says it uses: others may send it work too, and a forecast of
    /// ours may be too small; neither can make the other's share go away.
    pub(crate) fn score(
        &mut self,
        pool: &PoolSettings,
        weights: TierWeights,
        baseline: Option<f64>,
        now: Timestamp,
    ) {
        let capacity = self.capacity(pool);
        let objective_s = if pool.objective.is_zero() { 1.0 } else { pool.objective.as_secs_f64() };
        let work_s = self.live.in_flight().work_us as f64 / 1e6;
        let said = self.utilisation(now).and_then(|utilisation| utilisation.used()).map_or(0.0, f64::from);
        let loads = TierLoads {
            baseline: baseline.map(|rate| rate.max(0.0) / capacity),
            cost: Some((work_s / (capacity * objective_s)).max(said)),
            peers: self.anomaly.map(|anomaly| anomaly.excess),
        };
        self.load = load_score(weights, loads);
    }

    /// Added to its score for failing lately, microseconds.
    pub(crate) fn penalty_us(&self, now: Timestamp) -> f32 {
        (self.errors.at(now) * PENALTY_US) as f32
    }
}
