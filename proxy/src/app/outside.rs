//! The runtime of everything that waits: admin, instance manager, health checks, metrics upkeep.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use foretide_advice::{Advice, AdviceParts, agent, leases};
use foretide_conf::settings::Settings;
use foretide_control::io::Input;
use foretide_control::report::StatusReport;
use foretide_fleet::probe::{self, ProbeTarget};
use foretide_fleet::process::ProcessFleet;
use foretide_fleet::{load, load_stream};
use foretide_gossip::Gossip;
use foretide_predictor::cost::model::CostModel;
use foretide_routing::live::question::Question;
use foretide_routing::table::{InstanceState, RoutingTable};
use foretide_workbench::versions;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::app::reload::Reloader;
use crate::clock::Clock;
use crate::engine::Shutdown;
use crate::reconcile::Command;
use crate::reconcile::hands::FleetCommand;
use crate::ring::ObservationRing;
use foretide_admin::{AdminCommand, AdminParts, DrillKind};

/// Answers waiting between an adapter and the loop.
const QUEUE: usize = 1_024;

/// What it is built from.
pub struct OutsideParts {
    /// Admin address.
    pub settings: Arc<Settings>,
    /// The table in service.
    pub table: Arc<ArcSwap<RoutingTable>>,
    /// Tells the time.
    pub clock: Clock,
    /// The latest status.
    pub report: watch::Receiver<Arc<StatusReport>>,
    /// Where finished requests go.
    pub ring: Arc<ObservationRing>,
    /// Whom to check.
    pub probes: watch::Receiver<Vec<ProbeTarget>>,
    /// Whom to ask what is in flight there.
    pub questions: mpsc::Receiver<Question>,
    /// What to start and stop.
    pub fleet_queue: mpsc::Receiver<FleetCommand>,
    /// To the control loop.
    pub commands: SyncSender<Command>,
    /// Applies new configuration.
    pub reloader: Arc<Reloader>,
    /// To ask for a drain.
    pub shutdown: watch::Sender<Shutdown>,
    /// Where metrics are read.
    pub metrics: PrometheusHandle,
}

/// Running adapters.
pub struct Outside {
    /// Where operators look.
    pub admin: Option<SocketAddr>,
    /// Where HAProxy asks.
    pub agent_check: Option<SocketAddr>,
    runtime: Runtime,
    fleet: JoinHandle<()>,
    end: watch::Sender<bool>,
}

impl Outside {
    /// Starts them; binds the admin listener at once so that its errors show at the start.
    pub fn start(parts: OutsideParts) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("outside")
            .enable_all()
            .build()?;
        let (end, ended) = watch::channel(false);
        let _inside = runtime.enter();
        hear_others(&runtime, &parts)?;

        let (events, fleet_events) = mpsc::channel(QUEUE);
        let fleet = ProcessFleet::remembering(events, &parts.settings.server.state_dir);
        let fleet = tokio::spawn(manage(fleet, parts.fleet_queue, ended.clone()));
        tokio::spawn(forward(fleet_events, parts.commands.clone(), Input::Fleet));
        let (verdicts, probe_results) = mpsc::channel(QUEUE);
        let (said, loads) = mpsc::channel(QUEUE);
        tokio::spawn(load_stream::run(parts.probes.clone(), said));
        tokio::spawn(forward(loads, parts.commands.clone(), |(instance, utilisation)| Input::Said {
            instance,
            utilisation,
        }));
        tokio::spawn(probe::run(parts.probes, verdicts));
        let clock = parts.clock;
        tokio::spawn(load::run(parts.questions, move || clock.now()));
        tokio::spawn(forward(probe_results, parts.commands.clone(), |(instance, healthy)| Input::Probed {
            instance,
            healthy,
        }));
        tokio::spawn(keep_metrics(parts.metrics.clone()));
        let ready = Arc::new(AtomicBool::new(false));
        tokio::spawn(keep_ready(parts.report.clone(), parts.shutdown.subscribe(), Arc::clone(&ready)));

        let advice = Arc::new(Advice::new(AdviceParts {
            table: parts.table,
            report: parts.report.clone(),
            ready: Arc::clone(&ready),
            now: Box::new(move || clock.now()),
            learn: Box::new(move |observation| parts.ring.push(observation)),
            seed: clock.now().as_us(),
        }));
        tokio::spawn(leases::keep(Arc::clone(&advice)));
        let agent =
            parts.settings.agent_check.map(|address| bind(&runtime, "agent_check", address)).transpose()?;
        let agent_check = agent.as_ref().map(|(_, bound)| *bound);
        if let Some((listener, _)) = agent {
            tokio::spawn(agent::serve(listener, Arc::clone(&advice), end_of(ended.clone())));
        }

        let (to_admin, admin_commands) = mpsc::channel(64);
        let admin =
            parts.settings.admin.address.map(|address| bind(&runtime, "admin", address)).transpose()?;
        let admin_address = admin.as_ref().map(|(_, bound)| *bound);
        if let Some((listener, _)) = admin {
            let admin_parts = AdminParts {
                report: parts.report,
                metrics: parts.metrics,
                commands: to_admin,
                advice,
                config_text: parts.reloader.text(),
                ready,
                started_at: clock.now(),
                version: env!("CARGO_PKG_VERSION"),
            };
            tokio::spawn(serve_admin(listener, admin_parts, ended.clone()));
        }
        let state_dir = parts.settings.server.state_dir.clone();
        tokio::spawn(obey(
            admin_commands,
            parts.commands,
            (parts.reloader, state_dir),
            parts.shutdown.clone(),
        ));
        Ok(Self { admin: admin_address, agent_check, runtime, fleet, end })
    }

    /// Runs something here.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Stops all started instances, then the rest.
    pub fn stop(self) {
        self.end.send_replace(true);
        if self.runtime.block_on(self.fleet).is_err() {
            tracing::error!("instance manager ended by a panic; see above");
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn manage(
    fleet: ProcessFleet,
    mut queue: mpsc::Receiver<FleetCommand>,
    mut ended: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            command = queue.recv() => match command {
                Some(FleetCommand::Start { instance, producer }) => fleet.start(instance, producer),
                Some(FleetCommand::Stop(instance)) => fleet.stop(instance),
                None => break,
            },
            _ = ended.wait_for(|ended| *ended) => break,
        }
    }
    fleet.stop_all().await;
}

