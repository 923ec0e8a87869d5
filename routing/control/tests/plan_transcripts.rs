//! What the planner says in situations that people know by name. The transcripts are golden: read the change before
//! you accept it.
use foretide_control::lint::lint;
use foretide_control::plan::{PlanInput, PlanInstance, PlanStep, plan};
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::{ScalingMode, ScalingRule, ScalingSettings};
use foretide_routing::table::InstanceState;
use std::fmt::Write;
use std::time::Duration;

fn instance(id: u32, state: InstanceState, load: f64) -> PlanInstance {
    PlanInstance { id: InstanceId(id), state, capacity: 0.5, load }
}

/// Two warm instances of half a unit each carry 0.6 cost/s; starts take 2 s; between 1 and 6 are allowed.
fn calm() -> PlanInput {
    PlanInput {
        now: Timestamp::from_us(1_000_000_000),
        settings: ScalingSettings {
            mode: ScalingMode::Act,
            rule: ScalingRule::Predictive,
            floor: 1,
            ceiling: 6,
            step_up: 3,
            step_down: 1,
            cooldown: Duration::from_secs(30),
            target_utilisation: 0.85,
            target_rate_per_s: None,
            assumed_lead: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
        },
        instances: vec![instance(1, InstanceState::Warm, 0.5), instance(2, InstanceState::Warm, 0.4)],
        fixed_capacity: 0.0,
        work_rate: 0.6,
        work_rate_slope: (0.0, 0.01),
        peak_seen: 2.0,
        request_rate: 40.0,
        demand_until_ready: Estimate::new(0.6, 0.5, 0.7),
        demand_at_lead: Estimate::new(0.6, 0.5, 0.75),
        event: None,
        lead: Duration::from_secs(2),
        capacity_per_instance: 0.5,
        last_change: None,
        recent_peak_wish: 0,
    }
}

/// What people would see: the situation, the steps, the sentence, the numbers.
fn transcript(title: &str, input: &PlanInput) -> String {
    let plan = plan(input);
    assert_eq!(lint(input, &plan), vec![], "{title}");
    let steps: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match step {
            PlanStep::Start => "start one".to_owned(),
            PlanStep::Drain(id) => format!("drain instance {}", id.0),
        })
        .collect();
    let report = &plan.report;
    let mut text = format!("{title}\n  {}\n", report.words);
    let steps = if steps.is_empty() { "nothing".to_owned() } else { steps.join(", ") };
    writeln!(text, "  does: {steps}").unwrap();
    let limit = report.limited_by.map_or("nothing".to_owned(), |limit| format!("{limit:?}"));
    writeln!(
        text,
        "  {:?} for {:?}, limited by {limit}; {} now, {} wished, {} after; demand {:.2}",
        report.action, report.reason, report.current, report.wish, report.target, report.demand
    )
    .unwrap();
    text
}

#[test]
fn scaling_up() {
    let mut text = transcript("an ordinary minute", &calm());

    let mut input = calm();
    input.event = Some("sale".to_owned());
    input.demand_at_lead = Estimate::new(1.5, 1.2, 2.1);
    text += &transcript("a campaign is announced", &input);

    let mut input = calm();
    input.demand_at_lead = Estimate::new(0.9, 0.7, 1.1);
    text += &transcript("the morning is forecast", &input);

    let mut input = calm();
    input.work_rate_slope = (0.3, 0.02);
    text += &transcript("a surge nobody forecast", &input);

    let mut input = calm();
    input.work_rate = 1.0;
    input.demand_at_lead = Estimate::new(0.2, 0.1, 0.3);
    text += &transcript("the forecast misses the crowd at the door", &input);

    let mut input = calm();
    input.demand_at_lead = Estimate::new(0.9, 0.7, 1.1);
    input.instances.push(instance(3, InstanceState::Warming, 0.0));
    text += &transcript("the one that is starting is enough", &input);

    let mut input = calm();
    input.instances[1].state = InstanceState::Unhealthy;
    text += &transcript("an instance is broken", &input);

    let mut input = calm();
    input.instances.clear();
    input.work_rate = 0.0;
    input.demand_until_ready = None;
    input.demand_at_lead = None;
    text += &transcript("the first start", &input);
    insta::assert_snapshot!("scaling_up", text);
}

