//! The routing table: immutable, one per generation (contract; body to come, the types stand).
use crate::extract::CompiledRoutes;
use crate::gates::Gates;
use crate::hedge::Hedging;
use crate::live::LiveLoad;
use crate::live::others::PoolSight;
use crate::retry::RetryBudget;
use crate::select::Selector;
use crate::select::narrow::Narrowing;
use crate::settings::PoolSettings;
use crate::settings::choice::Traits;
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::cost::table::KeyTable;
use foretide_predictor::id::{InstanceId, PoolId};
use foretide_predictor::peers::PeerTable;
use foretide_predictor::time::Timestamp;
use foretide_steering::score::Form;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everything the hot path reads.
#[derive(Debug)]
pub struct RoutingTable {
    /// Only grows.
    pub generation: u64,
    /// When it was made.
    pub built_at: Timestamp,
    /// Compiled rules.
    pub routes: Arc<CompiledRoutes>,
    /// By [`PoolId`].
    pub pools: Vec<PoolTable>,
    /// The serving cost model.
    pub model: Option<Arc<CostModel>>,
    /// Running statistics.
    pub costs: Arc<KeyTable>,
    /// Residuals per consumer and instance.
    pub peers: Arc<PeerTable>,
    /// What predictions are worth, by route.
    pub gates: Gates,
    /// Older than this and the tables' predictions are stale: fall back to P2C on load in flight.
    pub stale_after: std::time::Duration,
}

/// One pool in one generation.
#[derive(Debug)]
pub struct PoolTable {
    /// Index.
    pub id: PoolId,
    /// Name, for metrics.
    pub name: Arc<str>,
    /// Settings of this generation.
    pub settings: Arc<PoolSettings>,
    /// How its instances serve: as configured, or as found out.
    pub form: Form,
    /// Instances that may get requests, in order of id; empty: 503. Unhealthy and ejected ones are left out, unless
    /// the pool panics.
    pub instances: Vec<InstanceEntry>,
    /// Policy with what it prepared from `instances` (rows of the scan, ring, counter).
    pub selector: Selector,
    /// What comes before the policy.
    pub narrowing: Narrowing,
    /// Shared by all generations.
    pub retry_budget: Arc<RetryBudget>,
    /// What light requests are hedged by, shared by all generations; `None`: they are not.
    pub hedging: Option<Arc<Hedging>>,
    /// What is known of others' requests, shared by all generations; `None`: not asked for.
    pub sight: Option<Arc<PoolSight>>,
    /// True when too few are healthy and all are used.
    pub panic: bool,
}

/// One instance in one generation.
#[derive(Clone, Debug)]
pub struct InstanceEntry {
    /// Who.
    pub id: InstanceId,
    /// `host:port` to connect to.
    pub address: Arc<str>,
    /// Shared by all generations.
    pub live: Arc<LiveLoad>,
    /// Requests it serves at full speed at once.
    pub concurrency: u32,
    /// Its share of requests relative to the others, at least 1.
    pub weight: u32,
    /// Where and what it is.
    pub traits: Arc<Traits>,
    /// Warm-up factor as of `warm_since`, see [`crate::settings::PoolSettings::slow_start`].
    pub warm_since: Timestamp,
    /// Blended load score (share of capacity), `None` when all tiers are missing.
    pub load_score: Option<f32>,
    /// Tier 1's background load expected while a request runs, share of capacity.
    pub background: f32,
    /// Tier 3's anomaly excess, share of capacity.
    pub excess: f32,
    /// Added to its score after errors, microseconds.
    pub penalty_us: f32,
}

/// Life of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Asked for, nothing runs yet.
    Cold,
    /// Runs, not ready.
    Warming,
    /// Takes requests.
    Warm,
    /// Takes no new ones.
    Draining,
    /// Failed its checks.
    Unhealthy,
    /// Put aside for a while for failing requests.
    Ejected,
    /// Gone.
    Gone,
}
