//! The run again in the simulator: the same requests, the same machines, two ways to run them.

use std::time::Duration;

use anyhow::bail;
use foretide_conf::settings::Settings;
use foretide_loadtest::sim::outcome::Figures;
use foretide_loadtest::sim::run::{self, Arrival, World};
use foretide_routing::settings::{Policy, RoutingSettings, ScalingRule};

use crate::demo::plan::DemoPlan;
use crate::demo::record::Recording;
use crate::demo::watcher::Timeline;

/// Loopback and two event loops, one way; what an empty request costs on top of its work.
const NETWORK_DELAY: Duration = Duration::from_micros(150);

/// Both replays.
pub struct Replayed {
    /// As it ran.
    pub predictive: Figures,
    /// Least-request with a request-rate autoscaler.
    pub reactive: Figures,
    /// What that autoscaler aimed at, requests a second per instance.
    pub reactive_target_rate_per_s: f64,
}

/// Replays a recording.
///
/// # Errors
/// Nothing was recorded.
pub fn both(
    plan: &DemoPlan,
    settings: &Settings,
    recording: &Recording,
    timeline: &Timeline,
) -> anyhow::Result<Replayed> {
    if recording.requests.is_empty() {
        bail!("no request was answered, so there is nothing to compare; see the log above");
    }
    let predictive = world(plan, settings.routing.clone(), recording, timeline);
    let mut reactive = predictive.clone();
    let target = hindsight_target(&predictive);
    for pool in &mut reactive.settings.pools {
        pool.policy = Policy::LeastRequest;
        pool.scaling.rule = ScalingRule::RequestRate;
        pool.scaling.target_rate_per_s = Some(target);
    }
    reactive.settings.learning.cost_model = false;
    reactive.settings.events.clear();
    Ok(Replayed {
        predictive: run::run(&predictive).figures,
        reactive: run::run(&reactive).figures,
        reactive_target_rate_per_s: target,
    })
}

fn world(plan: &DemoPlan, routing: RoutingSettings, recording: &Recording, timeline: &Timeline) -> World {
    let mut arrivals: Vec<Arrival> = recording
        .requests
        .iter()
        .map(|request| Arrival {
            at: request.at,
            facts: request.facts,
            work_us: request.attained_us * timeline.speed_of(request.instance),
        })
        .collect();
    arrivals.sort_by_key(|arrival| arrival.at);
    let mut settings = routing;
    settings.events = plan.events_from(timeline.traffic_start);
    World {
        settings,
        arrivals,
        start: timeline.first_seen,
        speeds: timeline.speeds(),
        cold_starts: timeline.cold_starts(),
        network_delay: NETWORK_DELAY,
        disturbance: None,
        crashes: Vec::new(),
        seed: plan.seed,
    }
}

/// The request rate per instance that fills a mean instance to the target utilisation at this run's mean cost: the
/// best an operator could have chosen, known only afterwards. The rival gets it for nothing.
fn hindsight_target(world: &World) -> f64 {
    let mean_work_s =
        world.arrivals.iter().map(|arrival| arrival.work_us).sum::<f64>() / world.arrivals.len() as f64 / 1e6;
    let mean_speed = world.speeds.iter().sum::<f64>() / world.speeds.len().max(1) as f64;
    let utilisation = world.settings.pools.first().map_or(0.8, |pool| pool.scaling.target_utilisation);
    utilisation * mean_speed / mean_work_s.max(1e-9)
}