/// Gossips with other proxies, if that is asked for.
fn hear_others(runtime: &Runtime, parts: &OutsideParts) -> anyhow::Result<()> {
    let Some(settings) = &parts.settings.gossip else { return Ok(()) };
    let gossip = runtime
        .block_on(Gossip::bind(settings))
        .with_context(|| format!("gossip cannot listen on {}; change `gossip.listen`", settings.listen))?;
    // One round is enough: a newer one makes it worthless.
    let (to, heard) = mpsc::channel(1);
    let clock = parts.clock;
    tokio::spawn(gossip.run(parts.report.clone(), to, move || clock.now()));
    tokio::spawn(forward(heard, parts.commands.clone(), |heard| Input::Heard(Box::new(heard))));
    Ok(())
}

/// Hands answers on to the loop. A full queue drops and counts: health checks repeat, and the fleet's state is asked
/// again by the next plan.
async fn forward<T>(mut from: mpsc::Receiver<T>, to: SyncSender<Command>, wrap: impl Fn(T) -> Input) {
    while let Some(item) = from.recv().await {
        if to.try_send(Command::Input(wrap(item))).is_err() {
            metrics::counter!("foretide_control_inputs_dropped_total").increment(1);
        }
    }
}

async fn keep_metrics(handle: PrometheusHandle) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        handle.run_upkeep();
    }
}

/// Ready: some instance takes requests, and nobody asked for the end.
async fn keep_ready(
    mut report: watch::Receiver<Arc<StatusReport>>,
    mut shutdown: watch::Receiver<Shutdown>,
    ready: Arc<AtomicBool>,
) {
    loop {
        let draining = matches!(*shutdown.borrow_and_update(), Shutdown::Drain);
        let serving = report
            .borrow_and_update()
            .pools
            .iter()
            .flat_map(|pool| &pool.instances)
            .any(|instance| instance.state == InstanceState::Warm);
        ready.store(serving && !draining, Ordering::Release);
        tokio::select! {
            changed = report.changed() => if changed.is_err() { return },
            changed = shutdown.changed() => if changed.is_err() { return },
        }
    }
}

/// Opens a listener at once, so that its errors show at the start. `table`: of the configuration.
fn bind(runtime: &Runtime, table: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = runtime
        .block_on(TcpListener::bind(address))
        .with_context(|| format!("{table} cannot listen on {address}; change `{table}.listen`"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

async fn end_of(mut ended: watch::Receiver<bool>) {
    // A closed channel means the end as well.
    let _ = ended.wait_for(|ended| *ended).await;
}

async fn serve_admin(listener: TcpListener, parts: AdminParts, ended: watch::Receiver<bool>) {
    if let Err(error) = foretide_admin::serve(listener, parts, end_of(ended)).await {
        tracing::error!(%error, "admin ended; the proxy goes on without it");
    }
}

async fn obey(
    mut commands: mpsc::Receiver<AdminCommand>,
    control: SyncSender<Command>,
    (reloader, state_dir): (Arc<Reloader>, PathBuf),
    shutdown: watch::Sender<Shutdown>,
) {
    while let Some(command) = commands.recv().await {
        let refused = match command {
            AdminCommand::Reload(reply) => {
                let reloader = Arc::clone(&reloader);
                tokio::task::spawn_blocking(move || drop(reply.send(reloader.reload())));
                false
            }
            AdminCommand::Promote(reply) => {
                let (control, state_dir) = (control.clone(), state_dir.clone());
                tokio::task::spawn_blocking(move || drop(reply.send(promote(&control, &state_dir))));
                false
            }
            AdminCommand::Drain => {
                shutdown.send_replace(Shutdown::Drain);
                false
            }
            AdminCommand::RoutingDecision { id, reply } => {
                control.try_send(Command::RoutingDecision(id, reply)).is_err()
            }
            AdminCommand::ScalingDecision { id, reply } => {
                control.try_send(Command::ScalingDecision(id, reply)).is_err()
            }
            AdminCommand::Drill(kind, reply) => {
                let model = match kind {
                    DrillKind::RemoveModel => None,
                    DrillKind::NanModel => Some(Box::new(CostModel::broken_for_drills())),
                };
                let refused = control.try_send(Command::Input(Input::SetModel(model))).is_err();
                let _ = reply.send(());
                refused
            }
        };
        if refused {
            tracing::warn!("an operator's question was dropped: the control loop is busy");
        }
    }
}

/// Puts the promoted model to service: its version, or why not.
fn promote(control: &SyncSender<Command>, state_dir: &Path) -> Result<u64, String> {
    let model = versions::take_promoted(state_dir).map_err(|error| error.to_string())?;
    let model = model.ok_or("no model is promoted")?;
    let version = model.card().version;
    match control.try_send(Command::Input(Input::SetModel(Some(Box::new(model))))) {
        Ok(()) => Ok(version),
        Err(_) => Err("the control loop is busy".to_owned()),
    }
}
