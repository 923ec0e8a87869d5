//! A request's head as Pingora holds it, for extraction. Borrows everything, allocates nothing.

use std::net::IpAddr;

use foretide_routing::extract::RequestHead;
use http::header::HOST;
use pingora_proxy::Session;

use crate::engine::listen::ClientSubject;

/// A request's head.
pub(super) struct Head<'a>(pub(super) &'a Session);

impl RequestHead for Head<'_> {
    fn method(&self) -> &str {
        self.0.req_header().method.as_str()
    }

    fn host(&self) -> Option<&str> {
        authority(self.0).map(without_port)
    }

    fn path(&self) -> &str {
        self.0.req_header().uri.path()
    }

    fn query(&self) -> Option<&str> {
        self.0.req_header().uri.query()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.req_header().headers.get(name).map(http::HeaderValue::as_bytes)
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.0.client_addr()?.as_inet()?.ip())
    }

    fn mtls_subject(&self) -> Option<&str> {
        let subject = self.0.digest()?.ssl_digest.as_ref()?.extension.get::<ClientSubject>()?;
        Some(&subject.0)
    }
}

/// `Host`, or HTTP/2's `:authority`, with its port.
pub(super) fn authority(session: &Session) -> Option<&str> {
    let head = session.req_header();
    match head.headers.get(HOST) {
        Some(host) => host.to_str().ok(),
        None => head.uri.authority().map(http::uri::Authority::as_str),
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_and_ipv6_addresses_are_not() {
        assert_eq!(without_port("shop.example:8080"), "shop.example");
        assert_eq!(without_port("shop.example"), "shop.example");
        assert_eq!(without_port("[2001:db8::1]:443"), "[2001:db8::1]");
        assert_eq!(without_port("[2001:db8::1]"), "[2001:db8::1]");
    }
}
