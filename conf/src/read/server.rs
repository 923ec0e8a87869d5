//! `[server]`, `[[server.tls]]`, `[admin]`, `[agent_check]`, `[access_log]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use crate::document::{Says, Section};
use crate::item::Item;
use crate::settings::{
    AccessLogFormat, AccessLogSettings, AdminSettings, Listener, ListenerTls, ServerSettings,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Loopback: nobody is served by accident.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Loopback too; the port beside those that Prometheus' exporters use.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);
/// Four weekly seasons and two days: enough to look back a month, small on disk.
const HISTORY_KEEP: Duration = Duration::from_secs(30 * 86_400);
/// As nginx: long enough for people's slow networks, short enough to shed dead peers.
const CLIENT_IDLE: Duration = Duration::from_secs(60);
/// As Kubernetes' grace period: what orchestrators wait for anyway.
const DRAIN: Duration = Duration::from_secs(30);

pub(super) fn server(section: &Section<'_>) -> ServerSettings {
    let plain = section.item("listen").map(|item| (item.list(), item));
    let mut listeners = Vec::new();
    for item in plain.iter().flat_map(|(list, _)| list) {
        if let Some(address) = item.address() {
            add(&mut listeners, Listener { address, tls: None }, item);
        }
    }
    for table in section.sections("tls") {
        tls_listener(&table, &mut listeners);
    }
    if let (true, Some((list, item))) = (listeners.is_empty(), &plain)
        && list.is_empty()
    {
        item.error(Says::new("names no address").help("write it like [\"127.0.0.1:8080\"]"));
    }
    if listeners.is_empty() {
        listeners.push(Listener { address: LISTEN, tls: None });
    }
    let threads = section.item("threads").and_then(|item| item.whole(1..=1024));
    let duration = |key, range| section.item(key).and_then(|item| item.duration(range));
    let settings = ServerSettings {
        listeners,
        threads: threads.map_or_else(default_threads, |threads| threads as usize),
        state_dir: section.item("state_dir").and_then(|item| item.path()).unwrap_or_else(|| {
            let directory = std::path::Path::new(section.doc().file()).parent();
            directory.map_or_else(|| PathBuf::from("foretide-state"), |parent| parent.join("foretide-state"))
        }),
        history_keep: duration("history_keep", HOUR..=3660 * DAY).unwrap_or(HISTORY_KEEP),
        client_idle_timeout: duration("client_idle_timeout", SECOND..=HOUR).unwrap_or(CLIENT_IDLE),
        drain_timeout: duration("drain_timeout", Duration::ZERO..=HOUR).unwrap_or(DRAIN),
        share_sight: section.item("share_sight").and_then(|item| item.flag()).unwrap_or(false),
    };
    section.close();
    settings
}

/// One worker per CPU that this process may use.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn tls_listener(table: &Section<'_>, listeners: &mut Vec<Listener>) {
    let listen = table.required("listen", "\"0.0.0.0:8443\"");
    let certificate = table.required("certificate", "\"chain.pem\"").and_then(|item| item.path());
    let key = table.required("key", "\"key.pem\"").and_then(|item| item.path());
    let client_ca = table.item("client_ca").and_then(|item| item.path());
    table.close();
    let (Some(item), Some(certificate), Some(key)) = (listen, certificate, key) else { return };
    if let Some(address) = item.address() {
        add(listeners, Listener { address, tls: Some(ListenerTls { certificate, key, client_ca }) }, &item);
    }
}

fn add(listeners: &mut Vec<Listener>, listener: Listener, item: &Item<'_>) {
    let taken = |other: &Listener| other.address == listener.address && listener.address.port() != 0;
    if listeners.iter().any(taken) {
        item.error(
            Says::new(format!("{} is listened on twice", listener.address)).help("remove one of the two"),
        );
        return;
    }
    listeners.push(listener);
}

pub(super) fn admin(section: &Section<'_>, listeners: &[Listener]) -> AdminSettings {
    let allow_remote = section.item("allow_remote").and_then(|item| item.flag()).unwrap_or(false);
    let listen = section.item("listen");
    let off = listen.as_ref().and_then(Item::as_str) == Some("off");
    let address = match &listen {
        _ if off => None,
        None => Some(ADMIN),
        Some(item) => item.address().or(Some(ADMIN)),
    };
    if let (Some(item), Some(address)) = (&listen, address)
        && !address.ip().is_loopback()
        && !allow_remote
    {
        item.warn(
            Says::new("the admin listener is open to other machines and asks for no password")
                .help("listen on 127.0.0.1, or set `allow_remote = true` if the network keeps strangers out"),
        );
    }
    let clash = |address| listeners.iter().any(|listener| Some(listener.address) == address);
    if clash(address.filter(|address| address.port() != 0)) {
        let says = Says::new("the admin listener has the address of a listener for clients")
            .help("give it its own port");
        match &listen {
            Some(item) => item.error(says),
            None => section.error(says),
        }
    }
    section.close();
    AdminSettings { address }
}

/// Off unless an address is written.
pub(super) fn agent_check(section: &Section<'_>) -> Option<SocketAddr> {
    if !section.is_written() {
        return None;
    }
    let address = section.required("listen", "\"127.0.0.1:9902\"").and_then(|item| item.address());
    section.close();
    address
}

pub(super) fn access_log(section: &Section<'_>) -> Option<AccessLogSettings> {
    let path = section.item("path").and_then(|item| item.path());
    let formats = [("json", AccessLogFormat::Json), ("envoy", AccessLogFormat::Envoy)];
    let format = section.item("format").and_then(|item| item.choice(&formats));
    section.close();
    section
        .is_written()
        .then_some(AccessLogSettings { path, format: format.unwrap_or(AccessLogFormat::Json) })
}
