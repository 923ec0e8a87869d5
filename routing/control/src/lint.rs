//! Refuses plans that break hard limits.
//!
//! Written from the limits alone, sharing no code with the planner, so that a defect there cannot hide here. A fleet
//! that is already outside its limits (they were changed) may be brought back in steps; a plan must only never make
//! it worse.
use crate::plan::{Plan, PlanInput, PlanStep};
use foretide_predictor::id::InstanceId;
use foretide_routing::table::InstanceState;
use std::collections::BTreeSet;

/// A broken limit, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(pub String);

/// Checks a plan against the limits, independently of how it was made. Empty: nothing to say against it.
pub fn lint(input: &PlanInput, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut drains = Vec::new();
    let mut starts: u64 = 0;
    for step in &plan.steps {
        match step {
            PlanStep::Start => starts += 1,
            PlanStep::Drain(instance) => drains.push(*instance),
        }
    }
    check_drains(input, &drains, &mut findings);
    check_counts(input, plan, starts, drains.len() as u64, &mut findings);
    findings
}

fn check_drains(input: &PlanInput, drains: &[InstanceId], findings: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for &id in drains {
        if !seen.insert(id) {
            findings.push(Finding(format!("instance {} is drained twice", id.0)));
        }
        match input.instances.iter().find(|one| one.id == id) {
            None => findings.push(Finding(format!("instance {} to be drained does not exist", id.0))),
            Some(one) if matches!(one.state, InstanceState::Draining | InstanceState::Gone) => {
                findings.push(Finding(format!("instance {} is on its way out already", id.0)));
            }
            Some(_) => {}
        }
    }
    let too_soon = input.last_change.is_some_and(|at| input.now.since(at) < input.settings.cooldown);
    if too_soon && !drains.is_empty() {
        findings.push(Finding(format!("{} instances go within the cooldown", drains.len())));
    }
}

fn at_rest(input: &PlanInput) -> bool {
    use InstanceState::{Cold, Draining, Warming};
    input.instances.iter().all(|one| !matches!(one.state, Cold | Warming | Draining))
}

fn drained_is_broken(input: &PlanInput, plan: &Plan) -> bool {
    let is_broken = |step: &PlanStep| {
        let id = match step {
            PlanStep::Start => return false,
            PlanStep::Drain(id) => *id,
        };
        input.instances.iter().any(|one| one.id == id && one.state == InstanceState::Unhealthy)
    };
    plan.steps.iter().all(is_broken)
}

fn check_counts(input: &PlanInput, plan: &Plan, starts: u64, drains: u64, findings: &mut Vec<Finding>) {
    let limits = &input.settings;
    let ceiling = u64::from(limits.ceiling);
    let floor = u64::from(limits.floor).min(ceiling);
    let before = input
        .instances
        .iter()
        .filter(|one| !matches!(one.state, InstanceState::Draining | InstanceState::Gone))
        .count() as u64;
    let after = (before + starts).saturating_sub(drains);
    if starts > 0 && after > ceiling {
        findings.push(Finding(format!("{after} instances are above the ceiling of {ceiling}")));
    }
    // The one way below the floor: a broken instance of a full fleet without room, one at a time.
    let replaces = starts == 0 && drains == 1 && before == floor && floor == ceiling && at_rest(input);
    let allowed = if replaces && drained_is_broken(input, plan) { floor.saturating_sub(1) } else { floor };
    if drains > 0 && after < allowed {
        findings.push(Finding(format!("{after} instances are below the floor of {floor}")));
    }
    if starts > u64::from(limits.step_up) {
        findings.push(Finding(format!("{starts} starts at once, {} are allowed", limits.step_up)));
    }
    if drains > u64::from(limits.step_down) {
        findings.push(Finding(format!("{drains} releases at once, {} are allowed", limits.step_down)));
    }
    let target = plan.report.target;
    if after != u64::from(target) {
        findings.push(Finding(format!("the report says {target} instances, the steps lead to {after}")));
    }
}
