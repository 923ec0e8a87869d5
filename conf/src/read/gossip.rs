//! `[gossip]`: where proxies hear of each other.

use std::net::SocketAddr;
use std::time::Duration;

use crate::document::{Says, Section};
use crate::item::Item;
use crate::settings::GossipSettings;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Names travel in every datagram, and people read them.
const LONGEST_NAME: usize = 64;
/// One is enough to find the rest; some more, and it does not matter which of them is down.
const MOST_SEEDS: usize = 64;

/// Off unless the table is written.
pub(super) fn gossip(section: &Section<'_>) -> Option<GossipSettings> {
    if !section.is_written() {
        return None;
    }
    let listen_item = section.required("listen", "\"10.0.0.5:7946\"");
    let listen = listen_item.as_ref().and_then(Item::address);
    let advertise_item = section.item("advertise");
    let advertise = advertise_item.as_ref().and_then(reachable);
    if let (Some(item), Some(address)) = (&listen_item, listen)
        && address.ip().is_unspecified()
        && advertise_item.is_none()
    {
        let port = if address.port() == 0 { 7946 } else { address.port() };
        item.error(
            Says::new("listens on all addresses, and others would not know which of them to answer to")
                .help(format!("add `advertise = \"10.0.0.5:{port}\"` with the address that they reach")),
        );
    }
    let seeds_item = section.item("seeds");
    let list = seeds_item.as_ref().map(Item::list).unwrap_or_default();
    if let Some(item) = seeds_item.as_ref().filter(|_| list.len() > MOST_SEEDS) {
        item.error(
            Says::new(format!("more than {MOST_SEEDS} seeds")).help("a few members are enough to find all"),
        );
    }
    let seeds = list.iter().filter_map(seed).collect();
    let name = |key| section.item(key).and_then(|item: Item<'_>| name(&item));
    let (cluster, node) = (name("cluster"), name("node"));
    let interval = section.item("interval").and_then(|item| item.duration(100 * MS..=2 * SECOND));
    section.close();
    Some(GossipSettings {
        listen: listen?,
        advertise,
        seeds,
        cluster: cluster.unwrap_or_else(|| "foretide".to_owned()),
        interval: interval.unwrap_or(SECOND),
        node,
    })
}

/// An address that others can send to.
fn reachable(item: &Item<'_>) -> Option<SocketAddr> {
    let address = item.address()?;
    if address.ip().is_unspecified() || address.port() == 0 {
        item.error(
            Says::new(format!("nobody can send to {address}"))
                .help("write one address of this machine that the others reach, with its port"),
        );
        return None;
    }
    Some(address)
}

/// `HOST:PORT`; the host may be a name.
fn seed(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let is_address = text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0);
    let is_name = text.rsplit_once(':').is_some_and(|(host, port)| {
        let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        !host.is_empty() && host.chars().all(named) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if !is_address && !is_name {
        item.error(
            Says::new(format!("\"{text}\" is not a host with a port"))
                .help("write it like \"10.0.0.6:7946\", \"[fd00::6]:7946\" or \"proxies.internal:7946\""),
        );
        return None;
    }
    Some(text.to_owned())
}

fn name(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let fits = text.len() <= LONGEST_NAME && text.chars().all(|c| c.is_ascii_graphic());
    if !fits {
        item.error(
            Says::new("is not a name")
                .help(format!("at most {LONGEST_NAME} letters, digits and signs, no spaces")),
        );
        return None;
    }
    Some(text.to_owned())
}
