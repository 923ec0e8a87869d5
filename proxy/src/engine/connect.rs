//! From a chosen instance to a Pingora peer: address, timeouts, protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foretide_routing::settings::UpstreamSettings;
use pingora_core::protocols::ALPN;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};

/// Requests that one HTTP/2 connection to an instance carries at the same time: what servers commonly allow.
const STREAMS_PER_CONNECTION: usize = 100;
/// How long a looked-up name is trusted. The resolver does not tell us the record's own time.
const NAME_LIFE: Duration = Duration::from_secs(5);
/// Names remembered; there are as many as instances that are configured by name.
const MOST_NAMES: usize = 1024;

/// A peer with all limits set: none of Pingora's has a default. `left`: what remains of the request's own time.
pub(super) fn peer(
    address: SocketAddr,
    upstream: &UpstreamSettings,
    authorities: Option<Arc<CaType>>,
    left: Option<Duration>,
) -> Box<HttpPeer> {
    let tls = upstream.tls_server_name.is_some();
    let mut peer = HttpPeer::new(address, tls, upstream.tls_server_name.clone().unwrap_or_default());
    let within = |limit: Duration| left.map_or(limit, |left| limit.min(left)).max(Duration::from_millis(1));
    // Pingora has one timer for every read. For HTTP/1 the watch enforces the first byte, so that a longer silence
    // within a body is no error; an HTTP/2 connection is shared, so its timer must do for both.
    let silence = match upstream.http2 {
        true => within(upstream.first_byte_timeout),
        false => upstream.first_byte_timeout.max(upstream.idle_timeout),
    };
    let options = &mut peer.options;
    options.ca = authorities;
    options.connection_timeout = Some(within(upstream.connect_timeout));
    options.total_connection_timeout = Some(within(upstream.connect_timeout));
    options.read_timeout = Some(silence);
    options.write_timeout = Some(upstream.idle_timeout);
    options.idle_timeout = Some(upstream.idle_timeout);
    if upstream.http2 {
        options.alpn = if tls { ALPN::H2H1 } else { ALPN::H2 };
        options.max_h2_streams = STREAMS_PER_CONNECTION;
    }
    Box::new(peer)
}

/// Names of instances looked up lately.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: Mutex<BTreeMap<Arc<str>, (SocketAddr, Instant)>>,
}

impl Resolver {
    /// `host:port` to an address. A literal one costs no lock and no wait; a name is looked up off the worker thread
    /// and remembered for [`NAME_LIFE`].
    pub(super) async fn resolve(&self, address: &Arc<str>) -> Result<SocketAddr> {
        if let Ok(literal) = address.parse() {
            return Ok(literal);
        }
        let now = Instant::now();
        if let Some((found, until)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(address)
            && now < *until
        {
            return Ok(*found);
        }
        let found = tokio::net::lookup_host(&**address).await.ok().and_then(|mut found| found.next());
        let Some(found) = found else {
            return Error::e_explain(ErrorType::ConnectNoRoute, format!("no address for {address}"));
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_NAMES {
            known.clear();
        }
        known.insert(address.clone(), (found, now + NAME_LIFE));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(http2: bool) -> UpstreamSettings {
        UpstreamSettings {
            tls_server_name: None,
            tls_ca: None,
            http2,
            connect_timeout: Duration::from_secs(3),
            first_byte_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            cost_from: None,
            pass_load_report: false,
            load_stream: None,
        }
    }

    #[test]
    fn every_timeout_is_set_and_within_the_time_left() {
        let address = "127.0.0.1:1".parse().unwrap();
        let options = peer(address, &upstream(false), None, None).options;
        assert_eq!(options.total_connection_timeout, Some(Duration::from_secs(3)));
        assert_eq!(options.read_timeout, Some(Duration::from_secs(60)));
        assert!(options.write_timeout.is_some() && options.idle_timeout.is_some());
        let options = peer(address, &upstream(true), None, Some(Duration::from_secs(1))).options;
        assert_eq!(options.total_connection_timeout, Some(Duration::from_secs(1)));
        assert_eq!(options.read_timeout, Some(Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn names_are_looked_up_and_nonsense_is_an_error() {
        let resolver = Resolver::default();
        let literal: Arc<str> = "192.0.2.1:80".into();
        assert_eq!(resolver.resolve(&literal).await.unwrap(), "192.0.2.1:80".parse().unwrap());
        let local: Arc<str> = "localhost:81".into();
        assert!(resolver.resolve(&local).await.unwrap().ip().is_loopback());
        assert!(resolver.resolve(&Arc::from("not an address")).await.is_err());
    }
}
