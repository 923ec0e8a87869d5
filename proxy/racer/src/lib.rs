//! One request to one HTTP/1 instance with Pingora's own client, beside its own forwarding: so that two can race.
//!
//! Pingora drives one upstream per request. What is forwarded here instead must need nothing of what it does besides: a
//! request without a body, without `Upgrade`, `Expect`, `TE` or a `Connection` that names further headers, and with a plain
//! target and host. [`plain`] says so, and makes of it what an HTTP/1 instance gets; [`Runner::ask`] sends it and waits for
//! the head of the answer; [`Rest::next`] reads on. Dropping any of these closes the connection: HTTP/1 knows no other
//! way to call a request off. Only [`Racers::release`] keeps it.
//!
//! Known weaknesses: connections are kept apart from those of the usual way, per process; informational answers (103) are
//! dropped.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use foretide_predictor::time::Timestamp;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{Method, StatusCode, Version};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::v1::Connector;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, timeout_at};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Requests with one of these go the usual way.
const NOT_PLAIN: [HeaderName; 9] = [
    CONTENT_LENGTH,
    EXPECT,
    HTTP2_SETTINGS,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Kept connections; nothing is made before the first request comes.
pub struct Racers {
    connector: OnceLock<Connector>,
    kept: usize,
}

/// One try at one instance.
pub struct Runner {
    /// Where, with its limits.
    pub peer: Box<HttpPeer>,
    /// From the request sent to the head of the answer.
    pub patience: Duration,
    /// Of the whole request.
    pub deadline: Option<Instant>,
    /// When the instance got it; empty while there is no connection.
    pub sent: OnceLock<Timestamp>,
}

/// The head of an answer, and where the rest comes from.
pub struct Answer {
    /// Final, and never 101.
    pub head: Box<ResponseHeader>,
    /// Nothing follows it.
    pub ended: bool,
    /// The body.
    pub rest: Rest,
}

/// What of an answer is still to come.
pub struct Rest(HttpSession);

/// A try that came to nothing.
pub struct Failure {
    /// By the instance.
    pub error: Box<Error>,
    /// Whether on a kept connection; `None`: there was none.
    pub reused: Option<bool>,
}

impl Racers {
    /// Keeps so many idle connections a thread.
    pub fn new(kept: usize) -> Self {
        Self { connector: OnceLock::new(), kept }
    }

    fn connector(&self) -> &Connector {
        self.connector.get_or_init(|| Connector::new(Some(ConnectorOptions::new(self.kept))))
    }

    /// Keeps the connection of an answer that was read to its end.
    pub async fn release(&self, rest: Rest, peer: &HttpPeer) {
        self.connector().release_http_session(rest.0, peer, peer.idle_timeout()).await;
    }
}

impl Rest {
    /// The next piece of the body; whether it is the last.
    ///
    /// # Errors
    /// The instance broke off, or was silent for longer than its peer allows.
    pub async fn next(&mut self) -> Result<(Option<Bytes>, bool)> {
        match self.0.read_response_task().await.map_err(Error::into_up)? {
            HttpTask::Body(body, end) => Ok((body, end)),
            HttpTask::Done => Ok((None, true)),
            _ => Error::e_explain(ErrorType::InvalidHTTPHeader, "not a body").map_err(Error::into_up),
        }
    }
}

impl Runner {
    /// Sends the request and waits for the head of the answer. `now` is read when there is a connection.
    ///
    /// # Errors
    /// No connection, no answer in time, or none that is one.
    pub async fn ask(
        &self,
        racers: &Racers,
        request: Box<RequestHeader>,
        now: impl Fn() -> Timestamp,
    ) -> Result<Answer, Failure> {
        let connected = racers.connector().get_http_session(&*self.peer).await;
        let failed = |error: Box<Error>, reused| Failure { error: error.into_up(), reused };
        let (mut upstream, reused) = connected.map_err(|error| failed(error, None))?;
        let _first_time = self.sent.set(now());
        upstream.read_timeout = self.peer.options.read_timeout;
        upstream.write_timeout = self.peer.options.write_timeout;
        let due = Instant::now() + self.patience;
        let due = self.deadline.map_or(due, |deadline| deadline.min(due));
        let head = timeout_at(due, head_of(&mut upstream, request)).await;
        let head = head.unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, "no answer in time"));
        let (head, ended) = head.map_err(|error| failed(error, Some(reused)))?;
        Ok(Answer { head, ended, rest: Rest(upstream) })
    }
}

