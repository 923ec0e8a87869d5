//! What share of a pool's requests each instance should get, for balancers that choose by weights.

use std::time::Duration;

use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::table::PoolTable;
use foretide_routing::weights::{percent, shares};
use serde::Serialize;

use super::Advice;

/// Weights hold for so long: two generations of the table.
const TTL: Duration = Duration::from_secs(1);

/// Weights of some pools.
#[derive(Clone, Debug, Serialize)]
pub struct Weights {
    /// As of.
    pub at: Timestamp,
    /// They hold for so long, milliseconds; ask again before it is over.
    pub ttl_ms: u64,
    /// The controller hangs: weights are as they were when it was last heard of.
    pub stale: bool,
    /// Pools in the order of the configuration.
    pub pools: Vec<PoolWeights>,
}

/// Weights of a pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolWeights {
    /// Its name.
    pub pool: String,
    /// Whether too few instances are healthy and all are used.
    pub panic: bool,
    /// Instances that take requests; who is not here gets none.
    pub instances: Vec<InstanceWeight>,
}

/// Weight of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceWeight {
    /// Who.
    pub instance: InstanceId,
    /// Where.
    pub address: String,
    /// Share of the pool's requests; all of them sum to 1.
    pub weight: f64,
    /// The same as whole percent of the largest, 1 to 100.
    pub percent: u8,
    /// Its load score, share of its capacity; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f32>,
    /// Requests in flight, leases among them.
    pub in_flight: u32,
}

impl Advice {
    /// Weights of all pools, or of the one of this name; `None`: there is none.
    pub fn weights(&self, pool: Option<&str>) -> Option<Weights> {
        let (table, now) = (self.parts.table.load(), self.now());
        let wanted = table.pools.iter().filter(|known| pool.is_none_or(|name| name == &*known.name));
        let pools: Vec<PoolWeights> = wanted.map(|pool| of_pool(pool, now)).collect();
        let stale = now.since(table.built_at) > table.stale_after;
        let known = pool.is_none() || !pools.is_empty();
        known.then_some(Weights { at: now, ttl_ms: TTL.as_millis() as u64, stale, pools })
    }
}

fn of_pool(pool: &PoolTable, now: Timestamp) -> PoolWeights {
    let shares = shares(pool, now);
    let largest = shares.iter().copied().fold(0.0, f64::max);
    let instances = pool.instances.iter().zip(&shares).map(|(entry, &weight)| InstanceWeight {
        instance: entry.id,
        address: entry.address.to_string(),
        weight,
        percent: percent(weight, largest),
        load: entry.load_score,
        in_flight: entry.live.in_flight().requests,
    });
    PoolWeights { pool: pool.name.to_string(), panic: pool.panic, instances: instances.collect() }
}
