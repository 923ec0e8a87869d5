//! Which instance a client was on before: names of instances that say nothing of them.
//!
//! A client keeps a token, a keyed hash of its instance's address, and gives it back with every request. The request goes
//! there while that instance may be used, and else wherever the policy says, with a new token. Tokens are the same in all
//! proxies with the same secret and after a restart. Without a secret the pool's name stands in: then who knows the pool's
//! name and guesses an address can tell that he was right, which is all he learns.
//!
//! Known weakness: whoever sends a token chooses an instance, and could send all his requests to one. The circuit limits of
//! instances bound that.

use crate::settings::PoolSettings;
use crate::settings::choice::AffinitySettings;
use crate::table::InstanceEntry;
use foretide_predictor::hash;

/// Instances by token.
#[derive(Debug)]
pub(crate) struct Tokens(Vec<(u64, u32)>);

impl Tokens {
    /// Of a pool whose clients stay; `None`: they do not.
    pub(crate) fn new(settings: &PoolSettings, instances: &[InstanceEntry]) -> Option<Self> {
        let affinity = settings.choice.affinity.as_ref()?;
        let of = |entry: &InstanceEntry| token(affinity, &settings.name, &entry.address);
        let mut tokens: Vec<(u64, u32)> = instances.iter().map(of).zip(0..).collect();
        tokens.sort_unstable();
        Some(Self(tokens))
    }

    /// The instance of this token, if it is still there.
    pub(crate) fn place(&self, token: u64) -> Option<usize> {
        let found = self.0.binary_search_by_key(&token, |&(known, _)| known).ok()?;
        Some(self.0[found].1 as usize)
    }
}

/// What a client of this pool is told of the instance at this address.
pub fn token(affinity: &AffinitySettings, pool: &str, address: &str) -> u64 {
    let key = hash::pair(
        hash::bytes(pool.as_bytes()),
        affinity.secret.as_ref().map_or(0, |secret| hash::bytes(secret.as_bytes())),
    );
    hash::pair(key, hash::bytes(address.as_bytes()))
}
