//! The socket as `chitchat` sees it, with a bound on what comes in.
//!
//! | datagram | becomes |
//! |---|---|
//! | no message | dropped by `chitchat`'s own socket, with a line in its log that only `RUST_LOG` shows |
//! | of another version of the protocol | dropped, counted `version` |
//! | more than [`RATE`] in a second | dropped, counted `rate` |
//! | after which the cluster holds too much | the end of the session, counted `crowd` |
//!
//! Known weakness: a datagram is decoded, and may be decompressed, before it is counted, so whoever floods the address
//! costs this process a core.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport, UdpSocket};
use chitchat::{Chitchat, ChitchatEnvelope, ProtocolVersion, VersionedValue};
use metrics::{counter, describe_counter};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{MOST_BYTES, MOST_NODES};

/// Messages taken in a second. Of a hundred members with the shortest interval about 120 come.
const RATE: u32 = 500;

const DROPPED: &str = "foretide_gossip_datagrams_dropped_total";

pub(crate) fn describe() {
    describe_counter!(DROPPED, "Messages that gossip did not take, by reason: rate, version, crowd");
}

type Cluster = Arc<OnceLock<Weak<Mutex<Chitchat>>>>;

/// A way in for datagrams.
pub(crate) struct Door {
    address: SocketAddr,
    /// Bound at the start; later sessions bind their own.
    first: Mutex<Option<UdpSocket>>,
    cluster: Cluster,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, first: Option<UdpSocket>) -> Self {
        Self { address, first: Mutex::new(first), cluster: Arc::default() }
    }

    /// From now on it looks after the size of this cluster.
    pub(crate) fn watch(&self, cluster: &Arc<Mutex<Chitchat>>) {
        // Once a session; there is nothing to replace.
        let _ = self.cluster.set(Arc::downgrade(cluster));
    }
}

#[async_trait]
impl Transport for Door {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = match self.first.lock().await.take() {
            Some(socket) => socket,
            None => UdpSocket::open(self.address).await?,
        };
        let cluster = Arc::clone(&self.cluster);
        Ok(Box::new(Doorway { socket, cluster, unchecked: false, second: Instant::now(), taken: 0 }))
    }
}

struct Doorway {
    socket: UdpSocket,
    cluster: Cluster,
    /// The cluster has been given a message since its size was last looked at.
    unchecked: bool,
    /// Begin of the second in which so many were taken.
    second: Instant,
    taken: u32,
}

impl Doorway {
    /// Whether one more may be taken in this second.
    fn admits(&mut self) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.taken) = (Instant::now(), 0);
        }
        self.taken = self.taken.saturating_add(1);
        self.taken <= RATE
    }

    async fn is_crowded(&self) -> bool {
        let Some(cluster) = self.cluster.get().and_then(Weak::upgrade) else { return false };
        let cluster = cluster.lock().await;
        let nodes = cluster.node_states();
        let bytes = |(key, value): (&str, &VersionedValue)| key.len() + value.value.len();
        let entries = nodes.values().flat_map(|node| node.key_values_including_deleted());
        nodes.len() > MOST_NODES || entries.map(bytes).sum::<usize>() > MOST_BYTES
    }
}

#[async_trait]
impl Socket for Doorway {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.socket.local_addr()
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        // Who cannot be reached is found out by the failure detector.
        Ok(self.socket.send(to, envelope).await.unwrap_or(SendOutcome { num_bytes_sent: 0 }))
    }

    /// May be dropped at any await: nothing has been taken from the socket then.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        if self.unchecked {
            if self.is_crowded().await {
                counter!(DROPPED, "reason" => "crowd").increment(1);
                anyhow::bail!("more members or more bytes than a cluster has");
            }
            self.unchecked = false;
        }
        loop {
            let message = self.socket.recv().await?;
            if message.envelope.version != ProtocolVersion::V0 {
                counter!(DROPPED, "reason" => "version").increment(1);
            } else if self.admits() {
                self.unchecked = true;
                return Ok(message);
            } else {
                counter!(DROPPED, "reason" => "rate").increment(1);
            }
        }
    }
}
