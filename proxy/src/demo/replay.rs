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

/// Utilisations that the reactive autoscaler is tried at: closer than one instance of six apart where small fleets with
/// heavy requests need it, so that it can spend what predictive spends.
pub const REACTIVE_UTILISATIONS: [f64; 18] =
    [0.15, 0.175, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325, 0.35, 0.375, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9];

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
    let world = world(plan, settings.routing.clone(), recording, timeline);
    let predictive = run::run(&world).figures;
    let (reactive_target_rate_per_s, reactive) = best_reactive(&world, predictive.instance_seconds);
    Ok(Replayed { predictive, reactive, reactive_target_rate_per_s })
}

/// The rival at its best: of the targets tried, the one with the fewest requests over their objective among those that
/// cost no more instance-seconds than `budget_s` (or the cheapest, if all cost more). Nobody could have known it
/// beforehand; it gets it for nothing.
fn best_reactive(world: &World, budget_s: f64) -> (f64, Figures) {
    let tried: Vec<(f64, Figures)> = REACTIVE_UTILISATIONS
        .iter()
        .map(|utilisation| {
            let target = utilisation * rate_at_full_use(world);
            (target, run::run(&reactive(world, target)).figures)
        })
        .collect();
    let affordable = tried.iter().filter(|(_, figures)| figures.instance_seconds <= budget_s);
    let best = affordable.min_by(|a, b| a.1.over_objective_ratio.total_cmp(&b.1.over_objective_ratio));
    let cheapest = tried.iter().min_by(|a, b| a.1.instance_seconds.total_cmp(&b.1.instance_seconds));
    best.or(cheapest).copied().unwrap_or_default()
}

fn reactive(world: &World, target_rate_per_s: f64) -> World {
    let mut world = world.clone();
    for pool in &mut world.settings.pools {
        pool.policy = Policy::LeastRequest;
        pool.scaling.rule = ScalingRule::RequestRate;
        pool.scaling.target_rate_per_s = Some(target_rate_per_s);
    }
    // It neither forecasts nor predicts nor reads calendars.
    world.settings.learning.cost_model = false;
    world.settings.learning.refit_every = Duration::from_secs(86_400);
    world.settings.events.clear();
    world
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

/// Requests a second that keep a mean instance just busy at this run's mean cost.
fn rate_at_full_use(world: &World) -> f64 {
    let mean_work_s =
        world.arrivals.iter().map(|arrival| arrival.work_us).sum::<f64>() / world.arrivals.len() as f64 / 1e6;
    let mean_speed = world.speeds.iter().sum::<f64>() / world.speeds.len().max(1) as f64;
    mean_speed / mean_work_s.max(1e-9)
}
