//! What operators see: one snapshot of everything, made by the controller about once a second.
use crate::hearsay::{GossipReport, HeardReport};
use crate::plan::PlanReport;
use foretide_forecast::fit::Forecast;
use foretide_predictor::blend::{LoadScore, TierSkills, TierWeights};
use foretide_predictor::cost::model::{Explanation, ModelCard};
use foretide_predictor::cost::query::{CostClass, CostEstimate};
use foretide_predictor::id::InstanceId;
use foretide_predictor::peers::Anomaly;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{Candidate, Reason};
use foretide_routing::observe::{Outcome, RefusalReason, Utilisation};
use foretide_routing::settings::{Policy, ScalingMode};
use foretide_routing::table::InstanceState;
use foretide_shadow::shadow::ShadowReport;
use serde::Serialize;

/// Everything at once.
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    /// When.
    pub at: Timestamp,
    /// Generation of the table.
    pub generation: u64,
    /// Pools with their instances.
    pub pools: Vec<PoolReport>,
    /// Tier weights in use.
    pub weights: TierWeights,
    /// Measured skill per tier.
    pub skills: TierSkills,
    /// The cost model.
    pub model: ModelReport,
    /// What predictions are worth, by route; routes that were not asked for yet are left out.
    pub gates: Vec<GateReport>,
    /// Latest routing decisions, newest first, at most 256 here; older ones by id.
    pub routing_decisions: Vec<RoutingDecisionReport>,
    /// Latest requests that were not let in, newest first, at most 256.
    pub refusals: Vec<RefusalReport>,
    /// Latest scaling decisions, newest first, at most 256.
    pub scaling_decisions: Vec<ScalingDecisionReport>,
    /// Fallbacks since the start, by reason.
    pub fallbacks: Vec<(Reason, u64)>,
    /// Other proxies; absent: gossip is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gossip: Option<GossipReport>,
}

/// One pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolReport {
    /// Name.
    pub name: String,
    /// Policy.
    pub policy: Policy,
    /// Observe, advise or act.
    pub mode: ScalingMode,
    /// Instances, also those not in service.
    pub instances: Vec<InstanceReport>,
    /// Work arriving now, seconds of service per second.
    pub work_rate: f64,
    /// Requests arriving now, per second.
    pub request_rate: f64,
    /// Capacity of warm instances, seconds of service per second.
    pub capacity: f64,
    /// p95 of measured cold starts (or the assumed one), seconds.
    pub lead_s: f64,
    /// Work rate of the latest steps, oldest first: (start of the step, work rate).
    pub actual: Vec<(Timestamp, f64)>,
    /// The latest forecast.
    pub forecast: Option<Forecast>,
    /// Forecasts made earlier for the steps in `actual` at lead time, for the band on the dashboard.
    pub forecast_past: Vec<PastForecast>,
    /// Steps ahead that people asked for (5, 15, 30 minutes).
    pub horizons: Vec<usize>,
    /// Share of actual values inside the interval, at lead time.
    pub coverage: Option<f64>,
    /// Whether too few are healthy.
    pub panic: bool,
    /// How its instances serve.
    pub serves: FormReport,
    /// What other policies would have made of the same requests; `None`: not looked at.
    pub shadow: Option<ShadowReport>,
    /// Mean latency of the shadow of the policy in service over the measured one, less 1: the error of all shadows.
    pub shadow_error: Option<f64>,
    /// Why the last forecast could not be made.
    pub forecast_error: Option<String>,
    /// Proxies that send to its instances, this one included; absent: gossip is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<usize>,
}

/// How a pool's instances serve several requests at once, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FormReport {
    /// `processor-sharing` or `worker-pool`: decides the score and what is taken off a latency as waiting.
    pub form: &'static str,
    /// How that is known.
    pub because: &'static str,
    /// Requests that waited at an instance, of which the forms say different things.
    pub seen: u64,
    /// Variance of measured against expected work in order of arrival, over that under processor sharing: below 1 speaks
    /// for a worker pool. Absent until enough requests have waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// What had been forecast for a step that is over.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PastForecast {
    /// Start of the step.
    pub at: Timestamp,
    /// What was expected, a lead time ahead.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceReport {
    /// Who.
    pub id: InstanceId,
    /// Where; `None` until it runs.
    pub address: Option<String>,
    /// State.
    pub state: InstanceState,
    /// Warm-up factor, 0 to 1.
    pub warm: f64,
    /// Requests in flight.
    pub in_flight: u32,
    /// Predicted work in flight, microseconds.
    pub work_in_flight_us: u64,
    /// Speed, 1 is the fleet's mean: measured, said by the instance, or told by other proxies.
    pub speed: f64,
    /// Requests of this proxy that it was measured on.
    pub speed_samples: u64,
    /// Blended load score with its tiers.
    pub load: LoadScore,
    /// Tier 3.
    pub anomaly: Option<Anomaly>,
    /// Requests since it is known.
    pub requests: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// Share of failed tries lately, 0 to 1.
    pub error_ratio: f64,
    /// What other proxies say of it; absent: nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<HeardReport>,
    /// Requests that other proxies have in flight there, as far as is known; absent: the pool shares no sight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_in_flight: Option<f32>,
    /// How long ago that was heard, seconds; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sight_age_s: Option<f64>,
    /// What it said of itself in the load reports of the last seconds; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<Utilisation>,
}

