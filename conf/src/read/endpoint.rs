//! `endpoints` of a pool: `"host:port"`, or a table that says more of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use foretide_routing::settings::choice::{Endpoint, Traits};

use crate::document::{Says, Section};
use crate::item::Item;

/// A schedule of turns is cut at some thousands; beyond such a ratio the smallest might as well be left out.
const MOST_WEIGHT: u32 = 1_000;

pub(super) fn endpoints(section: &Section<'_>) -> Vec<Endpoint> {
    let list = section.item("endpoints").map(|item| item.list()).unwrap_or_default();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in &list {
        let Some(read) = endpoint(item) else { continue };
        if endpoints.iter().any(|other| other.address == read.address) {
            item.error(
                Says::new(format!("\"{}\" is there twice", read.address)).help("remove one of the two"),
            );
        } else {
            endpoints.push(read);
        }
    }
    endpoints
}

fn endpoint(item: &Item<'_>) -> Option<Endpoint> {
    if !item.is_table() {
        return Some(Endpoint::from(address(item)?));
    }
    let section = item.section()?;
    let address = section.required("address", "\"10.0.0.7:9000\"").and_then(|item| address(&item));
    let weight = section.item("weight").and_then(|item| item.count(1..=MOST_WEIGHT)).unwrap_or(1);
    let zone = section.item("zone").and_then(|item| item.text()).map(str::to_owned);
    let labels = labels(&section.section("labels"));
    section.close();
    Some(Endpoint { address: address?.to_owned(), weight, traits: Arc::new(Traits { zone, labels }) })
}

fn labels(section: &Section<'_>) -> BTreeMap<String, String> {
    let text = |(name, item): (String, Item<'_>)| Some((name, item.text()?.to_owned()));
    section.named().into_iter().filter_map(text).collect()
}

fn address<'a>(item: &Item<'a>) -> Option<&'a str> {
    let text = item.text()?;
    match host_and_port(text) {
        Ok(()) => Some(text),
        Err(says) => {
            item.error(says);
            None
        }
    }
}

/// `host:port`; IPv6 addresses in brackets.
fn host_and_port(text: &str) -> Result<(), Says> {
    if text.contains('@') {
        return Err(Says::new("holds a user or password in plain text").help("write only host and port"));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let bare = rest.split('/').next().unwrap_or(rest);
        return Err(Says::new(format!("\"{text}\" is an address with a scheme, not host and port"))
            .help(format!("write \"{bare}\"; for TLS add `upstream.tls_server_name`")));
    }
    let help = "write it like \"10.0.0.7:9000\", \"backend.internal:9000\" or \"[::1]:9000\"";
    let wrong = || Says::new(format!("\"{text}\" is not host and port")).help(help);
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    if sound && matches!(port.parse::<u16>(), Ok(1..)) { Ok(()) } else { Err(wrong()) }
}
