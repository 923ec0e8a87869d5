//! A request given in words, as the routes of a configuration would see it.

use std::net::IpAddr;

use foretide_routing::extract::RequestHead;

/// `GET /path?x=1` with headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    method: String,
    path: String,
    query: Option<String>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
}

impl Request {
    /// Reads `METHOD /path?query` (the method may be left out: GET) and `name: value` headers. The error is a reason to
    /// be shown.
    ///
    /// # Errors
    /// There is no path, or a header has no colon.
    pub fn parse(line: &str, headers: &[String], client: Option<IpAddr>) -> Result<Self, String> {
        let (method, target) = line.trim().split_once(' ').unwrap_or(("GET", line.trim()));
        let target = target.split_whitespace().next().unwrap_or_default();
        if !target.starts_with('/') {
            return Err(format!("{line:?} has no path; write for example 'GET /search?rows=20'"));
        }
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let header = |text: &String| match text.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            }
            _ => Err(format!("header {text:?} is not written name: value")),
        };
        Ok(Self {
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers: headers.iter().map(header).collect::<Result<_, _>>()?,
            client,
        })
    }
}

impl RequestHead for Request {
    fn method(&self) -> &str {
        &self.method
    }

    fn host(&self) -> Option<&str> {
        let host = self.headers.iter().find(|(name, _)| name == "host")?.1.as_str();
        Some(
            host.rsplit_once(':')
                .filter(|(_, port)| port.parse::<u16>().is_ok())
                .map_or(host, |(host, _)| host),
        )
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_bytes())
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn mtls_subject(&self) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_request() {
        let headers = ["X-Tenant: acme".to_owned(), "Host: api.example:8080".to_owned()];
        let request = Request::parse("post /a/b?x=1 HTTP/1.1", &headers, None).unwrap();
        assert_eq!((request.method(), request.path(), request.query()), ("POST", "/a/b", Some("x=1")));
        assert_eq!((request.header("x-tenant"), request.host()), (Some(&b"acme"[..]), Some("api.example")));
        assert_eq!(Request::parse("/only", &[], None).unwrap().method(), "GET");
        assert!(Request::parse("GET", &[], None).unwrap_err().contains("no path"));
        assert!(Request::parse("/", &["oops".into()], None).unwrap_err().contains("oops"));
    }
}
