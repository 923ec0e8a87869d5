//! The data plane: Pingora, told what to do with each request.
//!
//! ```text
//! listen ─► gate ─► hooks: head ─► extract ─► predict ─► decide ─► forward ─► outcome ─► ring
//!            │                                                                  └──────► metrics, access log
//!            └ watch: one timer a connection for everything that must not last for ever
//! ```
//!
//! We use Pingora's proxy and its listening service, but not its `Server`: that one exits the process on a bad address,
//! cannot say which port it got, and sleeps its whole grace period when told to stop. Here [`Engine::bind`] opens the
//! sockets and reads the certificates, with errors that name what failed, and [`Engine::run`] returns as soon as the
//! last request is done.
//!
//! Known weaknesses: connections that the kernel has accepted but Pingora has not are reset when a drain starts; a
//! route's JSON fields are read only from bodies that announce their length (Pingora can replay 64 KiB at most, and a
//! body of unknown length could outgrow that); an HTTP/2 upstream has one timer for first byte and silence; on a route
//! without `request_timeout` a client may take as long over its body as it likes, if it never pauses for longer than
//! the client idle timeout.

mod access_line;
mod access_log;
mod admission;
mod authorities;
mod chance;
mod connect;
mod context;
mod gate;
mod head;
mod headers;
mod hedge;
mod hooks;
mod listen;
mod metrics;
mod outcome;
mod report;
mod respond;
mod shared;
pub mod sight;
pub mod stats;
mod waiting;
mod wish;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use foretide_conf::settings::Settings;
use foretide_routing::live::question::Question;
use foretide_routing::table::RoutingTable;
use pingora_core::server::ListenFds;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use tokio::sync::{mpsc, watch as signal};
use tokio::time::{Instant, timeout_at};

use crate::clock::Clock;
use crate::engine::access_log::LogWriter;
use crate::engine::authorities::Authorities;
use crate::engine::gate::Gate;
use crate::engine::shared::Shared;
use crate::engine::stats::EngineStats;
use crate::ring::{ObservationRing, RefusalRing};

