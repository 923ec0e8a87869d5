//! A proxy in this process, in front of instances given by address, with a routing table made by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use foretide::clock::Clock;
use foretide::engine::sight::QUESTIONS;
use foretide::engine::stats::EngineStats;
use foretide::engine::{Engine, EngineError, EngineParts, Shutdown};
use foretide::ring::{ObservationRing, RefusalRing};
use foretide_conf::settings::{AdminSettings, Listener, ServerSettings, Settings};
use foretide_fleet::load;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::cost::table::KeyTable;
use foretide_predictor::id::{InstanceId, PoolId};
use foretide_predictor::peers::PeerTable;
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::CompiledRoutes;
use foretide_routing::gates::Gates;
use foretide_routing::hedge::Hedging;
use foretide_routing::live::LiveLoad;
use foretide_routing::live::others::PoolSight;
use foretide_routing::live::question::Question;
use foretide_routing::observe::Observation;
use foretide_routing::retry::RetryBudget;
use foretide_routing::select::Selector;
use foretide_routing::select::groups::Known;
use foretide_routing::select::narrow::Narrowing;
use foretide_routing::settings::{
    EjectionSettings, HealthSettings, LearningSettings, Policy, PoolSettings, RetrySettings, RouteMatch,
    RouteSettings, RoutingSettings, ScalingMode, ScalingRule, ScalingSettings, ServiceLevel, ServingSettings,
    UpstreamSettings,
};
use foretide_routing::table::{InstanceEntry, PoolTable, RoutingTable};
use foretide_steering::score::Form;
use tokio::sync::{mpsc, watch};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<EngineStats>,
    pub(crate) ring: Arc<ObservationRing>,
    pub(crate) refusals: Arc<RefusalRing>,
    pub(crate) lives: Vec<Arc<LiveLoad>>,
    pub(crate) table: Arc<ArcSwap<RoutingTable>>,
    sight: Option<Arc<PoolSight>>,
    clock: Clock,
    started: Instant,
    stop: watch::Sender<Shutdown>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// A proxy in front of these instances with [`settings`].
    pub(crate) fn start(instances: &[SocketAddr]) -> World {
        World::with(instances, |_| {})
    }

    /// The same with changed settings.
    pub(crate) fn with(instances: &[SocketAddr], change: impl FnOnce(&mut Settings)) -> World {
        World::try_with(instances, change).expect("the engine starts")
    }

    pub(crate) fn try_with(
        instances: &[SocketAddr],
        change: impl FnOnce(&mut Settings),
    ) -> Result<World, EngineError> {
        let mut settings = settings();
        change(&mut settings);
        let lives: Vec<Arc<LiveLoad>> = instances.iter().map(|_| Arc::default()).collect();
        let clock = Clock::start();
        let table = table(&settings.routing, instances, &lives, clock.now());
        let sight = table.pools[0].sight.clone();
        let table = Arc::new(ArcSwap::from_pointee(table));
        let (ring, refusals) = (Arc::new(ObservationRing::new(4096)), Arc::new(RefusalRing::new(4096)));
        let (stop, shutdown) = watch::channel(Shutdown::Run);
        let parts = EngineParts {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            table: table.clone(),
            ring: ring.clone(),
            refusals: refusals.clone(),
            questions: sight.is_some().then(|| asked(clock)),
            clock,
            shutdown,
        };
        let (engine, addresses) = Engine::bind(parts)?;
        let stats = engine.stats();
        let thread = std::thread::spawn(move || engine.run());
        let (address, thread, started) = (addresses[0], Some(thread), Instant::now());
        Ok(World { address, stats, ring, refusals, lives, table, sight, clock, started, stop, thread })
    }

    /// Tells the proxy to drain, without waiting.
    pub(crate) fn drain(&self) {
        let _ = self.stop.send(Shutdown::Drain);
    }

    /// Drains and waits for the end; how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let started = Instant::now();
        self.drain();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the engine ends in good order");
        }
        started.elapsed()
    }

    /// Puts the same table to service as if it had been made long ago.
    pub(crate) fn make_stale(&self) {
        let now = self.table.load();
        let old = RoutingTable {
            generation: now.generation + 1,
            built_at: Timestamp::ZERO,
            routes: now.routes.clone(),
            pools: now.pools.iter().map(same_pool).collect(),
            model: now.model.clone(),
            costs: now.costs.clone(),
            peers: now.peers.clone(),
            gates: now.gates.clone(),
            stale_after: now.stale_after,
        };
        self.table.store(Arc::new(old));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests of others on an instance, as far as this proxy knows.
    pub(crate) fn others(&self, at: usize) -> Option<f32> {
        self.sight.as_ref()?.requests(&self.lives[at], self.clock.now())
    }

    /// As if requests took so long on average: what is heard ages by that.
    pub(crate) fn with_mean_service(self, us: f64) -> World {
        if let Some(sight) = &self.sight {
            sight.set_mean_service(us);
        }
        self
    }

    /// Fails a test that goes round in circles.
    pub(crate) fn still_in_time(&self, state: &str) {
        assert!(self.started.elapsed() < PATIENCE, "{state}");
    }

    /// All tries observed so far, once `wanted` have been.
    pub(crate) async fn observed(&self, wanted: usize) -> Vec<Observation> {
        let mut seen = Vec::new();
        eventually(|| {
            while let Some(observation) = self.ring.pop() {
                seen.push(observation);
            }
            seen.len() >= wanted
        })
        .await;
        seen
    }

    /// Waits until nothing is in flight anywhere, tickets included.
    pub(crate) async fn at_rest(&self) {
        eventually(|| {
            let tickets: u32 = self.lives.iter().map(|live| live.in_flight().requests).sum();
            self.stats.in_flight() == 0 && tickets == 0
        })
        .await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Somebody who asks instances what is in flight there, for as long as there are questions.
fn asked(clock: Clock) -> mpsc::Sender<Question> {
    let (questions, seen) = mpsc::channel(QUESTIONS);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(load::run(seen, move || clock.now()));
    });
    questions
}

