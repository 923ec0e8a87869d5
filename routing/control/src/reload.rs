//! New settings on a living controller: pools are the same by name, endpoints by address; what stays keeps its state.
//!
//! Instances of removed pools, and of pools that lost their manager, drain and are stopped. What was learned stays: load
//! history is carried over into steps of another width, key statistics and the training sample into tables of another
//! size.
use crate::instance::Instance;
use crate::outbox::Outbox;
use crate::pool::Pool;
use foretide_predictor::id::PoolId;
use foretide_predictor::time::Timestamp;
use foretide_routing::hedge::Hedging;
use foretide_routing::live::others::PoolSight;
use foretide_routing::retry::RetryBudget;
use foretide_routing::settings::choice::Endpoint;
use foretide_routing::settings::{PoolSettings, RoutingSettings};
use std::sync::Arc;

/// The pools of the new settings, in their order, then the retired ones.
pub(crate) fn pools(
    mut before: Vec<Pool>,
    old: &RoutingSettings,
    new: &RoutingSettings,
    now: Timestamp,
    out: &mut Outbox,
) -> Vec<Pool> {
    let mut after = Vec::with_capacity(new.pools.len());
    let rescaled =
        old.learning.step != new.learning.step || old.learning.history_steps != new.learning.history_steps;
    for (settings, index) in new.pools.iter().zip(0..) {
        let id = PoolId(index);
        let same = before.iter().position(|pool| *pool.name == *settings.name && !pool.retired);
        let pool = match same {
            None => Pool::new(id, settings, &new.learning, now, out),
            Some(position) => {
                let mut pool = before.remove(position);
                if pool.id != id {
                    // Answers under way carry the number of another pool now.
                    let later = now.plus(new.learning.refit_every);
                    pool.track.refit_not_before(later);
                    pool.instances.values_mut().for_each(|one| one.track.refit_not_before(later));
                } else if old.events != new.events {
                    pool.track.refit(now);
                }
                pool.id = id;
                renew(&mut pool, settings, new, now, out);
                if rescaled {
                    pool.rescale_history(&new.learning, now);
                }
                pool
            }
        };
        after.push(pool);
    }
    for mut pool in before {
        pool.retire(now);
        if !pool.instances.is_empty() {
            after.push(pool);
        }
    }
    after
}

fn renew(pool: &mut Pool, settings: &PoolSettings, new: &RoutingSettings, now: Timestamp, out: &mut Outbox) {
    if pool.settings.retry != settings.retry {
        pool.retry_budget = Arc::new(RetryBudget::new(settings.retry));
    }
    if pool.settings.hedge != settings.hedge {
        pool.hedging = settings.hedge.map(Hedging::new).map(Arc::new);
    }
    let is = |instance: &Instance, endpoint: &Endpoint| {
        !instance.managed && instance.address.as_deref() == Some(&endpoint.address)
    };
    let listed = |instance: &Instance| {
        instance.managed || settings.endpoints.iter().any(|endpoint| is(instance, endpoint))
    };
    pool.instances.retain(|_, instance| listed(instance));
    for endpoint in &settings.endpoints {
        match pool.instances.values_mut().find(|one| is(one, endpoint)) {
            Some(known) => known.describe(endpoint),
            None => {
                let id = out.next_instance();
                pool.instances.insert(id, Instance::fixed(id, endpoint, &new.learning, now));
            }
        }
    }
    if settings.manager.is_none() {
        pool.instances.values_mut().filter(|one| one.managed).for_each(|one| one.drain(now));
    }
    pool.sight = settings.sight.as_ref().map(|wanted| {
        let sight = pool.sight.take().unwrap_or_else(|| Arc::new(PoolSight::new(wanted.max_age)));
        sight.set_lifetime(wanted.max_age);
        sight
    });
    pool.scaler.plan_now(now);
    pool.renew_settings(settings);
}
