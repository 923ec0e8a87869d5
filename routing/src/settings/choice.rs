//! What operators say about the choice among a pool's instances, beyond the policy's name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An instance that is simply there.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// Its share of requests, relative to the others of the pool; at least 1.
    pub weight: u32,
    /// Where and what it is.
    pub traits: Arc<Traits>,
}

/// Where and what an instance is. Those of a manager say nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its zone.
    pub zone: Option<String>,
    /// Further words, by name.
    pub labels: BTreeMap<String, String>,
}

impl From<&str> for Endpoint {
    /// Of weight 1, without traits.
    fn from(address: &str) -> Self {
        Self { address: address.to_owned(), weight: 1, traits: Arc::default() }
    }
}

/// What narrows the choice or bends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChoiceSettings {
    /// Consistent hashing passes by an instance with more than this multiple of its fair share in flight; at least 1.
    /// `None`: never.
    pub hash_balance_factor: Option<f64>,
    /// Requests that one instance may have in flight from this proxy; who finds all instances full is refused.
    pub max_requests: Option<u32>,
    /// Clients stay with their instance.
    pub affinity: Option<AffinitySettings>,
    /// Requests choose among the instances that carry a label.
    pub subset: Option<SubsetSettings>,
    /// Requests stay in the own zone.
    pub locality: Option<LocalitySettings>,
}

/// A client stays with its instance by a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinitySettings {
    /// Its name.
    pub cookie: String,
    /// How long a browser keeps it; `None`: until it is closed.
    pub ttl: Option<Duration>,
    /// Below which path it is sent back.
    pub path: String,
    /// Whether it is sent back to requests from other sites.
    pub same_site: SameSite,
    /// Only sent back over TLS; `None`: if it was set over TLS.
    pub secure: Option<bool>,
    /// Mixed into the instances' names; the same in all proxies in front of a pool.
    pub secret: Option<String>,
}

/// A cookie's `SameSite`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// Also when a link leads here; browsers' default.
    #[default]
    Lax,
    /// Never.
    Strict,
    /// Always; browsers want `Secure` with it.
    None,
}

/// Which endpoints a request may use, by one of their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsetSettings {
    /// Header that says which (lower-case name).
    pub header: String,
    /// Label that must be equal.
    pub label: String,
    /// Value of a request without the header; `None`: it may use all.
    pub default: Option<String>,
    /// Whether a request may use all instances while none of its subset is there; else it is refused.
    pub fallback: bool,
}

/// Requests stay in the proxy's own zone while that can take them.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalitySettings {
    /// The proxy's own.
    pub zone: String,
    /// The own zone gets everything while its usable share times this is one or more.
    pub overprovision_factor: f64,
}
