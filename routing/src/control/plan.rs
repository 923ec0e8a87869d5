//! The planner: a pure function from everything it may depend on to steps and a report (contract; body to come).
use crate::settings::ScalingSettings;
use crate::table::InstanceState;
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Everything a plan may depend on.
#[derive(Clone, Debug)]
pub struct PlanInput {
    /// Now.
    pub now: Timestamp,
    /// Limits and wishes.
    pub settings: ScalingSettings,
    /// Managed instances that are not gone.
    pub instances: Vec<PlanInstance>,
    /// Capacity of endpoints that no manager runs, seconds of service per second.
    pub fixed_capacity: f64,
    /// Work arriving now (fast average), seconds of service per second.
    pub work_rate: f64,
    /// Change of that over the last seconds, per second, with its standard error: the surge detector's input.
    pub work_rate_slope: (f64, f64),
    /// Requests arriving now, per second.
    pub request_rate: f64,
    /// Forecast work rate over [now, now + lead]: the largest step; `None`: no forecast.
    pub demand_until_ready: Option<Estimate>,
    /// Forecast work rate just after now + lead: largest step until two leads from now; `None`: no forecast.
    pub demand_at_lead: Option<Estimate>,
    /// Name of an announced event that matters within the window.
    pub event: Option<String>,
    /// Lead time: p95 of measured cold starts, or the assumed one.
    pub lead: Duration,
    /// Mean capacity of one new instance, seconds of service per second.
    pub capacity_per_instance: f64,
    /// When the fleet last grew or shrank.
    pub last_change: Option<Timestamp>,
    /// Highest wish of the last cooldown (scale-down stabilisation).
    pub recent_peak_wish: u32,
}

/// A managed instance as the planner sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanInstance {
    /// Who.
    pub id: InstanceId,
    /// Its state.
    pub state: InstanceState,
    /// Seconds of service per second, measured or assumed.
    pub capacity: f64,
    /// Its load score, for choosing whom to release.
    pub load: f64,
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<PlanStep>,
    /// Why.
    pub report: PlanReport,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanStep {
    /// Ask for one more.
    Start,
    /// Let this one finish and go.
    Drain(InstanceId),
}

/// What a plan came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// More.
    ScaleUp,
    /// Fewer.
    ScaleDown,
    /// As it is.
    Hold,
}

/// What moved or limited a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanReason {
    /// Fits.
    Enough,
    /// Below the floor.
    Floor,
    /// The ceiling limited it.
    Ceiling,
    /// The step limit limited it.
    Step,
    /// Too soon after a change.
    Cooldown,
    /// Forecast demand.
    Forecast,
    /// An announced event.
    Event,
    /// Demand now.
    Demand,
    /// A surge nobody forecast.
    Surge,
    /// Demand falls and even the upper bound fits.
    Surplus,
    /// Request rate against target (rule `request-rate`).
    RequestRate,
    /// The linter refused the plan; the last one stays.
    Refused,
}

/// Why, in words and numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// What it came to.
    pub action: Action,
    /// What moved it.
    pub reason: PlanReason,
    /// What limited it, if anything did.
    pub limited_by: Option<PlanReason>,
    /// Instances before (not draining, not gone).
    pub current: u32,
    /// Wish before limits.
    pub wish: u32,
    /// After limits.
    pub target: u32,
    /// Work arriving now, seconds of service per second.
    pub work_rate: f64,
    /// Requests arriving now, per second.
    pub request_rate: f64,
    /// Demand that sized it, seconds of service per second.
    pub demand: f64,
    /// The forecast it rests on.
    pub forecast: Option<Estimate>,
    /// Lead time, seconds.
    pub lead_s: f64,
    /// Capacity per instance used.
    pub capacity_per_instance: f64,
    /// One sentence for people, e.g. "3 → 5: campaign 'sale' in 4 s brings 2.1 cost/s (now 0.9); starts take 2.0 s".
    pub words: String,
}

/// Plans. Limits hold whatever the input says; NaN or absurd demand is ignored; widening an interval never lowers a
/// plan.
pub fn plan(_input: &PlanInput) -> Plan {
    todo!()
}