#[test]
fn scaling_down() {
    let mut quiet = calm();
    quiet.work_rate = 0.1;
    quiet.demand_until_ready = Estimate::new(0.1, 0.05, 0.2);
    quiet.demand_at_lead = Estimate::new(0.1, 0.05, 0.2);
    quiet.recent_peak_wish = 1;
    let mut text = transcript("a quiet night", &quiet);

    let mut input = quiet.clone();
    input.demand_at_lead = Estimate::new(0.1, 0.0, 0.6);
    text += &transcript("a quiet night, but nobody knows for how long", &input);

    let mut input = quiet.clone();
    input.recent_peak_wish = 2;
    text += &transcript("it was needed a moment ago", &input);

    let mut input = quiet.clone();
    input.last_change = Some(input.now.minus(Duration::from_secs(5)));
    text += &transcript("the fleet has only just changed", &input);

    let mut input = quiet.clone();
    input.settings.floor = 2;
    text += &transcript("the floor", &input);

    let mut input = quiet.clone();
    input.instances.push(instance(3, InstanceState::Cold, 0.0));
    text += &transcript("what does not serve yet goes first", &input);
    insta::assert_snapshot!("scaling_down", text);
}

#[test]
fn limits_and_nonsense() {
    let mut input = calm();
    input.event = Some("broadcast".to_owned());
    input.demand_at_lead = Estimate::new(40.0, 30.0, 60.0);
    input.settings.step_up = 10;
    let mut text = transcript("the ceiling", &input);

    input.settings.step_up = 1;
    text += &transcript("one at a time", &input);

    let mut input = calm();
    input.demand_until_ready = Estimate::new(f64::NAN, 0.0, 1.0);
    input.demand_at_lead = Estimate::new(f64::NAN, 0.0, 1.0);
    text += &transcript("the forecast is NaN", &input);

    let mut input = calm();
    input.demand_at_lead = Estimate::new(3e11, 2e11, 4e11);
    text += &transcript("the forecast is absurd", &input);

    let mut input = calm();
    input.demand_at_lead = Estimate::new(80.0, 1.0, 90.0);
    input.settings.ceiling = 100;
    input.settings.step_up = 100;
    text += &transcript("the forecast is not credible", &input);

    let mut input = calm();
    input.work_rate = f64::NAN;
    input.demand_until_ready = None;
    input.demand_at_lead = None;
    text += &transcript("nothing is known", &input);

    let mut input = calm();
    input.settings.ceiling = 1;
    text += &transcript("the ceiling was lowered", &input);

    let mut input = calm();
    input.settings.ceiling = 2;
    input.instances[0].state = InstanceState::Unhealthy;
    text += &transcript("a broken instance fills the ceiling", &input);

    input.settings.floor = 2;
    text += &transcript("a broken instance of a fleet of fixed size", &input);
    input.last_change = Some(input.now.minus(Duration::from_secs(5)));
    text += &transcript("... that has only just changed", &input);
    input.last_change = None;
    input.instances.push(instance(3, InstanceState::Draining, 0.1));
    text += &transcript("... of which one is still leaving", &input);
    input.instances[2].state = InstanceState::Gone;
    input.instances.remove(0);
    text += &transcript("... and its place is free", &input);
    insta::assert_snapshot!("limits_and_nonsense", text);
}

#[test]
fn by_request_rate() {
    let mut input = calm();
    input.settings.rule = ScalingRule::RequestRate;
    input.settings.target_rate_per_s = Some(20.0);
    input.request_rate = 43.0;
    let mut text = transcript("within the tolerance", &input);
    input.request_rate = 90.0;
    text += &transcript("more requests", &input);
    input.request_rate = 10.0;
    input.recent_peak_wish = 2;
    text += &transcript("fewer requests, stabilised", &input);
    input.recent_peak_wish = 1;
    text += &transcript("fewer requests", &input);
    input.settings.target_rate_per_s = None;
    text += &transcript("the target is not learned yet", &input);
    insta::assert_snapshot!("by_request_rate", text);
}
