//! One line of the access log: what is kept of a request, and the two shapes it can be written in.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use foretide_conf::settings::AccessLogFormat;
use foretide_predictor::cost::query::{CostBasis, CostClass};
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::Reason;
use foretide_routing::observe::Outcome;
use http::{HeaderValue, Method, Uri, Version};
use pingora_proxy::Session;
use serde::Serialize;

use crate::engine::head::Head;
use crate::engine::metrics::RouteMetrics;

/// What a line keeps of the request's head. Clones of Pingora's buffers: reference counts, no copies.
pub(super) struct LineHead {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    client: Option<IpAddr>,
}

impl LineHead {
    pub(super) fn of(session: &Session) -> Self {
        let head = session.req_header();
        let header = |name: http::HeaderName| head.headers.get(name).cloned();
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            host: header(http::header::HOST),
            user_agent: header(http::header::USER_AGENT),
            forwarded_for: header(http::HeaderName::from_static("x-forwarded-for")),
            client: foretide_routing::extract::RequestHead::client(&Head(session)),
        }
    }

    fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }

    fn host(&self) -> &str {
        match &self.host {
            Some(host) => text(host),
            None => self.uri.authority().map_or("-", http::uri::Authority::as_str),
        }
    }

    fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }
}

/// Why a request did not go well, in Envoy's letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flag {
    /// Nothing to say.
    #[default]
    None,
    /// No route.
    NoRoute,
    /// The pool has no instance.
    NoInstance,
    /// The pool's queue was full, or the wait in it too long, or all instances had as many requests as they may.
    Overflow,
    /// Refused by admission: it would have been late, or the pool is full.
    Refused,
    /// No connection to an instance.
    ConnectFailed,
    /// The instance broke the connection.
    InstanceBroke,
    /// The instance, or the whole request, took too long.
    Timeout,
    /// The client went away or was cut off.
    ClientGone,
    /// The request was not HTTP as it should be.
    BadRequest,
}

impl Flag {
    fn letters(self) -> &'static str {
        match self {
            Flag::None => "-",
            Flag::NoRoute => "NR",
            Flag::NoInstance => "UH",
            Flag::Overflow => "UO",
            Flag::Refused => "OM",
            Flag::ConnectFailed => "UF",
            Flag::InstanceBroke => "UC",
            Flag::Timeout => "UT",
            Flag::ClientGone => "DC",
            Flag::BadRequest => "DPE",
        }
    }
}

/// What the last try adds.
pub(super) struct LineTry {
    pub(super) decision: u64,
    pub(super) instance: u32,
    pub(super) address: Arc<str>,
    pub(super) reason: Reason,
    pub(super) outcome: Outcome,
    pub(super) upstream_us: u64,
    pub(super) attained_us: f64,
}

/// What a matched route adds.
pub(super) struct LineRoute {
    pub(super) metrics: Arc<RouteMetrics>,
    pub(super) consumer: u64,
    pub(super) predicted_us: f64,
    pub(super) class: CostClass,
    pub(super) basis: CostBasis,
    pub(super) last_try: Option<LineTry>,
}

/// One finished request.
pub(super) struct Line {
    pub(super) head: LineHead,
    pub(super) request_id: HeaderValue,
    pub(super) arrived_at: Timestamp,
    pub(super) duration_us: u64,
    pub(super) status: u16,
    pub(super) flag: Flag,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) tries: u32,
    pub(super) route: Option<LineRoute>,
}

/// The JSON object. Times in milliseconds, as people read logs; absent fields are left out.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    request_id: &'a str,
    method: &'a str,
    path: &'a str,
    protocol: &'a str,
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_for: Option<&'a str>,
    status: u16,
    flags: &'a str,
    bytes_received: u64,
    bytes_sent: u64,
    duration_ms: f64,
    tries: u32,
    #[serde(flatten)]
    route: Option<JsonRoute<'a>>,
}

#[derive(Serialize)]
struct JsonRoute<'a> {
    route: &'a str,
    pool: &'a str,
    /// 16 hexadecimal digits: a name that JSON's numbers would round.
    consumer: String,
    predicted_ms: f64,
    class: CostClass,
    basis: CostBasis,
    #[serde(flatten)]
    last_try: Option<JsonTry<'a>>,
}

#[derive(Serialize)]
struct JsonTry<'a> {
    decision: u64,
    instance: u32,
    upstream: &'a str,
    reason: Reason,
    outcome: Outcome,
    upstream_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_ms: Option<f64>,
}

