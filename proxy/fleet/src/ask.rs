//! Short questions to an instance: is it there, is it ready, warm this path. Asked as the proxy itself would: over TLS with
//! the pool's own name and authorities where it talks TLS, in HTTP/2 where it talks that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls::Authorities;

/// How an instance is spoken to; by default HTTP/1.1 in the clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Speech {
    /// TLS, and with whom.
    pub tls: Option<TlsNames>,
    /// HTTP/2: by ALPN over TLS, else with prior knowledge.
    pub http2: bool,
}

/// Whom to trust over TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsNames {
    /// Name in the instance's certificate.
    pub server_name: String,
    /// PEM file of the authorities that may vouch for it; `None`: the platform's.
    pub ca: Option<PathBuf>,
}

/// Asks with a new connection each time: a check must also see that connecting works.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    authorities: Arc<Authorities>,
}

impl Asker {
    /// Whether `GET path` is answered with 2xx within `limit`. The body is not waited for.
    pub(super) async fn succeeds(&self, address: &str, speech: &Speech, path: &str, limit: Duration) -> bool {
        let status = async { self.get(address, speech, path).await.map(|response| response.status()) };
        matches!(timeout(limit, status).await, Ok(Some(status)) if StatusCode::is_success(&status))
    }

    /// Whether a connection stands within `limit`, where it talks TLS with the handshake done.
    pub(super) async fn connects(&self, address: &str, speech: &Speech, limit: Duration) -> bool {
        let connected = async {
            let stream = TcpStream::connect(address).await.ok()?;
            match &speech.tls {
                None => Some(()),
                Some(names) => self.authorities.connect(names, speech.http2, stream).await.map(drop),
            }
        };
        matches!(timeout(limit, connected).await, Ok(Some(())))
    }

    /// `GET path` to its last byte, whatever the answer: the point is the work it causes.
    pub(super) async fn warm(&self, address: &str, speech: &Speech, path: &str) {
        let Some(response) = self.get(address, speech, path).await else { return };
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }

    async fn get(&self, address: &str, speech: &Speech, path: &str) -> Option<Response<Incoming>> {
        let stream = TcpStream::connect(address).await.ok()?;
        // A small question waits for nothing; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let slash = if path.starts_with('/') { "" } else { "/" };
        match &speech.tls {
            None => {
                let target = format!("http://{address}{slash}{path}");
                exchange(stream, &target, address, speech.http2).await
            }
            Some(names) => {
                let stream = self.authorities.connect(names, speech.http2, stream).await?;
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let target = format!("https://{}{slash}{path}", names.server_name);
                exchange(stream, &target, &names.server_name, http2).await
            }
        }
    }
}

/// One request on this connection. What drives the connection ends with the answer's body.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    target: &str,
    host: &str,
    http2: bool,
) -> Option<Response<Incoming>> {
    let request = Request::get(target).header(http::header::USER_AGENT, "foretide-check");
    if http2 {
        let request = request.version(Version::HTTP_2).body(Empty::<Bytes>::new()).ok()?;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        return sender.send_request(request).await.ok();
    }
    let mut request = request.header(http::header::HOST, host).body(Empty::<Bytes>::new()).ok()?;
    // HTTP/1 names the host in its header, and only the path in its first line.
    *request.uri_mut() = request.uri().path_and_query()?.as_str().parse().ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    sender.send_request(request).await.ok()
}