/// The final head; whether there is nothing behind it.
async fn head_of(
    upstream: &mut HttpSession,
    request: Box<RequestHeader>,
) -> Result<(Box<ResponseHeader>, bool)> {
    upstream.write_request_header(request).await?;
    loop {
        match upstream.read_response_task().await? {
            HttpTask::Header(head, _) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                return Error::e_explain(ErrorType::InvalidHTTPHeader, "switches protocols unasked");
            }
            HttpTask::Header(head, _) if head.status.is_informational() => {}
            HttpTask::Header(head, ended) => return Ok((head, ended)),
            _ => return Error::e_explain(ErrorType::InvalidHTTPHeader, "no head of an answer"),
        }
    }
}

/// What an HTTP/1 instance gets of a request without a body; `None`: it must go the usual way.
///
/// # Errors
/// A header that cannot be written.
pub fn plain(head: &RequestHeader) -> Result<Option<Box<RequestHeader>>> {
    let closes = |value: &HeaderValue| {
        value.as_bytes().eq_ignore_ascii_case(b"close")
            || value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
    };
    let plain = head.raw_path().starts_with(b"/")
        && head.headers.get_all(CONNECTION).iter().all(closes)
        && !NOT_PLAIN.iter().any(|name| head.headers.contains_key(name));
    let Some(host) = host(head).filter(|_| plain) else { return Ok(None) };
    let mut request = Box::new(head.clone());
    request.set_version(Version::HTTP_11);
    for name in [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION] {
        request.remove_header(name);
    }
    if request.headers.get(HOST) != Some(&host) {
        request.insert_header(HOST, host)?;
    }
    Ok(Some(request))
}

/// What the instance is told as `Host`; `None`: nothing that everybody understands alike.
fn host(head: &RequestHeader) -> Option<HeaderValue> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (named, further) = (hosts.next(), hosts.next());
    let authority = head.uri.authority().map(Authority::as_str);
    let text = match (authority, named) {
        (Some(authority), Some(named)) if named.as_bytes() != authority.as_bytes() => return None,
        (Some(authority), _) => authority,
        (None, named) => named?.to_str().ok()?,
    };
    let fine = further.is_none() && !text.contains('@') && text.parse::<Authority>().is_ok();
    fine.then(|| HeaderValue::from_str(text).ok()).flatten()
}

/// Makes an answer to this method one that an HTTP/1.1 client can tell the end of, whatever its instance's version was.
///
/// # Errors
/// None in practice: the header that it adds can be written.
pub fn frame(method: &Method, head: &mut ResponseHeader, ended: bool) -> Result<()> {
    let bodiless = method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
    head.set_version(Version::HTTP_11);
    let framed = head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRANSFER_ENCODING);
    if bodiless || ended || framed {
        return Ok(());
    }
    head.insert_header(TRANSFER_ENCODING, "chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/a?b=%20", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn a_plain_request_loses_what_is_of_its_connection() {
        let sent =
            request(&[("host", "h:1"), ("connection", "Keep-Alive"), ("keep-alive", "x"), ("accept", "*/*")]);
        let forwarded = plain(&sent).unwrap().expect("plain");
        let mut names: Vec<&str> = forwarded.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!((names, forwarded.version), (vec!["accept", "host"], Version::HTTP_11));
    }

    #[test]
    fn whatever_needs_more_goes_the_usual_way() {
        let host = ("host", "h");
        for more in [
            ("upgrade", "websocket"),
            ("connection", "x-secret"),
            ("connection", "close, x-secret"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
            ("host", "other"),
        ] {
            assert!(plain(&request(&[host, more])).unwrap().is_none(), "{more:?}");
        }
        for host in ["user@h", "h/path", ""] {
            assert!(plain(&request(&[("host", host)])).unwrap().is_none(), "{host:?}");
        }
        assert!(plain(&request(&[])).unwrap().is_none(), "no host");
        let absolute = RequestHeader::build("GET", b"http://h/", None).unwrap();
        assert!(plain(&absolute).unwrap().is_none());
    }

    #[test]
    fn http2_names_its_host_in_the_target() {
        let mut sent = request(&[]);
        sent.set_version(Version::HTTP_2);
        sent.set_uri("http://h:1/a?b".parse().unwrap());
        let forwarded = plain(&sent).unwrap().expect("plain");
        assert_eq!((forwarded.headers["host"].as_bytes(), forwarded.raw_path()), (&b"h:1"[..], &b"/a?b"[..]));
        sent.insert_header("host", "other").unwrap();
        assert!(plain(&sent).unwrap().is_none(), "two names");
    }

    #[test]
    fn answers_without_a_length_are_chunked() {
        let head = |status| ResponseHeader::build(status, None).unwrap();
        let framed = |method: Method, status: u16, ended| {
            let mut head = head(status);
            frame(&method, &mut head, ended).unwrap();
            head.headers.contains_key(TRANSFER_ENCODING)
        };
        assert!(framed(Method::GET, 200, false));
        assert!(
            !framed(Method::HEAD, 200, false)
                && !framed(Method::GET, 304, false)
                && !framed(Method::GET, 200, true)
        );
    }
}
