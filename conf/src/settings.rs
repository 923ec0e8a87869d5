//! A whole configuration, checked: what the product needs beyond [`RoutingSettings`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use foretide_routing::settings::RoutingSettings;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Listeners, threads, state.
    pub server: ServerSettings,
    /// The admin listener.
    pub admin: AdminSettings,
    /// Where HAProxy asks how instances do; `None`: nowhere. Change needs a restart.
    pub agent_check: Option<SocketAddr>,
    /// Where proxies hear of each other; `None`: they do not. Change needs a restart.
    pub gossip: Option<GossipSettings>,
    /// One line a request; `None`: off.
    pub access_log: Option<AccessLogSettings>,
    /// Routes, pools, learning.
    pub routing: RoutingSettings,
}

/// Where a proxy that shares its sight answers what is in flight, and where it is asked unless the pool says otherwise.
pub const LOAD_PATH: &str = "/.well-known/foretide/load";

/// Listeners, threads, state.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// Where clients connect; at least one. Change needs a restart.
    pub listeners: Vec<Listener>,
    /// Worker threads. Change needs a restart.
    pub threads: usize,
    /// Directory of history and learned state; made if missing. Change needs a restart.
    pub state_dir: PathBuf,
    /// How long history is kept.
    pub history_keep: Duration,
    /// A client that sends nothing for so long is cut off.
    pub client_idle_timeout: Duration,
    /// After SIGTERM: time for requests in flight to end.
    pub drain_timeout: Duration,
    /// Says in each answer, and to whoever asks at [`LOAD_PATH`], what is in flight here.
    pub share_sight: bool,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Address and port; port 0 takes a free one and says which.
    pub address: SocketAddr,
    /// TLS from files; without it HTTP/1.1 and HTTP/2 with prior knowledge.
    pub tls: Option<ListenerTls>,
}

/// Certificate files, PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// Chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Clients must show a certificate of these authorities (mTLS).
    pub client_ca: Option<PathBuf>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Loopback unless the operator insists; `None`: off. Change needs a restart.
    pub address: Option<SocketAddr>,
}

/// How this proxy hears of others, by UDP that nobody authenticates.
#[derive(Clone, Debug, PartialEq)]
pub struct GossipSettings {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach it; `None`: where it listens.
    pub advertise: Option<SocketAddr>,
    /// `HOST:PORT` of some members; names are resolved, again and again. Empty: others name this one.
    pub seeds: Vec<String>,
    /// Members of other clusters are not listened to.
    pub cluster: String,
    /// Time between rounds.
    pub interval: Duration,
    /// This proxy's name, unique in the cluster; `None`: the address that others reach it at.
    pub node: Option<String>,
}

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSettings {
    /// File to append to; `None`: standard output.
    pub path: Option<PathBuf>,
    /// Shape of a line.
    pub format: AccessLogFormat,
}

/// Shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object.
    Json,
    /// Envoy's default line.
    Envoy,
}
