//! The controller's state as people see it.
use crate::controller::Controller;
use crate::instance::{Instance, Life};
use crate::pool::Pool;
use crate::report::{InstanceReport, ModelReport, PoolReport, StatusReport};
use foretide_predictor::blend::TierSkills;
use foretide_predictor::time::Timestamp;
use foretide_routing::select::eligible;
use foretide_routing::settings::{Policy, RoutingSettings};
use foretide_shadow::chooser::Policy as Shadowed;
use foretide_shadow::shadow::ShadowReport;
use std::time::Duration;

/// Steps of history in a report.
const SHOWN_STEPS: usize = 360;

impl Controller {
    /// Everything at once, as of `now`.
    pub fn report(&self, now: Timestamp) -> StatusReport {
        StatusReport {
            at: now,
            generation: self.table().generation,
            pools: self.pools.iter().map(|pool| pool_report(pool, &self.settings, now)).collect(),
            weights: self.weights,
            skills: self.skills(),
            model: self.model_report(),
            gates: self.gates.report(&self.settings.routes),
            routing_decisions: self.out.log.latest_routing(),
            refusals: self.out.log.latest_refused(),
            scaling_decisions: self.out.log.latest_scaling(),
            fallbacks: self.out.log.fallbacks(),
            gossip: self.hearsay.report(now),
        }
    }

    /// Skill per tier; tier 1's is the mean over the pools that have one.
    pub(crate) fn skills(&self) -> TierSkills {
        let cards = self.pools.iter().filter_map(|pool| pool.track.card.skill());
        let count = cards.clone().count();
        let baseline = (count > 0).then(|| cards.sum::<f64>() / count as f64);
        let useful = |skill: Option<f64>| skill.map(|skill| skill.clamp(0.0, 1.0));
        TierSkills {
            baseline: useful(baseline),
            cost: useful(self.learning.cost_card.skill()),
            peers: useful(self.learning.peer_card.skill()),
        }
    }

    fn model_report(&self) -> ModelReport {
        let (learning, training) = (&self.learning, &self.training);
        ModelReport {
            card: training.model.as_ref().map(|model| model.card().clone()),
            rows: learning.reservoir.len(),
            learned: learning.learned,
            cells: learning.costs.occupied(),
            last_error: training.last_error.clone(),
            class_borders_us: learning.costs.class_borders_us(),
            classes: learning.classes(),
            coverage: learning.cost_card.coverage(),
            skill: learning.cost_card.skill(),
        }
    }
}

fn pool_report(pool: &Pool, settings: &RoutingSettings, now: Timestamp) -> PoolReport {
    let rate = pool.window.rate();
    let shadow = settings.learning.shadow.then(|| pool.shadow.report());
    PoolReport {
        name: pool.name.to_string(),
        policy: pool.settings.policy,
        mode: pool.settings.scaling.mode,
        instances: pool.instances.values().map(|instance| instance_report(pool, instance, now)).collect(),
        work_rate: rate.work_s,
        request_rate: rate.requests,
        capacity: pool.capacity(),
        lead_s: pool.scaler.lead(&pool.settings.scaling).as_secs_f64(),
        actual: pool.track.latest(SHOWN_STEPS),
        forecast: pool.track.forecast.clone(),
        forecast_past: pool.track.past.iter().copied().collect(),
        horizons: settings.learning.horizons.clone(),
        coverage: pool.track.card.coverage(),
        shadow_error: shadow.as_ref().and_then(|shadow| shadow_error(shadow, pool.settings.policy)),
        shadow,
        panic: pool.panic,
        serves: pool.form_report(),
        forecast_error: pool.track.error.clone(),
        proxies: pool.proxies,
    }
}

/// How far the shadow of the policy in service lies from what was measured.
fn shadow_error(shadow: &ShadowReport, policy: Policy) -> Option<f64> {
    let same = match policy {
        Policy::Predictive => Shadowed::Predictive,
        Policy::LeastRequest => Shadowed::LeastRequest,
        Policy::P2c => Shadowed::P2c,
        Policy::PeakEwma => Shadowed::PeakEwma,
        Policy::Prequal => Shadowed::Prequal,
        _ => return None,
    };
    let mine = shadow.policies.iter().find(|one| one.policy == same)?;
    Some(mine.figures.mean_s / shadow.measured?.mean_s - 1.0)
}

fn instance_report(pool: &Pool, instance: &Instance, now: Timestamp) -> InstanceReport {
    let in_flight = instance.live.in_flight();
    InstanceReport {
        id: instance.id,
        address: instance.address.as_deref().map(str::to_owned),
        state: instance.state(),
        warm: warmth(instance, pool.settings.slow_start, now),
        in_flight: in_flight.requests,
        work_in_flight_us: in_flight.work_us,
        speed: (-instance.speed.rho()).exp(),
        speed_samples: instance.speed.samples(),
        load: instance.load,
        anomaly: instance.anomaly,
        requests: instance.requests,
        failures: instance.failures,
        error_ratio: instance.errors.at(now),
        heard: instance.heard,
        others_in_flight: pool.sight.as_ref().and_then(|sight| sight.requests(&instance.live, now)),
        sight_age_s: instance
            .live
            .sight_age(now)
            .filter(|_| pool.sight.is_some())
            .map(|age| age.as_secs_f64()),
        utilisation: instance.utilisation(now),
    }
}

/// How far an instance is up its ramp; 0 until it is ready.
fn warmth(instance: &Instance, slow_start: Duration, now: Timestamp) -> f64 {
    match instance.life {
        Life::Cold | Life::Warming => 0.0,
        _ => eligible::warmth(instance.warm_since, slow_start, now),
    }
}