/// Waits until it is so.
pub(crate) async fn eventually(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "it never became so");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One plain listener, two routes (`/api` and `/none`, whose pool is empty), three tries, short timeouts.
fn settings() -> Settings {
    let server = ServerSettings {
        listeners: vec![Listener { address: "127.0.0.1:0".parse().unwrap(), tls: None }],
        threads: 2,
        state_dir: PathBuf::from("unused"),
        history_keep: Duration::from_secs(60),
        client_idle_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(5),
        share_sight: false,
    };
    let routes = vec![route("api", "/api", "main"), route("none", "/none", "empty")];
    let routing = RoutingSettings {
        routes,
        pools: vec![pool("main"), pool("empty")],
        events: Vec::new(),
        learning: learning(),
        seed: 1,
    };
    Settings {
        server,
        admin: AdminSettings { address: None },
        agent_check: None,
        gossip: None,
        access_log: None,
        routing,
    }
}

pub(crate) fn route(name: &str, prefix: &str, pool: &str) -> RouteSettings {
    RouteSettings {
        name: name.to_owned(),
        matches: RouteMatch { path_prefix: Some(prefix.to_owned()), ..RouteMatch::default() },
        pool: pool.to_owned(),
        consumer: Vec::new(),
        parameters: Vec::new(),
        body_limit_bytes: 0,
        request_timeout: None,
        level: ServiceLevel::default(),
    }
}