impl Line {
    /// Appends the line with its line feed.
    pub(super) fn write(&self, format: AccessLogFormat, to: &mut Vec<u8>) {
        // Writing to a Vec cannot fail, and every field can be serialised.
        let _ = match format {
            AccessLogFormat::Json => {
                serde_json::to_writer(&mut *to, &self.json()).map_err(std::io::Error::from)
            }
            AccessLogFormat::Envoy => self.envoy(to),
        };
        to.push(b'\n');
    }

    fn json(&self) -> Json<'_> {
        Json {
            time: time(self.arrived_at),
            request_id: text(&self.request_id),
            method: self.head.method.as_str(),
            path: self.head.path(),
            protocol: self.head.protocol(),
            host: self.head.host(),
            client: self.head.client,
            user_agent: self.head.user_agent.as_ref().map(text),
            forwarded_for: self.head.forwarded_for.as_ref().map(text),
            status: self.status,
            flags: self.flag.letters(),
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            duration_ms: self.duration_us as f64 / 1e3,
            tries: self.tries,
            route: self.route.as_ref().map(LineRoute::json),
        }
    }

    fn envoy(&self, to: &mut Vec<u8>) -> std::io::Result<()> {
        let last_try = self.route.as_ref().and_then(|route| route.last_try.as_ref());
        let upstream_ms = last_try.map_or("-".to_owned(), |last| (last.upstream_us / 1000).to_string());
        write!(
            to,
            "[{}] \"{} {} {}\" {} {} {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\"",
            time(self.arrived_at),
            self.head.method,
            self.head.path(),
            self.head.protocol(),
            self.status,
            self.flag.letters(),
            self.bytes_received,
            self.bytes_sent,
            self.duration_us / 1000,
            upstream_ms,
            quoted(self.head.forwarded_for.as_ref()),
            quoted(self.head.user_agent.as_ref()),
            text(&self.request_id),
            self.head.host().replace('"', "%22"),
            last_try.map_or("-", |last| &last.address),
        )
    }
}

impl LineRoute {
    fn json(&self) -> JsonRoute<'_> {
        JsonRoute {
            route: &self.metrics.route,
            pool: &self.metrics.pool,
            consumer: format!("{:016x}", self.consumer),
            predicted_ms: self.predicted_us / 1e3,
            class: self.class,
            basis: self.basis,
            last_try: self.last_try.as_ref().map(|last| JsonTry {
                decision: last.decision,
                instance: last.instance,
                upstream: &last.address,
                reason: last.reason,
                outcome: last.outcome,
                upstream_ms: last.upstream_us as f64 / 1e3,
                measured_ms: (last.attained_us > 0.0).then_some(last.attained_us / 1e3),
            }),
        }
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

/// For Envoy's shape: a quote in a client's header must not end the field.
fn quoted(value: Option<&HeaderValue>) -> String {
    value.map_or("-".to_owned(), |value| text(value).replace('"', "%22"))
}

fn time(at: Timestamp) -> String {
    let at = i64::try_from(at.as_us()).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    at.map_or("-".to_owned(), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            head: LineHead {
                method: Method::GET,
                uri: Uri::from_static("/orders/7?full=1"),
                version: Version::HTTP_11,
                host: Some(HeaderValue::from_static("shop.example")),
                user_agent: Some(HeaderValue::from_static("curl/8 \"quoted\"")),
                forwarded_for: None,
                client: Some(IpAddr::from([192, 0, 2, 1])),
            },
            request_id: HeaderValue::from_static("abc"),
            arrived_at: Timestamp::from_us(1_700_000_000_123_456),
            duration_us: 12_345,
            status: 404,
            flag: Flag::NoRoute,
            bytes_received: 0,
            bytes_sent: 9,
            tries: 0,
            route: None,
        }
    }

    #[test]
    fn json_is_one_object_without_what_is_not_known() {
        let mut written = Vec::new();
        line().write(AccessLogFormat::Json, &mut written);
        let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(value["duration_ms"], 12.345);
        assert_eq!(value["flags"], "NR");
        assert!(value.get("route").is_none() && value.get("forwarded_for").is_none());
    }

    #[test]
    fn envoys_line_has_its_fields_and_no_stray_quote() {
        let mut written = Vec::new();
        line().write(AccessLogFormat::Envoy, &mut written);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "[2023-11-14T22:13:20.123Z] \"GET /orders/7?full=1 HTTP/1.1\" 404 NR 0 9 12 - \"-\" \
             \"curl/8 %22quoted%22\" \"abc\" \"shop.example\" \"-\"\n"
        );
    }
}
