//! Headers that say where a request came from, and which request it is.
//!
//! `X-Forwarded-For` gets the client's address appended; `-Proto` and `-Host` are set only where missing, because a
//! balancer before us saw the client's own connection and we did not. Pingora strips hop-by-hop headers, also those
//! that `Connection` names, except for WebSocket upgrades.
//!
//! Pingora keeps how each header's name was written in a second map beside the values. Every header we add goes into
//! both, and growing them cost more than deciding where the request goes. So an HTTP/1 instance gets names as HTTP/2
//! writes them (standard ones capitalised as usual, others in lower case), and the second map is dropped. Answers keep
//! the instance's spelling: clients are not ours to surprise.

use std::fmt::Write as _;
use std::mem;
use std::net::IpAddr;

use http::Version;
use http::header::{HeaderName, HeaderValue};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use crate::engine::chance::Chance;
use crate::engine::head::authority;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Longest request id we pass on; a UUID has 36.
const LONGEST_ID: usize = 128;

/// The client's request id if it is one, else a new one.
pub(super) fn request_id(session: &Session, chance: &Chance) -> HeaderValue {
    match session.req_header().headers.get(&REQUEST_ID) {
        Some(sent) if is_request_id(sent.as_bytes()) => sent.clone(),
        // Hexadecimal digits are valid in a header, so the fallback is never taken.
        _ => HeaderValue::from_bytes(&chance.hex()).unwrap_or(HeaderValue::from_static("-")),
    }
}

fn is_request_id(value: &[u8]) -> bool {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=LONGEST_ID).contains(&value.len()) && value.iter().all(fine)
}

/// Completes what goes to the instance.
pub(super) fn forward(session: &Session, request: &mut RequestHeader, id: &HeaderValue) -> Result<()> {
    let added = [
        client(session).and_then(|client| Some((FORWARDED_FOR, forwarded_for(request, client)?))),
        unless_sent(request, FORWARDED_PROTO, || Some(HeaderValue::from_static(scheme(session)))),
        unless_sent(request, FORWARDED_HOST, || HeaderValue::from_str(authority(session)?).ok()),
        Some((REQUEST_ID, id.clone())),
    ];
    if is_plain(request) {
        let empty = RequestHeader::from(http::Request::new(()).into_parts().0);
        let mut parts = http::request::Parts::from(mem::replace(request, empty));
        parts.headers.reserve(added.len());
        for (name, value) in added.into_iter().flatten() {
            parts.headers.insert(name, value);
        }
        *request = RequestHeader::from(parts);
        return Ok(());
    }
    added.into_iter().flatten().try_for_each(|(name, value)| request.insert_header(name, value))
}

/// Whether the parts of a request say all that will be sent of it: HTTP/1, and a target that is just path and query.
fn is_plain(request: &RequestHeader) -> bool {
    let target = request.uri.path_and_query().map(|target| target.as_str().as_bytes());
    request.version <= Version::HTTP_11 && target == Some(request.raw_path())
}

fn client(session: &Session) -> Option<IpAddr> {
    Some(session.client_addr()?.as_inet()?.ip())
}

fn scheme(session: &Session) -> &'static str {
    if is_secure(session) { "https" } else { "http" }
}

/// Whether the client came over TLS.
pub(super) fn is_secure(session: &Session) -> bool {
    session.digest().is_some_and(|digest| digest.ssl_digest.is_some())
}

fn unless_sent(
    request: &RequestHeader,
    name: HeaderName,
    value: impl FnOnce() -> Option<HeaderValue>,
) -> Option<(HeaderName, HeaderValue)> {
    if request.headers.contains_key(&name) { None } else { Some((name, value()?)) }
}

/// All that was sent in any number of header lines, then the client.
fn forwarded_for(request: &RequestHeader, client: IpAddr) -> Option<HeaderValue> {
    let mut chain = String::with_capacity(64);
    for sent in request.headers.get_all(&FORWARDED_FOR) {
        if let Ok(sent) = sent.to_str() {
            chain.push_str(sent);
            chain.push_str(", ");
        }
    }
    // Writing to a String cannot fail. An IPv4 client on a dual-stack socket is shown as IPv4.
    let _ = write!(chain, "{}", client.to_canonical());
    // Addresses and what was a header value before make a header value.
    HeaderValue::try_from(chain).ok()
}

/// Completes what goes to the client.
pub(super) fn answer(response: &mut ResponseHeader, id: &HeaderValue) -> Result<()> {
    response.remove_header(&KEEP_ALIVE);
    response.remove_header(&PROXY_CONNECTION);
    // A static str costs one allocation less than a header name.
    response.insert_header("X-Request-Id", id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_short_ids_are_kept() {
        assert!(is_request_id(b"7f3c-aa.b_c:1"));
        assert!(!is_request_id(b""));
        assert!(!is_request_id(b"two words"));
        assert!(!is_request_id(b"quote\"d"));
        assert!(!is_request_id(&[b'a'; LONGEST_ID + 1]));
    }

    #[test]
    fn targets_that_the_parts_cannot_say_are_left_alone() {
        let plain = |target: &[u8]| is_plain(&RequestHeader::build("GET", target, None).unwrap());
        assert!(plain(b"/search?rows=5&q=w"));
        assert!(!plain(b"/caf\xe9"), "not UTF-8");
    }

    #[test]
    fn the_client_is_appended_to_every_line_of_the_chain() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let client: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(forwarded_for(&request, client).unwrap(), "192.0.2.7");
        request.append_header(FORWARDED_FOR, "198.51.100.1, 10.0.0.1").unwrap();
        request.append_header(FORWARDED_FOR, "10.0.0.2").unwrap();
        assert_eq!(forwarded_for(&request, client).unwrap(), "198.51.100.1, 10.0.0.1, 10.0.0.2, 192.0.2.7");
    }
}
