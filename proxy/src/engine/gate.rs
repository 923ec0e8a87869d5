//! Between the listeners and Pingora's proxy: counts connections, guards them, and lets them go gently.
//!
//! A drain goes: stop accepting; for [`LINGER`] answer what still comes in on open connections, with
//! `Connection: close` or GOAWAY; then close the idle ones. Without the lingering a request that crosses the close on
//! the wire would be lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foretide_guard::watch;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::time::{Instant, sleep, timeout_at};

use crate::engine::hooks::Hooks;
use crate::engine::shared::Shared;
use crate::engine::stats::EngineStats;

/// How long idle connections are kept in a drain: a round trip across the world, and then some.
const LINGER: Duration = Duration::from_millis(500);
/// Least time of that, also without connections: for those just accepted and not yet counted.
const LEAST_LINGER: Duration = Duration::from_millis(20);
/// How often a drain looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the listening service runs for each connection.
pub(super) struct Gate {
    http1: Arc<Streams>,
    http2: Arc<Streams>,
    shared: Arc<Shared>,
}

/// Counts what a drain waits for.
pub(super) struct Connections {
    shared: Arc<Shared>,
}

impl Connections {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The gate whose connections these are.
    pub(super) fn gate(&self, conf: &Arc<ServerConf>) -> Gate {
        let proxy = Arc::new(http_proxy(conf, Hooks::new(self.shared.clone())));
        let streams = |h2c| {
            let mut options = HttpServerOptions::default();
            options.h2c = h2c;
            options.h2_idle_timeout = Some(self.shared.settings.load().server.client_idle_timeout);
            Arc::new(Streams { proxy: proxy.clone(), options, shared: self.shared.clone() })
        };
        Gate { http1: streams(false), http2: streams(true), shared: self.shared.clone() }
    }

    /// Waits until no connection is open and no request in flight.
    pub(super) async fn empty(&self) {
        while self.shared.stats.connections() > 0 || self.shared.stats.in_flight() > 0 {
            sleep(LOOK_EVERY).await;
        }
    }
}

struct Counted<'a>(&'a EngineStats);

impl<'a> Counted<'a> {
    fn new(stats: &'a EngineStats) -> Self {
        stats.connection_opened();
        Self(stats)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

#[async_trait]
impl ServerApp for Gate {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _counted = Counted::new(&self.shared.stats);
        if self.is_http2(&mut stream, shutdown).await? {
            return self.http2.process_new(stream, shutdown).await;
        }
        watch::guard(
            self.shared.idle_until(self.shared.clock.read()),
            self.http1.process_new(stream, shutdown),
        )
        .await
        .flatten()
    }

    async fn cleanup(&self) {
        let linger = LINGER.min(self.shared.settings.load().server.drain_timeout / 4);
        let started = Instant::now();
        sleep(LEAST_LINGER.min(linger)).await;
        while started.elapsed() < linger && self.shared.stats.connections() > 0 {
            sleep(LOOK_EVERY).await;
        }
        self.http1.proxy.http_cleanup().await;
    }
}

impl Gate {
    /// By ALPN, or by the first letters of HTTP/2's preface: no HTTP/1 method is called `PRI`. (Pingora's own look
    /// waits for all 24 octets of the preface, which a short HTTP/1.0 request never sends.) `None`: nothing came.
    async fn is_http2(&self, stream: &mut Stream, shutdown: &ShutdownWatch) -> Option<bool> {
        if stream.get_ssl_digest().is_some() {
            return Some(matches!(stream.selected_alpn_proto(), Some(ALPN::H2)));
        }
        let mut letters = [0; 3];
        let mut shutdown = shutdown.clone();
        tokio::select! {
            biased;
            peeked = timeout_at(self.shared.idle_until(self.shared.clock.read()), stream.try_peek(&mut letters)) => {
                peeked.ok()?.ok().map(|possible| possible && &letters == b"PRI")
            }
            () = async {
                let _ = shutdown.wait_for(|stop| *stop).await;
                sleep(LINGER).await;
            } => None,
        }
    }
}

/// The proxy, with a guard of its own for each HTTP/2 stream.
struct Streams {
    proxy: Arc<HttpProxy<Hooks>>,
    options: HttpServerOptions,
    shared: Arc<Shared>,
}

#[async_trait]
impl HttpServerApp for Streams {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let is_h2 = session.is_http2();
        let work = self.proxy.process_new_http(session, shutdown);
        if is_h2 {
            watch::guard(self.shared.idle_until(self.shared.clock.read()), work).await.flatten()
        } else {
            work.await
        }
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
