//! A request head made of owned strings, for the simulator, replay and tests.

use crate::extract::RequestHead;
use core::net::IpAddr;

/// A head without a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlainHead {
    /// Method, upper case.
    pub method: String,
    /// Host without port.
    pub host: Option<String>,
    /// Path without query.
    pub path: String,
    /// Query without `?`.
    pub query: Option<String>,
    /// Lower-case names with values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Subject of the client's certificate.
    pub mtls_subject: Option<String>,
}

impl PlainHead {
    /// A head with this method and target (path, or path and query).
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self { method: method.to_owned(), path: path.to_owned(), query, ..Self::default() }
    }

    /// The same with a host.
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The same with one more header (lower-case name).
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same from this address.
    #[must_use]
    pub fn with_client(mut self, client: IpAddr) -> Self {
        self.client = Some(client);
        self
    }
}

impl RequestHead for PlainHead {
    fn method(&self) -> &str {
        &self.method
    }

    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_slice())
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn mtls_subject(&self) -> Option<&str> {
        self.mtls_subject.as_deref()
    }
}
