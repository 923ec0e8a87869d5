//! The composition root: knows every adapter, builds them from settings, and takes them down in order.

pub mod outside;
pub mod reload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use foretide_conf::settings::Settings;
use foretide_control::controller::Controller;
use foretide_control::io::Input;
use foretide_control::report::StatusReport;
use foretide_forecast::calendar::ScheduledEvent;
use foretide_predictor::time::Timestamp;
use foretide_workbench::versions;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{mpsc, watch};

use crate::app::outside::{Outside, OutsideParts};
use crate::app::reload::{ConfigFile, Reloader};
use crate::clock::Clock;
use crate::engine::{self, Engine, EngineParts, Shutdown};
use crate::reconcile::hands::Hands;
use crate::reconcile::{COMMAND_QUEUE, Command, Reconciler, Tap, workers};
use crate::ring::{ObservationRing, RefusalRing};
use crate::store::history::History;
use crate::store::{learned, lock::StateLock};

/// Observations between two ticks of 100 ms: enough for 160,000 requests a second, 8 MB.
const RING: usize = 16_384;
/// Refusals between two ticks that demand and people see: 20,000 a second. The metric counts all.
const REFUSALS: usize = 2_048;
/// Instance starts and stops on their way to the manager; far above any ceiling times pools.
const FLEET_QUEUE: usize = 1_024;

/// A running Foretide.
pub struct App {
    /// Where clients connect, ports resolved.
    pub addresses: Vec<SocketAddr>,
    /// Where operators look; `None`: off.
    pub admin: Option<SocketAddr>,
    /// Where HAProxy asks how instances do; `None`: off.
    pub agent_check: Option<SocketAddr>,
    /// The latest status.
    pub report: watch::Receiver<Arc<StatusReport>>,
    /// Applies new configuration.
    pub reloader: Arc<Reloader>,
    shutdown: watch::Sender<Shutdown>,
    commands: SyncSender<Command>,
    outside: Outside,
    engine: JoinHandle<()>,
    control: JoinHandle<()>,
    saver: JoinHandle<()>,
    _lock: StateLock,
}

/// What a start needs besides settings.
pub struct StartOptions {
    /// Where the configuration came from, for reloads.
    pub config: ConfigFile,
    /// Where metrics are read; the recorder is one per process.
    pub metrics: PrometheusHandle,
    /// Sees every observation.
    pub tap: Option<Tap>,
}

impl App {
    /// Starts everything; on return clients can connect.
    pub fn start(settings: Settings, options: StartOptions) -> anyhow::Result<Self> {
        let state_dir = settings.server.state_dir.clone();
        let (lock, clock) = (StateLock::take(&state_dir)?, Clock::start());
        let (history, controller) = remember(&settings, clock.now())?;
        let (ring, refusals) = (Arc::new(ObservationRing::new(RING)), Arc::new(RefusalRing::new(REFUSALS)));
        let table = Arc::new(ArcSwap::new(Arc::clone(controller.table())));
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let (probes, shutdown) = (watch::Sender::new(Vec::new()), watch::Sender::new(Shutdown::Run));
        let (fleet, fleet_queue) = mpsc::channel(FLEET_QUEUE);
        let (questions, questions_seen) = mpsc::channel(engine::sight::QUESTIONS);
        let (engine, addresses) = Engine::bind(EngineParts {
            settings: Arc::clone(&settings),
            table: Arc::clone(&table),
            ring: Arc::clone(&ring),
            refusals: Arc::clone(&refusals),
            questions: Some(questions),
            clock,
            shutdown: shutdown.subscribe(),
        })?;

        let (commands, command_queue) = sync_channel(COMMAND_QUEUE);
        let (report, report_seen) = watch::channel(Arc::new(controller.report(clock.now())));
        let reloader = Arc::new(Reloader::new(options.config, Arc::clone(&settings), commands.clone()));
        let outside = Outside::start(OutsideParts {
            settings: settings.load_full(),
            table: Arc::clone(&table),
            clock,
            report: report_seen.clone(),
            ring: Arc::clone(&ring),
            probes: probes.subscribe(),
            questions: questions_seen,
            fleet_queue,
            commands: commands.clone(),
            reloader: Arc::clone(&reloader),
            shutdown: shutdown.clone(),
            metrics: options.metrics,
        })?;
        let (saver, saver_thread) = workers::saver(state_dir.clone())?;
        let reconciler = Reconciler {
            controller,
            clock,
            ring,
            refusals,
            commands: command_queue,
            hands: Hands {
                table,
                probes,
                report,
                fleet,
                history,
                fits: workers::forecaster(commands.clone())?,
                trains: workers::trainer(commands.clone(), state_dir)?,
            },
            saver,
            tap: options.tap,
        };
        let control = thread::Builder::new().name("control".into()).spawn(move || reconciler.run())?;
        let engine = thread::Builder::new().name("engine".into()).spawn(move || engine.run())?;
        Ok(Self {
            addresses,
            admin: outside.admin,
            agent_check: outside.agent_check,
            report: report_seen,
            reloader,
            shutdown,
            commands,
            outside,
            engine,
            control,
            saver: saver_thread,
            _lock: lock,
        })
    }
}

