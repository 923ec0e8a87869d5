//! Short questions to an instance: is it there, is it ready, warm this path. Asked as the proxy itself would: over TLS with
//! the pool's own name and authorities where it talks TLS, in HTTP/2 where it talks that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foretide_routing::settings::UpstreamSettings;
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

impl Speech {
    /// As requests of a pool speak to its instances.
    pub fn of(upstream: &UpstreamSettings) -> Self {
        let names = |name: &String| TlsNames { server_name: name.clone(), ca: upstream.tls_ca.clone() };
        Self { tls: upstream.tls_server_name.as_ref().map(names), http2: upstream.http2 }
    }
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
        self.open(address, speech).await?.ask(path).await
    }

    /// A connection for questions.
    pub(super) async fn open(&self, address: &str, speech: &Speech) -> Option<Line> {
        let stream = TcpStream::connect(address).await.ok()?;
        // A small question waits for nothing; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        match &speech.tls {
            None => Line::over(stream, "http", address, speech.http2).await,
            Some(names) => {
                let stream = self.authorities.connect(names, speech.http2, stream).await?;
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                Line::over(stream, "https", &names.server_name, http2).await
            }
        }
    }
}

/// An open connection to an instance. What drives it ends when this is dropped and the last answer's body is over.
pub(super) struct Line {
    sender: Sender,
    scheme: &'static str,
    host: String,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Most of an answer's body that is read to use its connection again.
const MOST_DRAINED: usize = 4_096;

impl Line {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        scheme: &'static str,
        host: &str,
        http2: bool,
    ) -> Option<Self> {
        let sender = if http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Some(Self { sender, scheme, host: host.to_owned() })
    }

    /// Whether another question may be asked.
    pub(super) fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    /// `GET path`; the answer's body is still to come.
    pub(super) async fn ask(&mut self, path: &str) -> Option<Response<Incoming>> {
        let slash = if path.starts_with('/') { "" } else { "/" };
        let target = format!("{}://{}{slash}{path}", self.scheme, self.host);
        let request = Request::get(target).header(http::header::USER_AGENT, "foretide-check");
        match &mut self.sender {
            Sender::Http2(sender) => {
                let request = request.version(Version::HTTP_2).body(Empty::new()).ok()?;
                sender.send_request(request).await.ok()
            }
            Sender::Http1(sender) => {
                let host = self.host.as_str();
                let mut request = request.header(http::header::HOST, host).body(Empty::new()).ok()?;
                // HTTP/1 names the host in its header, and only the path in its first line.
                *request.uri_mut() = request.uri().path_and_query()?.as_str().parse().ok()?;
                sender.ready().await.ok()?;
                sender.send_request(request).await.ok()
            }
        }
    }

    /// Reads an answer to its end; false: it is too long or broken, and the connection of no more use.
    pub(super) async fn drain(&mut self, answer: Response<Incoming>) -> bool {
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MOST_DRAINED {
                return false;
            }
        }
        self.is_open()
    }
}
