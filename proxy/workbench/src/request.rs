//! A request given in words, as the routes of a configuration would see it.

use std::net::IpAddr;

use foretide_routing::extract::head::PlainHead;

/// Reads `METHOD /path?query` (the method may be left out: GET) and `name: value` headers. The error is a reason to be
/// shown.
///
/// # Errors
/// There is no path, or a header has no colon.
pub fn parse(line: &str, headers: &[String], client: Option<IpAddr>) -> Result<PlainHead, String> {
    let (method, target) = line.trim().split_once(' ').unwrap_or(("GET", line.trim()));
    let target = target.split_whitespace().next().unwrap_or_default();
    if !target.starts_with('/') {
        return Err(format!("{line:?} has no path; write for example 'GET /search?rows=20'"));
    }
    let mut head = PlainHead { client, ..PlainHead::new(&method.to_ascii_uppercase(), target) };
    for text in headers {
        let (name, value) = text.split_once(':').unwrap_or_default();
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name.is_empty() {
            return Err(format!("header {text:?} is not written name: value"));
        }
        if name == "host" {
            let port = value.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
            head = head.with_host(port.map_or(value, |(host, _)| host));
        }
        head = head.with_header(&name, value.as_bytes());
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_routing::extract::RequestHead as _;

    #[test]
    fn a_line_becomes_a_request() {
        let headers = ["X-Tenant: acme".to_owned(), "Host: api.example:8080".to_owned()];
        let request = parse("post /a/b?x=1 HTTP/1.1", &headers, None).unwrap();
        assert_eq!((request.method(), request.path(), request.query()), ("POST", "/a/b", Some("x=1")));
        assert_eq!((request.header("x-tenant"), request.host()), (Some(&b"acme"[..]), Some("api.example")));
        assert_eq!(parse("/only", &[], None).unwrap().method(), "GET");
        assert!(parse("GET", &[], None).unwrap_err().contains("no path"));
        assert!(parse("/", &["oops".into()], None).unwrap_err().contains("oops"));
    }
}