impl App {
    /// Ends in order: requests in flight first, then decisions, then instances, then what was learned is saved.
    pub fn stop(self) {
        self.shutdown.send_replace(Shutdown::Drain);
        let _ = self.commands.send(Command::Input(Input::Freeze));
        report_panic("engine", self.engine.join());
        let _ = self.commands.send(Command::Stop);
        report_panic("control", self.control.join());
        report_panic("saver", self.saver.join());
        self.outside.stop();
    }

    /// Replaces the announced events; everything else stays as configured.
    ///
    /// # Errors
    /// The control loop has ended.
    pub fn announce(&self, events: Vec<ScheduledEvent>) -> anyhow::Result<()> {
        let mut routing = self.reloader.settings().routing.clone();
        routing.events = events;
        let settings = Command::Input(Input::Settings(Box::new(routing)));
        self.commands.send(settings).context("the control loop has ended")
    }

    /// Resolves when somebody asked for the drain (`POST /drain`).
    pub fn drain_asked(&self) -> watch::Receiver<Shutdown> {
        self.shutdown.subscribe()
    }

    /// Runs something on the runtime of the adapters.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.outside.block_on(future)
    }
}

/// A controller that knows what earlier runs learned, and the history they left.
fn remember(settings: &Settings, now: Timestamp) -> anyhow::Result<(History, Controller)> {
    let state_dir = &settings.server.state_dir;
    let (history, notices) = History::open(state_dir, settings.server.history_keep)?;
    let (learned, more) = learned::load(state_dir);
    for notice in notices.iter().chain(&more) {
        tracing::warn!("{notice}");
    }
    let learning = &settings.routing.learning;
    let steps = u32::try_from(learning.history_steps).unwrap_or(u32::MAX);
    let mut controller = Controller::new(settings.routing.clone(), now);
    let since = now.minus(learning.step.saturating_mul(steps));
    controller.handle(now, Input::History(history.read_since(since)));
    if let Some(learned) = learned {
        tracing::info!(rows = learned.rows.len(), model = learned.model.is_some(), "learned state restored");
        controller.handle(now, Input::Learned(Box::new(learned)));
    }
    match versions::take_promoted(state_dir) {
        Ok(None) => {}
        Ok(Some(model)) => {
            tracing::info!(version = model.card().version, "promoted model put to service");
            controller.handle(now, Input::SetModel(Some(Box::new(model))));
        }
        Err(error) => tracing::warn!(%error, "promoted model not put to service"),
    }
    Ok((history, controller))
}

fn report_panic(thread: &str, result: thread::Result<()>) {
    if result.is_err() {
        tracing::error!(thread, "thread ended by a panic; see above");
    }
}