fn pool(name: &str) -> PoolSettings {
    let long = Duration::from_secs(5);
    PoolSettings {
        name: name.to_owned(),
        policy: Policy::RoundRobin,
        choice: Default::default(),
        endpoints: Vec::new(),
        manager: None,
        scaling: ScalingSettings {
            mode: ScalingMode::Observe,
            rule: ScalingRule::Predictive,
            floor: 0,
            ceiling: 9,
            step_up: 1,
            step_down: 1,
            cooldown: long,
            target_utilisation: 0.8,
            target_rate_per_s: None,
            assumed_lead: long,
            drain_timeout: long,
        },
        concurrency: 4,
        serving: ServingSettings::default(),
        queue: None,
        admission: None,
        sight: None,
        hedge: None,
        slow_start: Duration::ZERO,
        health: HealthSettings {
            path: None,
            every: long,
            timeout: long,
            unhealthy_after: 3,
            healthy_after: 1,
        },
        ejection: EjectionSettings {
            consecutive_failures: 0,
            success_rate: None,
            base: long,
            longest: long,
            cap_ratio: 0.5,
            panic_ratio: 0.5,
        },
        retry: RetrySettings { attempts: 3, budget_ratio: 0.5, budget_floor_per_s: 100.0 },
        upstream: UpstreamSettings {
            tls_server_name: None,
            tls_ca: None,
            http2: false,
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: long,
            idle_timeout: long,
            cost_from: None,
            pass_load_report: false,
            load_stream: None,
        },
        objective: long,
    }
}

fn learning() -> LearningSettings {
    LearningSettings {
        step: Duration::from_secs(60),
        seasons: vec![60],
        horizons: vec![5],
        history_steps: 100,
        refit_every: Duration::from_secs(60),
        retrain_every: Duration::from_secs(60),
        retrain_rows: 100,
        reservoir_rows: 100,
        key_cells: 1024,
        trees: 10,
        depth: 3,
        cost_model: false,
        shadow: false,
    }
}

fn table(
    settings: &RoutingSettings,
    instances: &[SocketAddr],
    lives: &[Arc<LiveLoad>],
    now: Timestamp,
) -> RoutingTable {
    let entries = instances.iter().zip(lives).enumerate().map(|(at, (address, live))| InstanceEntry {
        id: InstanceId(at as u32),
        address: address.to_string().into(),
        live: live.clone(),
        concurrency: 4,
        weight: 1,
        traits: Arc::default(),
        warm_since: Timestamp::ZERO,
        load_score: None,
        background: 0.0,
        excess: 0.0,
        penalty_us: 0.0,
    });
    let filled = [entries.collect(), Vec::new()];
    let pools = settings.pools.iter().zip(filled).enumerate();
    RoutingTable {
        generation: 1,
        built_at: now,
        routes: Arc::new(CompiledRoutes::compile(settings)),
        pools: pools.map(|(at, (pool, instances))| pool_table(at, pool, instances)).collect(),
        model: None,
        costs: Arc::new(KeyTable::new(1024)),
        peers: Arc::new(PeerTable::new(4096)),
        gates: Gates::default(),
        stale_after: Duration::from_secs(3600),
    }
}

fn pool_table(at: usize, settings: &PoolSettings, instances: Vec<InstanceEntry>) -> PoolTable {
    let known: Vec<Known> = instances.iter().map(|one| (one.weight, one.traits.clone())).collect();
    PoolTable {
        narrowing: Narrowing::new(settings, Form::default(), &instances, &known, TierWeights::START, None),
        id: PoolId(at as u16),
        name: settings.name.as_str().into(),
        settings: Arc::new(settings.clone()),
        form: Form::default(),
        selector: Selector::new(settings, Form::default(), &instances, TierWeights::START, None),
        instances,
        retry_budget: Arc::new(RetryBudget::new(settings.retry)),
        hedging: settings.hedge.map(Hedging::new).map(Arc::new),
        sight: settings.sight.as_ref().map(|sight| Arc::new(PoolSight::new(sight.max_age))),
        panic: false,
    }
}

fn same_pool(pool: &PoolTable) -> PoolTable {
    pool_table(pool.id.index(), &pool.settings, pool.instances.clone())
}
