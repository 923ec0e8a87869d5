//! From a pool's state to a plan, and from a plan's steps to effects.
//!
//! The plan is made every half step (at least every 500 ms), whatever the mode; only `act` carries it out. The *floor*
//! of a managed pool is filled in every mode: without its floor such a pool serves nobody, and the operator who wrote
//! a floor has decided already. A plan that the linter refuses is reported and not carried out; the fleet stays.
//! Starts wait after failed ones ([`crate::backoff`]).
//!
//! What the planner gets to see of a forecast: the highest upper end until a new instance would be ready, and from
//! then until two lead times from now. A forecast without a backtest has an interval that is a guess: its mean is
//! used alone, else every start would begin with a fleet sized for anything.
use crate::backoff::Backoff;
use crate::instance::Instance;
use crate::io::Effect;
use crate::lint::lint;
use crate::outbox::Outbox;
use crate::plan::{
    Action, Plan, PlanInput, PlanInstance, PlanReason, PlanReport, PlanStep, plan, utilisation,
};
use crate::pool::{Pool, Surroundings};
use crate::report::ScalingDecisionReport;
use crate::target_rate::TargetRate;
use crate::track::highest;
use foretide_forecast::calendar::ScheduledEvent;
use foretide_forecast::fit::Forecast;
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::{ScalingMode, ScalingRule, ScalingSettings};
use std::collections::VecDeque;
use std::time::Duration;

/// Cold starts remembered for the lead time.
const LEADS: usize = 32;
/// Wishes remembered for scale-down; only those that no later one exceeds are kept.
const WISHES: usize = 512;
/// Origins behind an interval that is planned with: of fewer than 20 misses the worst tenth is one or two.
const TRUSTED_ORIGINS: usize = 20;
/// Plans are made at most this often.
const SHORTEST_PERIOD: Duration = Duration::from_millis(500);

/// A pool's planning state.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    pub(crate) backoff: Backoff,
    pub(crate) target_rate: TargetRate,
    leads: VecDeque<Duration>,
    last_change: Option<Timestamp>,
    wishes: VecDeque<(Timestamp, u32)>,
    plan_due: Timestamp,
    logged: Option<Gist>,
}

/// What makes a plan worth logging when it changes.
type Gist = (Action, PlanReason, Option<PlanReason>, u32, u32, u32);

impl Scaler {
    /// A cold start was measured.
    pub(crate) fn measured_start(&mut self, took: Duration) {
        if self.leads.len() == LEADS {
            self.leads.pop_front();
        }
        self.leads.push_back(took);
    }

    /// p95 of the last measured cold starts, or the assumed one.
    pub(crate) fn lead(&self, settings: &ScalingSettings) -> Duration {
        let mut leads: Vec<Duration> = self.leads.iter().copied().collect();
        leads.sort_unstable();
        let rank = (leads.len() * 95).div_ceil(100);
        rank.checked_sub(1).map_or(settings.assumed_lead, |index| leads[index])
    }

    /// Plans with the next tick.
    pub(crate) fn plan_now(&mut self, now: Timestamp) {
        self.plan_due = now;
    }

    fn recent_peak(&mut self, cooldown: Duration, now: Timestamp) -> u32 {
        while self.wishes.front().is_some_and(|(at, _)| now.since(*at) > cooldown) {
            self.wishes.pop_front();
        }
        self.wishes.front().map_or(0, |(_, wish)| *wish)
    }

    fn remember_wish(&mut self, wish: u32, now: Timestamp) {
        while self.wishes.back().is_some_and(|(_, earlier)| *earlier <= wish) {
            self.wishes.pop_back();
        }
        if self.wishes.len() == WISHES {
            self.wishes.pop_back();
        }
        self.wishes.push_back((now, wish));
    }
}

