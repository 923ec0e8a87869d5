//! The instance manager for local processes: starts and stops producers from a command.
//!
//! Each instance has a task of its own (see `super::supervise`) that lives from the wish to the process's end. This
//! module only keeps the list: starting twice or stopping twice is the same as once, and an instance that was never
//! started, or is gone, is not there to be stopped.
//!
//! Producers run in process groups of their own, so that a signal reaches what a shell started, and ctrl-C at a terminal
//! reaches Foretide first, which then drains them in order. If Foretide itself is killed with SIGKILL, nobody is left to
//! stop them: the next start in the same state directory ends them (see `super::ledger`), and skips their ports until then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foretide_control::io::FleetEvent;
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::ProcessManager;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ask::{Asker, Speech};
use super::ledger::{self, Ledger};
use super::ports::Ports;
use super::supervise::{Supervisor, Wish};

/// Producers starting at once: a start is mostly CPU work of theirs, and a storm of them would starve those that serve.
const STARTS_AT_ONCE: usize = 16;

/// An event nobody takes for so long is dropped, so that a stuck receiver cannot hold up a shutdown.
const EVENT_PATIENCE: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct Producer {
    /// Pool, for logs and for `{instance}`.
    pub pool: String,
    /// How to start it.
    pub manager: Arc<ProcessManager>,
    /// How to ask whether it is ready.
    pub speech: Speech,
}

/// Starts and stops local producers. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct ProcessFleet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    events: mpsc::Sender<FleetEvent>,
    events_dropped: AtomicU64,
    running: Mutex<BTreeMap<InstanceId, Running>>,
    ports: Mutex<Ports>,
    pub(super) starts: Semaphore,
    pub(super) asker: Asker,
    pub(super) ledger: Ledger,
}

#[derive(Debug)]
struct Running {
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
}

impl ProcessFleet {
    /// Tells what happens through `events`.
    pub fn new(events: mpsc::Sender<FleetEvent>) -> Self {
        Self::with(events, Ledger::default())
    }

    /// The same, and writes down in `directory` who runs, so that the next one there can end them if this process cannot.
    /// Those that an earlier one left are told to end now. Needs a tokio runtime.
    pub fn remembering(events: mpsc::Sender<FleetEvent>, directory: &Path) -> Self {
        let (ledger, left) = Ledger::open(directory);
        if !left.is_empty() {
            tracing::warn!(
                count = left.len(),
                "producers of an earlier Foretide still run and are told to end"
            );
            tokio::spawn(ledger::end(left));
        }
        Self::with(events, ledger)
    }

    fn with(events: mpsc::Sender<FleetEvent>, ledger: Ledger) -> Self {
        let shared = Shared {
            events,
            events_dropped: AtomicU64::new(0),
            running: Mutex::default(),
            ports: Mutex::default(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            asker: Asker::default(),
            ledger,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts an instance and returns at once; events tell how it went: `Started`, then `Ready` or `Failed`, and
    /// `Exited` when one that was ready ends. Does nothing if the instance is there already. Needs a tokio runtime.
    pub fn start(&self, instance: InstanceId, producer: Producer) {
        let mut running = self.shared.running();
        if running.contains_key(&instance) {
            return;
        }
        let (wish, wished) = watch::channel(Wish::Run);
        let supervisor = Supervisor {
            instance,
            label: format!("{}-{}", producer.pool, instance.0),
            manager: producer.manager,
            speech: producer.speech,
            wished,
            fleet: Arc::clone(&self.shared),
        };
        let task = tokio::spawn(supervisor.run());
        running.insert(instance, Running { wish, task });
    }

    /// Stops an instance and returns at once: SIGTERM, after the manager's grace SIGKILL, then `Exited { asked: true }`.
    /// A start under way is broken off. Does nothing for an instance that is not there.
    pub fn stop(&self, instance: InstanceId) {
        if let Some(running) = self.shared.running().get(&instance) {
            running.wish.send_replace(Wish::Stop);
        }
    }

    /// Stops all and waits until they are gone: at most the longest grace and a little.
    pub async fn stop_all(&self) {
        let all = std::mem::take(&mut *self.shared.running());
        for running in all.values() {
            running.wish.send_replace(Wish::Stop);
        }
        for running in all.into_values() {
            // A panic in a supervisor has dropped its child, which kills it.
            let _ = running.task.await;
        }
    }

    /// Instances from the wish to the end of their process.
    pub fn len(&self) -> usize {
        self.shared.running().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Events that nobody took in time.
    pub fn events_dropped(&self) -> u64 {
        self.shared.events_dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub(super) async fn tell(&self, event: FleetEvent) {
        if !matches!(timeout(EVENT_PATIENCE, self.events.send(event)).await, Ok(Ok(()))) {
            self.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The instance can be started anew from here on.
    pub(super) fn forget(&self, instance: InstanceId) {
        self.running().remove(&instance);
    }

    pub(super) fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
