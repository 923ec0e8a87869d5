//! Headers that say where a request came from, and which request it is.
//!
//! `X-Forwarded-For` gets the client's address appended; `-Proto` and `-Host` are set only where missing, because a
//! balancer before us saw the client's own connection and we did not. Pingora strips hop-by-hop headers, also those
//! that `Connection` names, except for WebSocket upgrades.

use std::fmt::Write as _;
use std::net::IpAddr;

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
    if let Some(client) = session.client_addr().and_then(|address| Some(address.as_inet()?.ip())) {
        let chain = forwarded_for(request, client);
        request.insert_header(FORWARDED_FOR, chain)?;
    }
    if !request.headers.contains_key(&FORWARDED_PROTO) {
        let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        request
            .insert_header(FORWARDED_PROTO, HeaderValue::from_static(if tls { "https" } else { "http" }))?;
    }
    if !request.headers.contains_key(&FORWARDED_HOST)
        && let Some(host) = authority(session).and_then(|host| HeaderValue::from_str(host).ok())
    {
        request.insert_header(FORWARDED_HOST, host)?;
    }
    request.insert_header(REQUEST_ID, id.clone())?;
    Ok(())
}

/// All that was sent in any number of header lines, then the client.
fn forwarded_for(request: &RequestHeader, client: IpAddr) -> String {
    let mut chain = String::with_capacity(64);
    for sent in request.headers.get_all(&FORWARDED_FOR) {
        if let Ok(sent) = sent.to_str() {
            chain.push_str(sent);
            chain.push_str(", ");
        }
    }
    // Writing to a String cannot fail. An IPv4 client on a dual-stack socket is shown as IPv4.
    let _ = write!(chain, "{}", client.to_canonical());
    chain
}

/// Completes what goes to the client.
pub(super) fn answer(response: &mut ResponseHeader, id: &HeaderValue) -> Result<()> {
    response.remove_header(&KEEP_ALIVE);
    response.remove_header(&PROXY_CONNECTION);
    response.insert_header(REQUEST_ID, id.clone())
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
    fn the_client_is_appended_to_every_line_of_the_chain() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let client: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(forwarded_for(&request, client), "192.0.2.7");
        request.append_header(FORWARDED_FOR, "198.51.100.1, 10.0.0.1").unwrap();
        request.append_header(FORWARDED_FOR, "10.0.0.2").unwrap();
        assert_eq!(forwarded_for(&request, client), "198.51.100.1, 10.0.0.1, 10.0.0.2, 192.0.2.7");
    }
}
