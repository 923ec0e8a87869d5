//! The planner's promises, on any input: limits hold, a wider interval never lowers a plan, the linter agrees, and the
//! same input gives the same plan.
use foretide_control::lint::lint;
use foretide_control::plan::{Plan, PlanInput, PlanInstance, PlanStep, plan};
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::{ScalingMode, ScalingRule, ScalingSettings};
use foretide_routing::table::InstanceState;
use proptest::prelude::*;
use std::time::Duration;

/// Any number a broken sensor or model might bring.
fn wild() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 0.0..20.0f64,
        2 => -5.0..1e6f64,
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(1e300), Just(-1e300)],
    ]
}

fn state() -> impl Strategy<Value = InstanceState> {
    use InstanceState::*;
    prop_oneof![
        4 => Just(Warm),
        1 => prop_oneof![Just(Cold), Just(Warming), Just(Draining), Just(Unhealthy), Just(Ejected), Just(Gone)],
    ]
}

fn instances() -> impl Strategy<Value = Vec<PlanInstance>> {
    prop::collection::vec((state(), wild(), wild()), 0..12).prop_map(|all| {
        let numbered = all.into_iter().zip(0..);
        numbered
            .map(|((state, capacity, load), id)| PlanInstance { id: InstanceId(id), state, capacity, load })
            .collect()
    })
}

fn settings() -> impl Strategy<Value = ScalingSettings> {
    let limits = (0..6u32, 0..12u32, 0..6u32, 0..6u32, 0..120u64);
    let aims = (wild(), prop::option::of(wild()), prop::bool::ANY);
    (limits, aims).prop_map(|((floor, ceiling, step_up, step_down, cooldown_s), (aim, rate, by_rate))| {
        ScalingSettings {
            mode: ScalingMode::Act,
            rule: if by_rate { ScalingRule::RequestRate } else { ScalingRule::Predictive },
            floor,
            ceiling,
            step_up,
            step_down,
            cooldown: Duration::from_secs(cooldown_s),
            target_utilisation: aim,
            target_rate_per_s: rate,
            assumed_lead: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
        }
    })
}

fn estimate() -> impl Strategy<Value = Option<Estimate>> {
    (wild(), wild(), wild()).prop_map(|(mean, low, high)| Estimate::new(mean, low, high))
}

fn input() -> impl Strategy<Value = PlanInput> {
    let load = (wild(), (wild(), wild()), wild(), wild(), wild());
    let ahead = (estimate(), estimate(), prop::bool::ANY, 0..600u64);
    let past = (prop::option::of(0..400u64), 0..20u32);
    (settings(), instances(), load, ahead, past).prop_map(|(settings, instances, load, ahead, past)| {
        PlanInput {
            now: Timestamp::from_us(300_000_000),
            settings,
            instances,
            fixed_capacity: load.3,
            work_rate: load.0,
            work_rate_slope: load.1,
            peak_seen: load.3,
            request_rate: load.2,
            demand_until_ready: ahead.0,
            demand_at_lead: ahead.1,
            event: ahead.2.then(|| "sale".to_owned()),
            lead: Duration::from_secs(ahead.3),
            capacity_per_instance: load.4,
            last_change: past.0.map(|seconds| Timestamp::from_us(seconds * 1_000_000)),
            recent_peak_wish: past.1,
        }
    })
}

/// Starts and releases of a plan.
fn counts(plan: &Plan) -> (u32, u32) {
    let starts = plan.steps.iter().filter(|step| **step == PlanStep::Start).count() as u32;
    (starts, plan.steps.len() as u32 - starts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_for_any_input(input in input()) {
        let plan = plan(&input);
        let (starts, drains) = counts(&plan);
        let limits = &input.settings;
        let current = input.instances.iter()
            .filter(|one| !matches!(one.state, InstanceState::Draining | InstanceState::Gone)).count() as u32;
        let after = current + starts - drains;
        prop_assert!(starts <= limits.step_up && drains <= limits.step_down);
        prop_assert!(starts == 0 || after <= limits.ceiling);
        let broken = |step: &PlanStep| input.instances.iter()
            .any(|one| *step == PlanStep::Drain(one.id) && one.state == InstanceState::Unhealthy);
        let replaces = limits.floor >= limits.ceiling && drains == 1 && plan.steps.iter().all(broken);
        prop_assert!(drains == 0 || after + u32::from(replaces) >= limits.floor.min(limits.ceiling));
        prop_assert!(starts == 0 || drains == 0, "a plan has one direction");
        let cooling = input.last_change.is_some_and(|at| input.now.since(at) < limits.cooldown);
        prop_assert!(drains == 0 || !cooling);
        prop_assert!(plan.report.demand.is_finite() && !plan.report.words.is_empty());
    }

    #[test]
    fn the_linter_passes_every_plan_of_the_planner(input in input()) {
        prop_assert_eq!(lint(&input, &plan(&input)), vec![]);
    }

    #[test]
    fn the_same_input_gives_the_same_plan(input in input()) {
        prop_assert_eq!(plan(&input), plan(&input));
    }

    #[test]
    fn a_floor_is_filled_whatever_the_models_say(mut input in input()) {
        input.instances.clear();
        let limits = input.settings;
        let (starts, _) = counts(&plan(&input));
        prop_assert!(starts >= limits.floor.min(limits.ceiling).min(limits.step_up));
    }

    #[test]
    fn widening_an_interval_never_lowers_a_plan(input in input(), wider in 0.0..1e6f64, first in prop::bool::ANY) {
        let widen = |estimate: Option<Estimate>| {
            estimate.and_then(|one| Estimate::new(one.mean(), one.low() - wider, one.high() + wider))
        };
        let mut wide = input.clone();
        if first {
            wide.demand_until_ready = widen(input.demand_until_ready);
        } else {
            wide.demand_at_lead = widen(input.demand_at_lead);
        }
        prop_assert!(plan(&wide).report.target >= plan(&input).report.target);
    }

    #[test]
    fn the_linter_sees_what_breaks_a_limit(input in input(), extra in 1..5u32) {
        let mut broken = plan(&input);
        let (starts, drains) = counts(&broken);
        broken.steps.retain(|step| matches!(step, PlanStep::Start));
        broken.report.target += drains;
        let beyond = input.settings.step_up - starts + extra;
        broken.steps.extend((0..beyond).map(|_| PlanStep::Start));
        broken.report.target += beyond;
        prop_assert!(!lint(&input, &broken).is_empty());
        let mut ghost = plan(&input);
        ghost.steps.push(PlanStep::Drain(InstanceId(999)));
        prop_assert!(!lint(&input, &ghost).is_empty());
    }
}
