//! The peer: the least that a proxy on Pingora must do. Instances in turn, client's address forwarded, nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Bare {
    instances: Vec<String>,
    turn: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
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
        _: &mut (),
    ) -> pingora_core::Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            upstream.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        Ok(())
    }
}

/// Serves until it is killed.
pub(crate) fn run(listen: &str, instances: Vec<String>) -> Result<()> {
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy =
        http_proxy_service(&Arc::clone(&server.configuration), Bare { instances, turn: AtomicUsize::new(0) });
    proxy.add_tcp(listen);
    server.add_service(proxy);
    server.run_forever()
}
