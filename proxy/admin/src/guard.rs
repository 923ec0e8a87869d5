//! What a browser on the operator's machine could be tricked into, refused.
//!
//! * **DNS rebinding**: a hostile page gets its own name to resolve to this listener and then reads it as its own
//!   origin. Such requests carry that name in `Host`; so only addresses and `localhost` are served, and on a loopback
//!   listener only loopback addresses.
//! * **Cross-origin POST**: a page may post anywhere without reading the answer. Browsers say where from in `Origin`;
//!   it must be ours.
//!
//! Programs that send neither header are not browsers and are let through: there is no secret they could be misled by.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::answer::Refusal;

/// Lets a request through or refuses it with 403.
pub(super) async fn check(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match judge(request.method(), request.headers(), admin.loopback) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn judge(method: &Method, headers: &HeaderMap, loopback: bool) -> Result<(), Refusal> {
    let host = headers.get(HOST).map(|value| value.to_str().unwrap_or("?"));
    if let Some(host) = host
        && !is_ours(host, loopback)
    {
        let error = format!("this listener is not `{host}`");
        return Err(Refusal::forbidden(error).helped("use its address, e.g. http://127.0.0.1:PORT"));
    }
    if method.is_safe() {
        return Ok(());
    }
    match headers.get(ORIGIN).map(|value| value.to_str().unwrap_or("?")) {
        Some(origin) if origin.strip_prefix("http://") != host => {
            let error = format!("a page of `{origin}` may not do this");
            Err(Refusal::forbidden(error).helped("use the dashboard of this listener, or curl"))
        }
        _ => Ok(()),
    }
}

fn is_ours(host: &str, loopback: bool) -> bool {
    let Ok(authority) = host.parse::<Uri>() else { return false };
    let Some(name) = authority.host() else { return false };
    match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => !loopback || address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        for host in ["127.0.0.1:9901", "localhost:9901", "LOCALHOST", "[::1]:9901", "127.0.0.2"] {
            assert!(is_ours(host, true), "{host}");
        }
        for host in
            ["evil.example:9901", "127.0.0.1.evil.example", "", "localhost.evil.example", "a b", "10.0.0.1"]
        {
            assert!(!is_ours(host, true), "{host}");
        }
        assert!(is_ours("10.0.0.1:9901", false), "a listener that is open to others has other addresses");
        assert!(!is_ours("evil.example", false));
    }

    #[test]
    fn a_foreign_page_may_not_post() {
        let with = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "127.0.0.1:9901".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            headers
        };
        assert!(judge(&Method::POST, &with(None), true).is_ok());
        assert!(judge(&Method::POST, &with(Some("http://127.0.0.1:9901")), true).is_ok());
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8080", "https://127.0.0.1:9901"] {
            assert!(judge(&Method::POST, &with(Some(origin)), true).is_err(), "{origin}");
            assert!(judge(&Method::GET, &with(Some(origin)), true).is_ok(), "{origin}");
        }
    }
}
