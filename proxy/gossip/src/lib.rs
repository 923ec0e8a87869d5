//! Proxies that hear of each other without a server: who is there, and what each has measured of the instances they share.
//!
//! `chitchat` does the gossip itself (Scuttlebutt reconciliation over UDP, van Renesse et al. 2008; a phi accrual failure
//! detector, Hayashibara et al. 2004). Here are its edges: what this proxy says is put into its own entries once a second
//! (`board`), what the live members say is read and judged in the same second and handed to the control loop, which knows what
//! to believe ([`foretide_control::hearsay`]). Datagrams pass a door of our own (`door`) that bounds and counts them.
//!
//! ```text
//!            ┌─► session: chitchat + a look every second ──ended or panicked──┐
//! bind ──► run                                                                │
//!            └───────────── a second later, as a new generation ◄─────────────┘
//! ```
//!
//! Nobody is authenticated: whoever can send to the address can say anything, also in the name of another. So nothing that is
//! heard is believed beyond the bounds of own measurements, what one look reads is bounded, a crowd that is more than
//! [`MOST_NODES`] entries or [`MOST_BYTES`] is thrown away with everything else and begun anew, and a message that trips an
//! assertion inside `chitchat` ends a session and nothing more. Keep it on a private network all the same.

mod board;
mod door;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::{Socket as _, UdpSocket};
use chitchat::{ChitchatConfig, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};
use foretide_conf::settings::GossipSettings;
use foretide_control::hearsay::Heard;
use foretide_control::report::StatusReport;
use foretide_predictor::time::Timestamp;
use metrics::{counter, describe_counter};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::door::Door;

/// Entries about proxies, the dead of the last minutes among them, beyond which there is somebody who makes them up.
pub const MOST_NODES: usize = 1_024;
/// Bytes that all of them say together.
pub const MOST_BYTES: usize = 8 << 20;
/// Publishing and looking: speeds are known to 10 % after tens of requests, not after milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a session that ended, so that whoever ends them cannot keep a core busy.
const REST: Duration = Duration::from_secs(1);
/// A dead member may come back within this with what it said.
const REMEMBER_DEAD: Duration = Duration::from_secs(300);
/// Longer than a dead member is remembered, so that nobody who comes back revives a pool that is gone.
const REMEMBER_DELETED: Duration = Duration::from_secs(600);
/// Suspicion at which a member counts as dead: the usual figure; about eight missed beats.
const PHI: f64 = 8.0;
/// Intervals between beats from which the usual one is known.
const BEATS: usize = 64;

const RESTARTS: &str = "foretide_gossip_restarts_total";

/// A bound socket and what to do with it.
pub struct Gossip {
    socket: UdpSocket,
    bound: SocketAddr,
    address: SocketAddr,
    settings: GossipSettings,
}

/// Ends the session's task when dropped.
struct Ends<T>(JoinHandle<T>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Gossip {
    /// Binds at once, so that its errors show at the start.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(settings: &GossipSettings) -> anyhow::Result<Self> {
        let socket = UdpSocket::open(settings.listen).await?;
        let bound = socket.local_addr()?;
        Ok(Self { socket, bound, address: settings.advertise.unwrap_or(bound), settings: settings.clone() })
    }

    /// Gossips until nobody takes what is heard any more. `now`: the process's clock, in Unix time, so that a process
    /// that restarts is the newer one. A full `to` drops what was heard: the next look is never far.
    pub async fn run(
        self,
        report: watch::Receiver<Arc<StatusReport>>,
        to: mpsc::Sender<Heard>,
        now: impl Fn() -> Timestamp,
    ) {
        describe();
        let node = self.settings.node.clone().unwrap_or_else(|| self.address.to_string());
        tracing::info!(%node, address = %self.address, cluster = %self.settings.cluster, "gossiping");
        let mut first = Some(self.socket);
        while !to.is_closed() {
            let id = ChitchatId::new(node.as_str(), now().as_us(), self.address);
            let door = Door::new(self.bound, first.take());
            let config = config(&self.settings, id);
            let mut session = Ends(tokio::spawn(session(config, door, report.clone(), to.clone())));
            let why = match (&mut session.0).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error:#}"),
                Err(_panicked) => "a message tripped an assertion".to_owned(),
            };
            counter!(RESTARTS).increment(1);
            tracing::warn!(why, "gossip begins anew; requests are served without it");
            tokio::time::sleep(REST).await;
        }
    }
}

fn config(settings: &GossipSettings, id: ChitchatId) -> ChitchatConfig {
    let interval = settings.interval;
    ChitchatConfig {
        chitchat_id: id,
        cluster_id: settings.cluster.clone(),
        gossip_interval: interval,
        listen_addr: settings.listen,
        seed_nodes: settings.seeds.clone(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: PHI,
            sampling_window_size: BEATS,
            max_interval: 10 * interval,
            initial_interval: interval,
            dead_node_grace_period: REMEMBER_DEAD,
        },
        marked_for_deletion_grace_period: REMEMBER_DELETED,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V0,
    }
}

/// One life of `chitchat`. Ends well when nobody takes what is heard any more.
async fn session(
    config: ChitchatConfig,
    door: Door,
    report: watch::Receiver<Arc<StatusReport>>,
    to: mpsc::Sender<Heard>,
) -> anyhow::Result<()> {
    let mut board = Board::new(config.chitchat_id.clone());
    let handle = spawn_chitchat(config, Vec::new(), &door).await?;
    door.watch(&handle.chitchat());
    let mut ended = std::pin::pin!(handle.termination_watcher());
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            end = &mut ended => {
                end?;
                anyhow::bail!("it ended by itself");
            }
            _ = look.tick() => {}
        }
        if to.is_closed() {
            return Ok(());
        }
        let latest = Arc::clone(&report.borrow());
        let cluster = handle.chitchat();
        let heard = {
            let mut cluster = cluster.lock().await;
            board.write(&latest, cluster.self_node_state());
            board.read(&cluster)
        };
        // A loop that is busy for a second has more urgent things to hear.
        let _ = to.try_send(heard);
    }
}

fn describe() {
    describe_counter!(
        RESTARTS,
        "Times that gossip began anew, because of a crowd or a message that made no sense"
    );
    door::describe();
    board::describe();
}
