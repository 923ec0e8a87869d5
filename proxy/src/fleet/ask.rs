//! Short questions to an instance over plain HTTP: is it there, is it ready, warm this path.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks with a new connection each time: a check must also see that connecting works.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Asker {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client }
    }

    /// Whether `GET path` is answered with 2xx within `limit`. The body is not waited for.
    pub(super) async fn succeeds(&self, address: &str, path: &str, limit: Duration) -> bool {
        matches!(timeout(limit, self.status(address, path)).await, Ok(Some(status)) if status.is_success())
    }

    /// Whether a TCP connection stands within `limit`.
    pub(super) async fn connects(&self, address: &str, limit: Duration) -> bool {
        matches!(timeout(limit, TcpStream::connect(address)).await, Ok(Ok(_)))
    }

    /// `GET path` to its last byte, whatever the answer: the point is the work it causes.
    pub(super) async fn warm(&self, address: &str, path: &str) {
        let Some(request) = request(address, path) else { return };
        let Ok(response) = self.client.request(request).await else { return };
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }

    async fn status(&self, address: &str, path: &str) -> Option<StatusCode> {
        let response = self.client.request(request(address, path)?).await.ok()?;
        Some(response.status())
    }
}

fn request(address: &str, path: &str) -> Option<Request<Empty<Bytes>>> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    Request::get(format!("http://{address}{slash}{path}"))
        .header(http::header::USER_AGENT, "foretide-check")
        .body(Empty::new())
        .ok()
}
