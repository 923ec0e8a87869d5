//! The planner: a pure function from everything it may depend on to steps and a report.
//!
//! It decides how many managed instances a pool should have one lead time from now, and says why.
//!
//! ```text
//! usable   = instances that serve or will serve (cold, warming, warm, ejected); unhealthy ones have no capacity
//! wish     = what demand asks for (see `sizing`), in usable instances, before any limit
//! up       = min(max(wish, floor) - usable, step_up, ceiling - current)
//! down     = min(usable - max(wish, recent wishes, floor), step_down), only after the cooldown, and only as many as
//!            leave a fleet whose measured capacity carries the demand
//! ```
//!
//! A plan either starts or drains, never both, so that its report has one meaning. Broken instances are replaced
//! before they are released; only at the ceiling must one go first to make room. That may undercut the floor where floor
//! and ceiling are the same, by one instance that fails its checks, and only in a fleet that is otherwise at rest.
//! The limits come last and hold whatever a model says. Draining instances count neither as capacity nor against
//! the ceiling: they are on their way out and bounded by the drain timeout.
//! Known weakness: instances are sized by their mean capacity; a fleet of very unequal ones may start one too many.
use crate::sizing::{Sizing, size};
use crate::words;
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::{ScalingRule, ScalingSettings};
use foretide_routing::table::InstanceState;
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
    /// Highest work rate in the history that is kept: what a forecast may know of; 0 without history.
    pub peak_seen: f64,
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
    /// A broken instance is replaced, or makes room for its replacement.
    Unhealthy,
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
pub fn plan(input: &PlanInput) -> Plan {
    let sizing = size(input);
    let fleet = Fleet::of(input);
    let change = fleet.change(input, &sizing);
    let steps = change.steps;
    let started = steps.iter().filter(|step| **step == PlanStep::Start).count() as u32;
    let drained = steps.len() as u32 - started;
    let action = match (started, drained) {
        (0, 0) => Action::Hold,
        (0, _) => Action::ScaleDown,
        _ => Action::ScaleUp,
    };
    let mut report = PlanReport {
        action,
        reason: change.reason,
        limited_by: change.limited_by,
        current: fleet.current,
        wish: sizing.wish.unwrap_or(fleet.usable),
        target: fleet.current + started - drained,
        work_rate: finite(input.work_rate),
        request_rate: finite(input.request_rate),
        demand: sizing.demand,
        forecast: sizing.forecast,
        lead_s: input.lead.as_secs_f64(),
        capacity_per_instance: finite(input.capacity_per_instance),
        words: String::new(),
    };
    report.words = words::sentence(input, &report);
    Plan { steps, report }
}

/// The managed fleet, counted.
struct Fleet {
    /// Not draining, not gone.
    current: u32,
    /// Of those, the ones that serve or will serve.
    usable: u32,
    /// In the order in which they would be released.
    release: Vec<PlanInstance>,
}

/// Steps with what moved and what limited them.
struct Change {
    steps: Vec<PlanStep>,
    reason: PlanReason,
    limited_by: Option<PlanReason>,
}

impl Fleet {
    fn of(input: &PlanInput) -> Self {
        let gone = |state| matches!(state, InstanceState::Draining | InstanceState::Gone);
        let mut release: Vec<_> = input.instances.iter().filter(|one| !gone(one.state)).copied().collect();
        release.sort_by(|a, b| {
            let key = |one: &PlanInstance| (release_rank(one.state), one.load.is_nan());
            key(a).cmp(&key(b)).then(a.load.total_cmp(&b.load)).then(b.id.cmp(&a.id))
        });
        let usable = release.iter().filter(|one| one.state != InstanceState::Unhealthy).count();
        Self { current: release.len() as u32, usable: usable as u32, release }
    }

    fn change(&self, input: &PlanInput, sizing: &Sizing) -> Change {
        let limits = &input.settings;
        let floor = limits.floor.min(limits.ceiling);
        let wish = sizing.wish.unwrap_or(self.usable);
        let bounded = wish.clamp(floor, limits.ceiling);
        if bounded > self.usable {
            return self.grow(input, sizing, bounded);
        }
        let kept = bounded.max(input.recent_peak_wish.min(limits.ceiling)).min(self.usable);
        let surplus = self.current - kept;
        if surplus > 0 {
            return self.shrink(input, sizing, surplus);
        }
        // More is wished than the ceiling allows, or fewer than the floor or the recent past does.
        let limited_by = match wish {
            _ if wish > self.usable => Some(PlanReason::Ceiling),
            _ if wish == self.usable => None,
            _ if bounded == self.usable => Some(PlanReason::Floor),
            _ => Some(PlanReason::Cooldown),
        };
        let reason = match limited_by {
            Some(PlanReason::Ceiling) => sizing.driver,
            Some(_) => PlanReason::Surplus,
            None => PlanReason::Enough,
        };
        Change { steps: Vec::new(), reason, limited_by }
    }