/// What the engine needs from the composition root.
#[derive(Debug)]
pub struct EngineParts {
    /// Listeners and threads are read once, in [`Engine::bind`]; timeouts and the access log follow every change.
    pub settings: Arc<ArcSwap<Settings>>,
    /// What requests are routed by.
    pub table: Arc<ArcSwap<RoutingTable>>,
    /// Where finished tries go.
    pub ring: Arc<ObservationRing>,
    /// Where requests go that were not let in.
    pub refusals: Arc<RefusalRing>,
    /// Where questions to instances go, at most [`sight::QUESTIONS`] of them; `None`: nobody asks them.
    pub questions: Option<mpsc::Sender<Question>>,
    /// Now.
    pub clock: Clock,
    /// When to stop. A dropped sender means [`Shutdown::Drain`].
    pub shutdown: signal::Receiver<Shutdown>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shutdown {
    /// Serve.
    #[default]
    Run,
    /// Accept no more, let requests in flight end, return.
    Drain,
}

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate file is missing, not PEM, or does not fit its key.
    #[error("TLS of listener {address}: {path}: {reason}")]
    Tls {
        /// The listener.
        address: SocketAddr,
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of authorities for a pool's instances cannot be used.
    #[error("TLS to the instances of pool {pool}: {path}: {reason}")]
    Authorities {
        /// The pool.
        pool: String,
        /// `tls_ca`.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The access log cannot be written.
    #[error("access log {path}: {source}")]
    AccessLog {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No worker threads.
    #[error("cannot start worker threads: {0}")]
    Threads(std::io::Error),
}

/// A reverse proxy with open sockets, ready to run.
pub struct Engine {
    runtime: tokio::runtime::Runtime,
    service: Service<Gate>,
    sockets: ListenFds,
    gate: gate::Connections,
    shared: Arc<Shared>,
    log: LogWriter,
    shutdown: signal::Receiver<Shutdown>,
}

impl Engine {
    /// Opens the listeners of the current settings; answers with the addresses it got, port 0 resolved.
    pub fn bind(parts: EngineParts) -> Result<(Engine, Vec<SocketAddr>), EngineError> {
        let settings = parts.settings.load_full();
        let opened = listen::open(&settings.server.listeners)?;
        let authorities = authorities_of(&settings)?;
        let stats = Arc::new(EngineStats::default());
        let log = LogWriter::start(parts.settings.clone(), stats.clone())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.server.threads.max(1))
            .thread_name("proxy")
            .enable_all()
            .build()
            .map_err(EngineError::Threads)?;
        metrics::describe();
        waiting::describe();
        admission::describe();
        sight::describe();
        let rings = (parts.ring, parts.refusals);
        let mut shared = Shared::new(parts.settings, parts.table, rings, parts.clock, stats, log.queue());
        shared.authorities = authorities;
        shared.questions = parts.questions;
        let shared = Arc::new(shared);
        let gate = gate::Connections::new(shared.clone());
        let mut service = Service::new("proxy".to_owned(), gate.gate(&pingora_conf(settings.server.threads)));
        for listener in opened.listeners {
            service.add_listener(listener);
        }
        let engine =
            Engine { runtime, service, sockets: opened.sockets, gate, shared, log, shutdown: parts.shutdown };
        Ok((engine, opened.addresses))
    }

    /// Live counters, also after [`Self::run`] has returned.
    pub fn stats(&self) -> Arc<EngineStats> {
        self.shared.stats.clone()
    }

    /// Serves until told to drain, then until the last request has ended or the drain timeout is over. Blocks; call it
    /// on a thread of its own, outside any async runtime.
    pub fn run(self) {
        let Engine { runtime, service, sockets, gate, shared, log, shutdown } = self;
        runtime.block_on(serve(service, sockets, gate, &shared, shutdown));
        // Whatever is still there is over its time.
        runtime.shutdown_timeout(Duration::from_millis(100));
        log.finish();
    }
}

/// Checks what only the disk knows of settings that are about to replace others: that pools' authorities can be read.
pub fn check(settings: &Settings) -> Result<(), EngineError> {
    authorities_of(settings).map(drop)
}

/// Reads the authorities that pools name, so that a mistake is said before the first request.
fn authorities_of(settings: &Settings) -> Result<Authorities, EngineError> {
    let authorities = Authorities::default();
    for pool in &settings.routing.pools {
        let Some(path) = &pool.upstream.tls_ca else { continue };
        authorities.of(path).map_err(|reason| EngineError::Authorities {
            pool: pool.name.clone(),
            path: path.clone(),
            reason,
        })?;
    }
    Ok(authorities)
}

async fn serve(
    mut service: Service<Gate>,
    sockets: ListenFds,
    gate: gate::Connections,
    shared: &Arc<Shared>,
    mut shutdown: signal::Receiver<Shutdown>,
) {
    let (stop, stopped) = signal::channel(false);
    let accepting = tokio::spawn(async move { service.start_service(Some(sockets), stopped, 1).await });
    // An error means that the sender is gone: nobody could ever stop us, so stop now.
    let _ = shutdown.wait_for(|wanted| *wanted == Shutdown::Drain).await;
    let settings = shared.settings.load();
    let deadline = Instant::now() + settings.server.drain_timeout;
    shared.draining.store(true, Ordering::Release);
    let _ = stop.send(true);
    let drained = timeout_at(deadline, async {
        let _ = accepting.await;
        gate.empty().await;
    });
    if drained.await.is_err() {
        let left = shared.stats.in_flight();
        tracing::warn!(requests = left, "drain timeout over, cutting what is left");
    }
}

/// Idle connections to instances kept by each worker thread, all instances together. Pingora's 128 would make busy
/// proxies with many instances connect anew all the time; each costs some kilobytes.
const POOLED_PER_THREAD: usize = 1024;

fn pingora_conf(threads: usize) -> Arc<ServerConf> {
    Arc::new(ServerConf {
        threads: threads.max(1),
        max_retries: context::MOST_TRIES,
        upstream_keepalive_pool_size: POOLED_PER_THREAD,
        ..ServerConf::default()
    })
}
