//! A client for single questions, and waiting for an answer to become right.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::runtime::Runtime;

/// No test waits longer for anything that should happen in a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(100);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
});
static CLIENT: LazyLock<Client<HttpConnector, Full<Bytes>>> = LazyLock::new(|| {
    // No connection is kept: a question must not fail because the server of an earlier one is gone.
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http()
});

/// The runtime that all tests share.
pub(crate) fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// Asks; the error says what went wrong on the way.
pub(crate) fn ask(method: Method, to: SocketAddr, path: &str, body: &str) -> Result<Answer, String> {
    let url = format!("http://{to}{path}");
    let request =
        Request::builder().method(method).uri(&url).body(Full::from(body.to_owned())).expect("a request");
    let exchange = async {
        let response = CLIENT.request(request).await.map_err(|error| format!("{url}: {error:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("{url}: {error:?}"))?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    let timed = async { tokio::time::timeout(PATIENCE, exchange).await };
    RUNTIME.block_on(timed).map_err(|_| format!("{url}: no answer"))?
}

/// A GET that must be answered, with whatever status.
pub(crate) fn get(to: SocketAddr, path: &str) -> Answer {
    ask(Method::GET, to, path, "").unwrap_or_else(|error| panic!("{error}"))
}

/// A POST that must be answered, with whatever status.
pub(crate) fn post(to: SocketAddr, path: &str, body: &str) -> Answer {
    ask(Method::POST, to, path, body).unwrap_or_else(|error| panic!("{error}"))
}

/// Looks until there is something to see; panics with what was waited for.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// As [`eventually`], with another patience.
pub(crate) fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}
