//! Carries out effects, making no choices: each goes to the one adapter that can do it, through a bounded channel.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use arc_swap::ArcSwap;
use foretide_control::io::{Effect, FitJob, TrainJob};
use foretide_control::report::StatusReport;
use foretide_fleet::ask::Speech;
use foretide_fleet::probe::ProbeTarget;
use foretide_fleet::process::Producer;
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::{PoolSettings, ProcessManager};
use foretide_routing::table::{InstanceState, RoutingTable};
use tokio::sync::{mpsc, watch};

use crate::store::history::History;

/// For the task that owns the instance manager.
#[derive(Debug)]
pub enum FleetCommand {
    /// Start one.
    Start {
        /// Who it will be.
        instance: InstanceId,
        /// What to start.
        producer: Producer,
    },
    /// Stop one.
    Stop(InstanceId),
}

/// Everything effects need.
pub struct Hands {
    /// What the engine reads.
    pub table: Arc<ArcSwap<RoutingTable>>,
    /// What the health checks read.
    pub probes: watch::Sender<Vec<ProbeTarget>>,
    /// What operators see.
    pub report: watch::Sender<Arc<StatusReport>>,
    /// To the instance manager.
    pub fleet: mpsc::Sender<FleetCommand>,
    /// Load history.
    pub history: History,
    /// To the forecaster.
    pub fits: SyncSender<Box<FitJob>>,
    /// To the trainer.
    pub trains: SyncSender<Box<TrainJob>>,
}

impl Hands {
    /// Does one thing, or counts that it could not be handed over. Never waits.
    pub fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Publish(table) => self.table.store(table),
            Effect::Start { instance, pool, manager } => {
                let producer = self.producer(pool.index(), manager);
                self.to_fleet(FleetCommand::Start { instance, producer });
            }
            Effect::Stop { instance } => self.to_fleet(FleetCommand::Stop(instance)),
            Effect::Fit(job) => count_refused("fit", self.fits.try_send(job).is_err()),
            Effect::Train(job) => count_refused("train", self.trains.try_send(job).is_err()),
            Effect::Record(samples) => {
                self.history.append(samples);
                for notice in self.history.take_notices() {
                    tracing::warn!("{notice}");
                }
            }
            Effect::Report(report) => self.show(report),
        }
    }

    fn to_fleet(&self, command: FleetCommand) {
        count_refused("fleet", self.fleet.try_send(command).is_err());
    }

    fn producer(&self, pool: usize, manager: Arc<ProcessManager>) -> Producer {
        let table = self.table.load();
        let pool = table.pools.get(pool);
        Producer {
            pool: pool.map_or_else(String::new, |pool| pool.name.to_string()),
            manager,
            speech: pool.map_or_else(Speech::default, |pool| Speech::of(&pool.settings.upstream)),
        }
    }

    fn show(&self, report: Arc<StatusReport>) {
        let table = self.table.load();
        let settings = |name: &str| table.pools.iter().find(|pool| &*pool.name == name).map(|p| &p.settings);
        let targets = report.pools.iter().filter_map(|pool| Some((pool, settings(&pool.name)?))).flat_map(
            |(pool, settings): (_, &Arc<PoolSettings>)| {
                pool.instances.iter().filter(|instance| is_checked(instance.state)).filter_map(|instance| {
                    let address = instance.address.clone()?;
                    let (health, speech) = (settings.health.clone(), Speech::of(&settings.upstream));
                    let load_stream = settings.upstream.load_stream;
                    Some(ProbeTarget { instance: instance.id, address, health, speech, load_stream })
                })
            },
        );
        self.probes.send_replace(targets.collect());
        self.report.send_replace(report);
    }
}

/// Instances that run: those the manager is still starting are probed by the manager.
fn is_checked(state: InstanceState) -> bool {
    matches!(
        state,
        InstanceState::Warm | InstanceState::Unhealthy | InstanceState::Ejected | InstanceState::Draining
    )
}

fn count_refused(what: &'static str, refused: bool) {
    if refused {
        metrics::counter!("foretide_effects_refused_total", "effect" => what).increment(1);
        tracing::warn!(
            effect = what,
            "effect not carried out: its worker is busy; the next tick sees reality"
        );
    }
}