/// The cost model in service.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// Its card; `None`: running means answer.
    pub card: Option<ModelCard>,
    /// Rows in the training sample.
    pub rows: usize,
    /// Requests learned from since the start.
    pub learned: u64,
    /// Cells of the key table in use.
    pub cells: usize,
    /// Why the last training brought no new model.
    pub last_error: Option<String>,
    /// Class borders: work of q50, q80 and q95, microseconds.
    pub class_borders_us: [f64; 3],
    /// Requests per class lately: light, medium, heavy, huge.
    pub classes: [u64; 4],
    /// Share of recent costs inside the interval.
    pub coverage: Option<f64>,
    /// 1 - absolute error over that of the route mean.
    pub skill: Option<f64>,
}

/// How far predictions steer on a route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateReport {
    /// Route by name; `other`: all beyond the first 1,024.
    pub route: String,
    /// Share of the route mean's gamma deviance that calibrated predictions take away; `None`: too few requests.
    pub skill: Option<f64>,
    /// Weight of the prediction in what steers, 0 (the mean of the route) to 1.
    pub weight: f64,
    /// How much worse than the number in flight the prediction foresees latencies; negative: better.
    pub misfit: Option<f64>,
    /// Work of the mean request, microseconds.
    pub mean_us: f64,
}

/// One routing decision with its inputs and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct RoutingDecisionReport {
    /// Id, also in the access log.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Route by name.
    pub route: String,
    /// Pool by name.
    pub pool: String,
    /// Hash of the consumer.
    pub consumer: String,
    /// Chosen one.
    pub instance: InstanceId,
    /// Why.
    pub reason: Reason,
    /// How the pool's instances serve, as the score took it.
    pub serves: &'static str,
    /// Predicted cost.
    pub predicted: CostEstimate,
    /// Work that steered the choice, microseconds: the prediction as far as it counts on its route.
    pub steered_us: f32,
    /// How far that is, 0 (the mean of the route) to 1.
    pub weight: f32,
    /// Class of the measured cost.
    pub actual_class: Option<CostClass>,
    /// Measured work at speed 1, microseconds.
    pub actual_work_us: Option<f64>,
    /// Whole time at the instance, microseconds.
    pub upstream_us: u64,
    /// Requests that other proxies had in flight on the chosen one, as far as was known; absent: the pool shares no sight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_in_flight: Option<f32>,
    /// Compared ones, best first.
    pub candidates: Vec<Candidate>,
    /// Numeric parameters that were present.
    pub numbers: Vec<f32>,
    /// How it ended.
    pub outcome: Outcome,
    /// Generation of the table.
    pub generation: u64,
    /// Size of the response's body, bytes; absent when it was cut short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
    /// Mean size of the responses to requests like this, bytes, as known now; only where a single decision is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_bytes: Option<f64>,
    /// What moved the prediction; only where a single decision is asked for, and while its model serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// A request that admission refused, with what it rested on.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalReport {
    /// When it came.
    pub at: Timestamp,
    /// Route by name.
    pub route: String,
    /// Pool by name.
    pub pool: String,
    /// Hash of the consumer.
    pub consumer: String,
    /// Why.
    pub reason: RefusalReason,
    /// Its predicted work, microseconds.
    pub work_us: f64,
    /// Its predicted latency, waiting included, microseconds; absent: nobody knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<f64>,
    /// Later its answer would have been worth nothing, microseconds from its arrival; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_us: Option<f64>,
    /// `low`, `normal` or `high`.
    pub priority: &'static str,
    /// In the pool and its queue at the time.
    pub in_flight: u32,
}

/// One scaling decision with its inputs.
#[derive(Clone, Debug, Serialize)]
pub struct ScalingDecisionReport {
    /// Id.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Pool by name.
    pub pool: String,
    /// Mode it was made in; only `act` changes anything.
    pub mode: ScalingMode,
    /// The plan's own report.
    pub plan: PlanReport,
    /// Instances it started or drained.
    pub instances: Vec<InstanceId>,
}