impl Pool {
    /// Plans if it is time to, and carries out what the mode allows.
    pub(crate) fn plan(&mut self, around: Surroundings<'_>, out: &mut Outbox) {
        let now = around.now;
        if now < self.scaler.plan_due || around.frozen || self.settings.manager.is_none() {
            return;
        }
        let period = (around.settings.learning.step / 2).max(SHORTEST_PERIOD);
        self.scaler.plan_due = now.plus(period);
        for instance in self.instances.values().filter(|one| one.managed && one.is_warm()) {
            self.scaler.backoff.stayed(instance.asked_at, now.since(instance.warm_since));
        }
        let input = self.plan_input(around);
        let mut plan = plan(&input);
        let findings = lint(&input, &plan);
        if !findings.is_empty() {
            refuse(&mut plan, findings.iter().map(|finding| finding.0.as_str()).collect());
        }
        self.scaler.remember_wish(plan.report.wish.min(input.settings.ceiling), now);
        let touched = self.carry_out(&plan, around, out);
        if !touched.is_empty() {
            self.scaler.last_change = Some(now);
            out.dirty = true;
        }
        self.log(plan.report, touched, now, out);
    }

    fn plan_input(&mut self, around: Surroundings<'_>) -> PlanInput {
        let now = around.now;
        let settings = self.settings.scaling;
        let lead = self.scaler.lead(&settings);
        let rate = self.window.rate();
        let ready_at = now.plus(lead);
        // Even with instant starts one step ahead is looked at.
        let until = ready_at.plus(lead.max(around.settings.learning.step));
        let forecast = self.track.fresh(around.settings.learning.refit_every, now);
        let demand = |from, to| {
            let forecast = forecast?;
            let load = highest(forecast, from, to)?;
            Some(if is_backtested(forecast) { load } else { Estimate::exact(load.mean()) })
        };
        let capacity_per_instance = self.capacity_of_a_new_one();
        let mut input = PlanInput {
            now,
            settings,
            instances: self.instances.values().filter(|one| one.managed).map(|one| self.seen(one)).collect(),
            fixed_capacity: self
                .in_service()
                .filter(|one| !one.managed)
                .map(|one| one.capacity(&self.settings))
                .sum(),
            work_rate: rate.work_s,
            work_rate_slope: self.window.slope(),
            peak_seen: self.track.peak(),
            request_rate: rate.requests,
            demand_until_ready: demand(now, ready_at),
            demand_at_lead: demand(ready_at, until),
            event: event_within(&around.settings.events, now, until),
            lead,
            capacity_per_instance,
            last_change: self.scaler.last_change,
            recent_peak_wish: self.scaler.recent_peak(settings.cooldown, now),
        };
        if settings.rule == ScalingRule::RequestRate && settings.target_rate_per_s.is_none() {
            input.settings.target_rate_per_s =
                self.scaler.target_rate.for_instance(capacity_per_instance, utilisation(&settings));
        }
        input
    }

    fn seen(&self, instance: &Instance) -> PlanInstance {
        PlanInstance {
            id: instance.id,
            state: instance.state(),
            capacity: instance.capacity(&self.settings),
            load: instance.load.total.unwrap_or(0.0),
        }
    }

    /// The mean of those that are warm; what the settings say until there is one.
    fn capacity_of_a_new_one(&self) -> f64 {
        let warm = self.instances.values().filter(|one| one.managed && one.is_warm());
        let sum: f64 = warm.clone().map(|one| one.capacity(&self.settings)).sum();
        match warm.count() {
            0 => f64::from(self.settings.concurrency.max(1)),
            count => sum / count as f64,
        }
    }

    /// Performs what mode and backoff allow; returns the instances touched.
    fn carry_out(&mut self, plan: &Plan, around: Surroundings<'_>, out: &mut Outbox) -> Vec<InstanceId> {
        let now = around.now;
        let settings = self.settings.clone();
        let Some(manager) = settings.manager.as_ref() else { return Vec::new() };
        let act = settings.scaling.mode == ScalingMode::Act;
        let below_floor = settings.scaling.floor.saturating_sub(plan.report.current);
        let mut starts = if act { u32::MAX } else { below_floor };
        if let Some(allowed) = self.scaler.backoff.allowed(self.starting(), now) {
            starts = starts.min(allowed);
        }
        let mut touched = Vec::new();
        for step in &plan.steps {
            match step {
                PlanStep::Start if starts > 0 => {
                    starts -= 1;
                    let id = out.next_instance();
                    self.instances.insert(id, Instance::asked_for(id, &around.settings.learning, now));
                    let manager = std::sync::Arc::new(manager.clone());
                    out.push(Effect::Start { instance: id, pool: self.id, manager });
                    touched.push(id);
                }
                PlanStep::Drain(id) if act && self.drain(*id, now) => touched.push(*id),
                PlanStep::Start | PlanStep::Drain(_) => {}
            }
        }
        touched
    }