    fn grow(&self, input: &PlanInput, sizing: &Sizing, bounded: u32) -> Change {
        let limits = &input.settings;
        let wish = sizing.wish.unwrap_or(self.usable);
        let reason = match wish {
            // As many as there are would do, if they were all sound.
            _ if bounded <= self.current => PlanReason::Unhealthy,
            _ if wish < bounded => PlanReason::Floor,
            _ => sizing.driver,
        };
        let missing = bounded - self.usable;
        let room = limits.ceiling.saturating_sub(self.current);
        if room == 0 {
            return self.make_room(input, reason);
        }
        let count = missing.min(room).min(limits.step_up);
        let limited_by = match count {
            _ if count < missing.min(room) => Some(PlanReason::Step),
            _ if count < missing || bounded < wish => Some(PlanReason::Ceiling),
            _ => None,
        };
        Change { steps: vec![PlanStep::Start; count as usize], reason, limited_by }
    }

    /// Broken instances fill the ceiling: one of them goes, so that the next plan can start a sound one.
    fn make_room(&self, input: &PlanInput, reason: PlanReason) -> Change {
        let held = |limited_by| Change { steps: Vec::new(), reason, limited_by: Some(limited_by) };
        match self.release.first() {
            Some(one) if one.state == InstanceState::Unhealthy => {
                if !cooled(input) {
                    return held(PlanReason::Cooldown);
                }
                // With floor = ceiling the floor cannot be kept while one is replaced. A broken instance serves it in
                // name only, so one at a time may go below it; while that one's place is not filled again, no other.
                let whole = self.current > input.settings.floor || !in_change(input);
                if !whole || input.settings.step_down == 0 {
                    return held(PlanReason::Ceiling);
                }
                let steps = vec![PlanStep::Drain(one.id)];
                Change { steps, reason: PlanReason::Unhealthy, limited_by: Some(PlanReason::Ceiling) }
            }
            _ => held(PlanReason::Ceiling),
        }
    }

    fn shrink(&self, input: &PlanInput, sizing: &Sizing, surplus: u32) -> Change {
        let limits = &input.settings;
        let over_ceiling = self.current > limits.ceiling;
        let broken = self.current > self.usable;
        let reason = match (over_ceiling, broken) {
            (true, _) => PlanReason::Ceiling,
            (_, true) => PlanReason::Unhealthy,
            _ => PlanReason::Surplus,
        };
        if !cooled(input) {
            return Change { steps: Vec::new(), reason, limited_by: Some(PlanReason::Cooldown) };
        }
        let fitting = self.fitting(input, sizing, surplus);
        let count = fitting.min(limits.step_down);
        let limited_by = match count {
            _ if count < fitting => Some(PlanReason::Step),
            _ if count < surplus => Some(sizing.driver),
            _ => None,
        };
        let reason = if count == 0 && fitting == 0 { PlanReason::Enough } else { reason };
        let steps = self.release.iter().take(count as usize).map(|one| PlanStep::Drain(one.id)).collect();
        Change { steps, reason, limited_by }
    }

    /// How many of `surplus` can go while the measured capacity of the others still carries the demand. What is
    /// above the ceiling goes anyway.
    fn fitting(&self, input: &PlanInput, sizing: &Sizing, surplus: u32) -> u32 {
        let must = self.current.saturating_sub(input.settings.ceiling);
        if input.settings.rule == ScalingRule::RequestRate {
            return surplus;
        }
        let needed = sizing.demand / utilisation(&input.settings);
        let capacity_of = |one: &PlanInstance| match one.state {
            InstanceState::Unhealthy => 0.0,
            _ if one.capacity.is_finite() && one.capacity > 0.0 => one.capacity,
            _ => finite(input.capacity_per_instance).max(0.0),
        };
        let mut left: f64 = finite(input.fixed_capacity) + self.release.iter().map(capacity_of).sum::<f64>();
        let mut count = 0;
        for one in self.release.iter().take(surplus as usize) {
            left -= capacity_of(one);
            // A broken instance carries nothing: it can go whether or not the others fit.
            let fits = left >= needed || one.state == InstanceState::Unhealthy;
            if !fits && count >= must {
                break;
            }
            count += 1;
        }
        count
    }
}

/// Who goes first: what does not serve, then what does not serve yet, then what serves.
fn release_rank(state: InstanceState) -> u8 {
    match state {
        InstanceState::Unhealthy => 0,
        InstanceState::Cold => 1,
        InstanceState::Warming => 2,
        InstanceState::Ejected => 3,
        InstanceState::Warm | InstanceState::Draining | InstanceState::Gone => 4,
    }
}

/// Whether an instance is on its way in or out.
fn in_change(input: &PlanInput) -> bool {
    let moving =
        |state| matches!(state, InstanceState::Cold | InstanceState::Warming | InstanceState::Draining);
    input.instances.iter().any(|one| moving(one.state))
}

fn cooled(input: &PlanInput) -> bool {
    input.last_change.is_none_or(|at| input.now.since(at) >= input.settings.cooldown)
}

/// The target utilisation, or all of the capacity when the setting makes no sense.
pub(crate) fn utilisation(settings: &ScalingSettings) -> f64 {
    let wanted = settings.target_utilisation;
    if wanted > 0.0 && wanted <= 1.0 { wanted } else { 1.0 }
}

/// The value, or 0 where it is not a number at all.
pub(crate) fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
