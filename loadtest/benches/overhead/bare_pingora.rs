//! The peers: proxies on Pingora as its examples show them, instances in turn, without routes, prediction, log, metrics.
//!
//! *Same job*: what goes over the wire is what Foretide sends, `X-Forwarded-For`, `-Proto`, `-Host` and a request id
//! upstream, the id downstream. *Least*: the client's address only, for who wants to know what headers cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// How much of Foretide's job a bare proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// The same headers.
    Same,
    /// The client's address.
    Least,
}

struct Bare {
    instances: Vec<String>,
    job: Job,
    turn: AtomicUsize,
    requests: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Bare {
    /// The request's id.
    type CTX = String;

    fn new_ctx(&self) -> String {
        String::new()
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut String) -> pingora_core::Result<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.instances.len();
        let mut peer = HttpPeer::new(&self.instances[turn], false, String::new());
        peer.options.connection_timeout = Some(Duration::from_secs(1));
        peer.options.read_timeout = Some(Duration::from_secs(60));
        peer.options.idle_timeout = Some(Duration::from_secs(60));
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        id: &mut String,
    ) -> pingora_core::Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            upstream.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        if self.job == Job::Least {
            return Ok(());
        }
        upstream.insert_header("x-forwarded-proto", "http")?;
        if let Some(host) = session.req_header().headers.get("host") {
            upstream.insert_header("x-forwarded-host", host.clone())?;
        }
        *id = format!("{:032x}", self.requests.fetch_add(1, Ordering::Relaxed));
        upstream.insert_header("x-request-id", id.as_str())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        id: &mut String,
    ) -> pingora_core::Result<()> {
        if self.job == Job::Least { Ok(()) } else { response.insert_header("x-request-id", id.as_str()) }
    }
}

/// Serves until it is killed.
pub(crate) fn run(job: Job, listen: &str, instances: Vec<String>) -> Result<()> {
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy_service(
        &Arc::clone(&server.configuration),
        Bare { instances, job, turn: AtomicUsize::new(0), requests: AtomicUsize::new(0) },
    );
    proxy.add_tcp(listen);
    server.add_service(proxy);
    server.run_forever()
}