    /// Logs what is new: a change, or another reason or limit than before.
    fn log(&mut self, mut report: PlanReport, touched: Vec<InstanceId>, now: Timestamp, out: &mut Outbox) {
        let failures = self.scaler.backoff.failures();
        let gist = (report.action, report.reason, report.limited_by, report.current, report.target, failures);
        if touched.is_empty() && self.scaler.logged == Some(gist) {
            return;
        }
        self.scaler.logged = Some(gist);
        if let Some(words) = self.scaler.backoff.words() {
            report.words.push_str("; ");
            report.words.push_str(&words);
        }
        out.log.scaled(ScalingDecisionReport {
            id: 0,
            at: now,
            pool: self.name.to_string(),
            mode: self.settings.scaling.mode,
            plan: report,
            instances: touched,
        });
    }
}

/// The last plan stays: nothing is done, and the report says what was wrong.
fn refuse(plan: &mut Plan, findings: Vec<&str>) {
    plan.steps.clear();
    plan.report.action = Action::Hold;
    plan.report.reason = PlanReason::Refused;
    plan.report.target = plan.report.current;
    plan.report.words = format!("refused: {} (the plan was: {})", findings.join("; "), plan.report.words);
}

/// Whether the interval was measured rather than guessed.
fn is_backtested(forecast: &Forecast) -> bool {
    forecast.score.is_some_and(|score| score.origins >= TRUSTED_ORIGINS)
}

/// The announced event that raises load most within the window.
fn event_within(events: &[ScheduledEvent], from: Timestamp, to: Timestamp) -> Option<String> {
    let matters = |event: &&ScheduledEvent| event.start <= to && event.end > from && event.ratio > 1.0;
    let event = events.iter().filter(matters).max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
    Some(event.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_is_the_95th_percentile_of_the_last_starts() {
        let settings = ScalingSettings {
            mode: ScalingMode::Act,
            rule: ScalingRule::Predictive,
            floor: 1,
            ceiling: 2,
            step_up: 1,
            step_down: 1,
            cooldown: Duration::ZERO,
            target_utilisation: 0.8,
            target_rate_per_s: None,
            assumed_lead: Duration::from_secs(7),
            drain_timeout: Duration::ZERO,
        };
        let mut scaler = Scaler::default();
        assert_eq!(scaler.lead(&settings), settings.assumed_lead);
        (1..=40).for_each(|seconds| scaler.measured_start(Duration::from_secs(seconds)));
        assert_eq!(scaler.lead(&settings), Duration::from_secs(39), "31st of the last 32");
    }

    #[test]
    fn a_refused_plan_does_nothing_and_says_why() {
        let report = PlanReport {
            action: Action::ScaleUp,
            reason: PlanReason::Demand,
            limited_by: None,
            current: 2,
            wish: 9,
            target: 9,
            work_rate: 1.0,
            request_rate: 1.0,
            demand: 1.0,
            forecast: None,
            lead_s: 1.0,
            capacity_per_instance: 1.0,
            words: "2 → 9".to_owned(),
        };
        let mut plan = Plan { steps: vec![PlanStep::Start; 7], report };
        refuse(&mut plan, vec!["9 instances are above the ceiling of 5"]);
        assert!(plan.steps.is_empty() && plan.report.target == 2 && plan.report.action == Action::Hold);
        assert_eq!(
            plan.report.words,
            "refused: 9 instances are above the ceiling of 5 (the plan was: 2 → 9)"
        );
    }

    #[test]
    fn the_recent_peak_is_the_largest_wish_of_the_cooldown() {
        let mut scaler = Scaler::default();
        let at = |seconds: u64| Timestamp::from_us(seconds * 1_000_000);
        for (seconds, wish) in [(0, 9), (10, 3), (20, 5), (30, 4)] {
            scaler.remember_wish(wish, at(seconds));
        }
        let cooldown = Duration::from_secs(25);
        assert_eq!(scaler.recent_peak(cooldown, at(20)), 9);
        assert_eq!(scaler.recent_peak(cooldown, at(31)), 5);
        assert_eq!(scaler.recent_peak(cooldown, at(50)), 4);
        assert_eq!(scaler.recent_peak(cooldown, at(90)), 0);
    }
}
