//! The next generation of the routing table, made whole from the controller's state.
//!
//! A new generation is due when something changed (an instance came, went, or failed; settings; a model), and every
//! 500 ms for the scores and so that the table never goes stale under a living controller.
use crate::gates::RouteGates;
use crate::instance::Instance;
use crate::learning::Learning;
use crate::pool::Pool;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::CompiledRoutes;
use foretide_routing::select::Selector;
use foretide_routing::select::groups::Known;
use foretide_routing::select::narrow::Narrowing;
use foretide_routing::table::{InstanceEntry, PoolTable, RoutingTable};
use std::sync::Arc;
use std::time::Duration;

/// Time between publishes when nothing changed.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// A table this old means that the controller hangs: ten publishes have been missed.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// Shares of capacity above this are no measurements; without a cap an absurd forecast would be infinite as an `f32`.
const MOST_SHARE: f64 = 100.0;

/// What all pools of a generation share.
pub(crate) struct Shared<'a> {
    pub(crate) routes: &'a Arc<CompiledRoutes>,
    pub(crate) learning: &'a Learning,
    pub(crate) gates: &'a RouteGates,
    pub(crate) model: Option<&'a Arc<CostModel>>,
    pub(crate) weights: TierWeights,
    /// The last generation.
    pub(crate) previous: Option<&'a RoutingTable>,
}

/// The next generation. Pools in the order of their ids; retired ones are not part of it.
pub(crate) fn table(pools: &[Pool], shared: &Shared<'_>, now: Timestamp) -> RoutingTable {
    shared.learning.peers.refresh_notes();
    let pools = pools.iter().filter(|pool| !pool.retired);
    RoutingTable {
        generation: shared.previous.map_or(0, |table| table.generation) + 1,
        built_at: now,
        routes: Arc::clone(shared.routes),
        pools: pools.map(|pool| pool_table(pool, shared, now)).collect(),
        model: shared.model.cloned(),
        costs: Arc::clone(&shared.learning.costs),
        peers: Arc::clone(&shared.learning.peers),
        gates: shared.gates.calibrations(),
        stale_after: STALE_AFTER,
    }
}

fn pool_table(pool: &Pool, shared: &Shared<'_>, now: Timestamp) -> PoolTable {
    let same = |table: &PoolTable| table.id == pool.id;
    let previous = shared.previous.and_then(|table| table.pools.iter().find(|table| same(table)));
    let instances: Vec<InstanceEntry> =
        pool.in_service().filter_map(|instance| entry(pool, instance, now)).collect();
    let known: Vec<Known> = pool.warm().map(|one| (one.weight, Arc::clone(&one.traits))).collect();
    let before = previous.map(|table| &table.narrowing);
    PoolTable {
        narrowing: Narrowing::new(&pool.settings, pool.form(), &instances, &known, shared.weights, before),
        id: pool.id,
        name: Arc::clone(&pool.name),
        settings: Arc::clone(&pool.settings),
        form: pool.form(),
        selector: Selector::new(
            &pool.settings,
            pool.form(),
            &instances,
            shared.weights,
            previous.map(|table| &table.selector),
        ),
        instances,
        retry_budget: Arc::clone(&pool.retry_budget),
        hedging: pool.hedging.clone(),
        sight: pool.sight.clone(),
        panic: pool.panic,
    }
}

fn entry(pool: &Pool, instance: &Instance, now: Timestamp) -> Option<InstanceEntry> {
    Some(InstanceEntry {
        id: instance.id,
        address: Arc::clone(instance.address.as_ref()?),
        live: Arc::clone(&instance.live),
        concurrency: pool.settings.concurrency.max(1),
        weight: instance.weight.max(1),
        traits: Arc::clone(&instance.traits),
        warm_since: instance.warm_since,
        load_score: instance.load.total.map(share),
        background: instance.load.loads.baseline.map_or(0.0, share),
        excess: instance.anomaly.map_or(0.0, |anomaly| share(anomaly.excess)),
        penalty_us: instance.penalty_us(now),
    })
}

/// A share of capacity as the hot path reads it; NaN is 0.
fn share(value: f64) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, MOST_SHARE) as f32 }
}
