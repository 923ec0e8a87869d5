//! What operators say about the choice among a pool's instances, beyond the policy's name.

use std::collections::BTreeMap;
use std::sync::Arc;

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
}
