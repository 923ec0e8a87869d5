//! How much is demanded, and how many instances that takes.
//!
//! Rule `predictive`, in work (seconds of service per second):
//!
//! ```text
//! surge    = now + slope * min(lead, SLOPE_REACH)      if slope > SLOPE_SIGMAS * its standard error; at most 3 * now
//! forecast = max(high(until ready), high(at lead))     the UPPER end, as far as history makes it credible
//! demand   = max(now, surge, forecast)
//! wish     = ceil((demand / target_utilisation - fixed capacity) / capacity of one instance)
//! ```
//!
//! Why the upper end for both directions: it starts instances for what may come, and releases only what even then is
//! not needed, so a wider interval never lowers a plan. Why a maximum and not a mean: a forecast that misses a crowd
//! must not talk the planner out of what is already at the door.
//! States: forecast and demand known; demand only (no forecast, or nonsense); nothing known, then there is no wish
//! and the fleet stays as it is, inside its limits.
//!
//! Rule `request-rate` is what Kubernetes' HorizontalPodAutoscaler does (kubernetes.io, "Algorithm details"):
//! `wish = ceil(rate / target rate)` unless the ratio to the present fleet is within 10 % of 1.
use crate::plan::{PlanInput, PlanReason, finite, utilisation};
use foretide_predictor::estimate::Estimate;
use foretide_routing::settings::ScalingRule;
use foretide_routing::table::InstanceState;
use std::time::Duration;

/// A slope counts when it is this many standard errors above 0: with 16 bins about 1 false alarm in 200 windows, each
/// worth at most a few instances for one cooldown.
const SLOPE_SIGMAS: f64 = 3.0;
/// A slope measured over some seconds says nothing about minutes: straight lines are extended this far at most.
const SLOPE_REACH: Duration = Duration::from_secs(30);
/// ... and no further than this multiple of the demand they were measured on.
const SURGE_RATIO: f64 = 3.0;
/// A forecast without an announced event may ask for this multiple of what was ever seen in the kept history: it knows of
/// nothing else, and a half more leaves room for growth and for the noise above a mean.
const CREDIBLE_OF_PEAK: f64 = 1.5;
/// ... or of present demand, where history is younger than the rise: what grows faster within one lead time is for the
/// surge detector to see.
const CREDIBLE_OF_NOW: f64 = 3.0;
/// Work per second above which a number is not a measurement: a thousand million busy cores.
const ABSURD: f64 = 1e9;
/// Kubernetes' `--horizontal-pod-autoscaler-tolerance`.
const HPA_TOLERANCE: f64 = 0.1;

/// Demand, and the instances it takes.
pub(crate) struct Sizing {
    /// Work per second that sized it; 0 when nothing is known.
    pub(crate) demand: f64,
    /// Usable instances wished for; `None`: nothing is known, leave it.
    pub(crate) wish: Option<u32>,
    /// What the demand rests on.
    pub(crate) driver: PlanReason,
    /// The forecast that was looked at.
    pub(crate) forecast: Option<Estimate>,
}

/// Sizes the fleet by the rule in the settings.
pub(crate) fn size(input: &PlanInput) -> Sizing {
    match input.settings.rule {
        ScalingRule::Predictive => by_demand(input),
        ScalingRule::RequestRate => by_request_rate(input),
    }
}

fn by_demand(input: &PlanInput) -> Sizing {
    let now = sensible(input.work_rate);
    let surge = now.map(|now| with_slope(input, now));
    let forecast = forecast(input);
    let expected = forecast.map(|forecast| credible(input, forecast.high()));
    let mut demand = None;
    let mut driver = PlanReason::Demand;
    let by_forecast = if input.event.is_some() { PlanReason::Event } else { PlanReason::Forecast };
    for (value, reason) in [(now, PlanReason::Demand), (surge, PlanReason::Surge), (expected, by_forecast)] {
        if let Some(value) = value
            && demand.is_none_or(|demand| value > demand)
        {
            demand = Some(value);
            driver = reason;
        }
    }
    let wish = demand.and_then(|demand| instances_for(input, demand));
    Sizing { demand: demand.unwrap_or(0.0), wish, driver, forecast }
}

fn with_slope(input: &PlanInput, now: f64) -> f64 {
    let (slope, error) = input.work_rate_slope;
    let significant = slope.is_finite() && error.is_finite() && error >= 0.0 && slope > SLOPE_SIGMAS * error;
    if !significant {
        return now;
    }
    let reach = input.lead.min(SLOPE_REACH).as_secs_f64();
    (now + slope.max(0.0) * reach).min(now * SURGE_RATIO)
}

/// The larger of both windows by their upper end; a mean that is no load at all disqualifies a forecast.
fn forecast(input: &PlanInput) -> Option<Estimate> {
    [input.demand_until_ready, input.demand_at_lead]
        .into_iter()
        .flatten()
        .filter(|estimate| sensible(estimate.mean()).is_some())
        .max_by(|a, b| a.high().total_cmp(&b.high()))
}

fn credible(input: &PlanInput, high: f64) -> f64 {
    if input.event.is_some() {
        return high.clamp(0.0, ABSURD);
    }
    let now = sensible(input.work_rate).unwrap_or(0.0).max(finite(input.capacity_per_instance));
    let known = (CREDIBLE_OF_NOW * now).max(CREDIBLE_OF_PEAK * finite(input.peak_seen));
    high.clamp(0.0, known.clamp(0.0, ABSURD))
}

fn instances_for(input: &PlanInput, demand: f64) -> Option<u32> {
    let each = input.capacity_per_instance;
    if !each.is_finite() || each <= 0.0 {
        return None;
    }
    let missing = demand / utilisation(&input.settings) - finite(input.fixed_capacity).max(0.0);
    // The float cast saturates, so even absurd demand becomes a number that the ceiling can cut.
    Some((missing.max(0.0) / each).ceil() as u32)
}

fn by_request_rate(input: &PlanInput) -> Sizing {
    let wish = sensible(input.request_rate).zip(target_rate(input)).map(|(rate, target)| {
        let each = input.capacity_per_instance;
        let fixed = if each > 0.0 { finite(input.fixed_capacity / each).max(0.0) } else { 0.0 };
        let usable = input.instances.iter().filter(|one| {
            !matches!(one.state, InstanceState::Draining | InstanceState::Gone | InstanceState::Unhealthy)
        });
        let usable = usable.count();
        let ratio = rate / (target * (usable as f64 + fixed));
        if (ratio - 1.0).abs() <= HPA_TOLERANCE {
            return usable as u32;
        }
        (rate / target - fixed).max(0.0).ceil() as u32
    });
    let demand = sensible(input.work_rate).unwrap_or(0.0);
    Sizing { demand, wish, driver: PlanReason::RequestRate, forecast: None }
}

fn target_rate(input: &PlanInput) -> Option<f64> {
    input.settings.target_rate_per_s.filter(|rate| rate.is_finite() && *rate > 0.0)
}

/// A rate that can be one.
fn sensible(rate: f64) -> Option<f64> {
    (rate.is_finite() && (0.0..=ABSURD).contains(&rate)).then_some(rate)
}
