//! Floors, crashes, announced events, draining, modes.
use crate::world::{World, event, settings};
use foretide_control::io::{FleetEvent, Input};
use foretide_control::plan::PlanReason;
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::{RoutingSettings, ScalingMode, ScalingRule};
use foretide_routing::table::InstanceState;
use std::time::Duration;

fn with(change: impl FnOnce(&mut RoutingSettings)) -> RoutingSettings {
    let mut settings = settings();
    change(&mut settings);
    settings
}

#[test]
fn the_floor_is_filled_at_once_and_ready_instances_get_requests() {
    let mut world = World::new(with(|settings| settings.pools[0].scaling.floor = 2));
    assert_eq!(world.count("start"), 2, "{:?}", world.log);
    assert_eq!(world.serving(), []);
    world.run_until(2_500);
    assert_eq!(world.serving().len(), 2);
}

#[test]
fn a_crashed_instance_leaves_the_table_at_once_and_is_replaced() {
    let mut world = World::new(with(|settings| settings.pools[0].scaling.floor = 2));
    world.load = (10.0, Duration::from_millis(50));
    world.run_until(20_000);
    let victim = world.serving()[0];
    let starts = world.count("start");
    world.kill(victim);
    world.run_until(20_010);
    assert!(!world.serving().contains(&victim), "gone with the next tick, which is due at once");
    assert_eq!(world.count("start"), starts + 1);
    world.run_until(22_000);
    assert_eq!(world.serving().len(), 2);
}

#[test]
fn capacity_for_an_announced_event_is_started_before_it() {
    let mut world = World::new(with(|settings| settings.events = vec![event("sale", 40_000, 60_000, 4.0)]));
    // Half of one instance.
    world.load = (10.0, Duration::from_millis(50));
    world.run_until(35_000);
    assert!(world.serving().len() <= 2, "{}", world.decisions());
    world.run_until(40_000);
    assert!(world.serving().len() >= 3, "ready when the crowd comes: {:?}", world.serving());
    let report = world.controller.report(world.now);
    let told = report.scaling_decisions.iter().find(|decision| decision.plan.reason == PlanReason::Event);
    let told = told.expect("a decision names the event");
    assert!(told.plan.words.contains("'sale'") && !told.instances.is_empty(), "{}", told.plan.words);
    assert_eq!(world.controller.scaling_decision(told.id).map(|decision| decision.at), Some(told.at));
}

#[test]
fn the_first_seconds_of_a_level_load_are_no_surge() {
    // Requests are taken for 10 ms each before any was measured; one instance carries them all.
    for (from_ms, rate, cost_ms) in [(0, 8.0, 100), (3_000, 16.0, 50), (10_000, 16.0, 50)] {
        let mut world = World::new(settings());
        world.run_until(from_ms);
        world.load = (rate, Duration::from_millis(cost_ms));
        world.run_until(from_ms + 20_000);
        let decisions = world.controller.report(world.now).scaling_decisions;
        let surge = decisions.iter().find(|decision| decision.plan.reason == PlanReason::Surge);
        assert!(surge.is_none(), "from {from_ms} ms on: {}", world.decisions());
    }
}

#[test]
fn a_surge_that_nobody_forecast_is_met_within_seconds() {
    let mut world = World::new(settings());
    world.load = (5.0, Duration::from_millis(50));
    world.run_until(30_000);
    assert_eq!(world.serving().len(), 1, "{}", world.decisions());
    world.load.0 = 55.0;
    world.run_until(34_000);
    assert!(world.serving().len() >= 4, "2.75 cost/s after 4 s: {}", world.decisions());
}

#[test]
fn by_request_rate_the_fleet_follows_requests_and_ignores_the_calendar() {
    let mut world = World::new(with(|settings| {
        settings.events = vec![event("sale", 20_000, 30_000, 5.0)];
        settings.pools[0].scaling.rule = ScalingRule::RequestRate;
        settings.pools[0].scaling.target_rate_per_s = Some(10.0);
    }));
    world.load = (9.8, Duration::from_millis(5));
    world.run_until(25_000);
    assert_eq!(world.serving().len(), 1, "{}", world.decisions());
    world.load.0 = 28.0;
    world.run_until(32_000);
    assert_eq!(world.serving().len(), 3, "{}", world.decisions());
}

#[test]
fn a_request_rate_target_is_learned_when_none_is_named() {
    let mut world = World::new(with(|settings| {
        settings.pools[0].scaling.rule = ScalingRule::RequestRate;
        settings.pools[0].scaling.step_up = 5;
    }));
    // 50 ms each: 16 requests a second fill an instance to 0.8.
    world.load = (10.0, Duration::from_millis(50));
    world.run_until(45_000);
    assert_eq!(world.serving().len(), 1, "{}", world.decisions());
    world.load.0 = 46.0;
    world.run_until(55_000);
    assert_eq!(world.serving().len(), 3, "{}", world.decisions());
}

#[test]
fn when_load_falls_the_fleet_shrinks_and_draining_waits_for_requests_in_flight() {
    let mut world = World::new(settings());
    world.load = (40.0, Duration::from_millis(50));
    world.run_until(20_000);
    let crowd = world.serving().len();
    assert!(crowd >= 3, "{crowd}");
    // Long requests, so that whoever drains still has some.
    world.load = (4.0, Duration::from_millis(2_500));
    world.run_until(22_500);
    world.load = (0.0, Duration::from_millis(50));
    while world.count("stop") == 0 {
        assert!(
            world.now.as_us() < 120_000_000,
            "never shrinks: {:?}",
            world.controller.report(world.now).pools
        );
        world.run_until(world.now.as_us() / 1_000 + 10);
        let report = world.controller.report(world.now);
        for one in report.pools[0].instances.iter().filter(|one| one.state == InstanceState::Draining) {
            assert!(!world.serving().contains(&one.id), "a draining instance gets nothing new");
        }
    }
    world.run_until(world.now.as_us() / 1_000 + 60_000);
    assert_eq!(world.serving().len(), 1, "down to the floor, not below");
}

#[test]
fn a_draining_instance_is_stopped_only_when_idle_or_too_late() {
    let mut world = World::new(with(|settings| settings.pools[0].scaling.floor = 2));
    world.run_until(3_000);
    // One request that takes 3 s and one that takes for ever.
    world.load.1 = Duration::from_secs(3);
    world.request();
    let mut lowered = settings();
    lowered.pools[0].manager = None;
    world.load.1 = Duration::from_secs(100);
    world.request();
    world.tell(Input::Settings(Box::new(lowered)));
    world.run_until(5_800);
    assert_eq!(world.count("stop"), 0, "{:?}", world.log);
    world.run_until(6_400);
    assert_eq!(world.count("stop"), 1, "the first is idle");
    world.run_until(7_900);
    assert_eq!(world.count("stop"), 1);
    world.run_until(8_200);
    assert_eq!(world.count("stop"), 2, "the second has used up its 5 s");
}

#[test]
fn observing_fills_the_floor_and_starts_nothing_above_it() {
    for mode in [ScalingMode::Observe, ScalingMode::Advise] {
        let mut world = World::new(with(|settings| settings.pools[0].scaling.mode = mode));
        world.load = (40.0, Duration::from_millis(50));
        world.run_until(20_000);
        assert_eq!(world.count("start"), 1);
        let report = world.controller.report(world.now);
        let wished = report.scaling_decisions.iter().any(|decision| decision.plan.target > 1);
        assert!(wished, "what it would do is said");
        let id = world.serving()[0];
        world.kill(id);
        world.run_until(22_000);
        assert_eq!(world.serving().len(), 1, "the floor is filled again");
    }
}

#[test]
fn failing_starts_are_tried_less_and_less_often_and_said() {
    let mut world = World::new(settings());
    world.starts_fail = true;
    world.cold_start = Duration::from_millis(100);
    world.run_until(31_000);
    let starts = world.count("start");
    assert!((4..=7).contains(&starts), "{starts} starts in 30 s");
    let report = world.controller.report(world.now);
    let words = &report.scaling_decisions[0].plan.words;
    assert!(words.contains("no such program"), "{words}");
    world.starts_fail = false;
    world.run_until(70_000);
    assert_eq!(world.serving().len(), 1, "and they go on");
}

#[test]
fn a_start_that_nobody_reports_on_is_given_up() {
    let mut world = World::new(settings());
    world.run_until(3_000);
    world.cold_start = Duration::from_secs(10_000);
    world.kill(InstanceId(1));
    world.run_until(60_000);
    assert!(world.count("stop 2") >= 1 && world.count("start") >= 3, "{}", world.decisions());
}

#[test]
fn cold_starts_are_measured() {
    let mut world = World::new(settings());
    world.cold_start = Duration::from_millis(3_500);
    world.run_until(6_000);
    assert_eq!(world.controller.report(world.now).pools[0].lead_s, 3.5);
}

#[test]
fn a_frozen_controller_neither_starts_nor_stops() {
    let mut world = World::new(settings());
    world.run_until(3_000);
    world.tell(Input::Freeze);
    let id = world.serving()[0];
    world.tell(Input::Fleet(FleetEvent::Exited { instance: id, asked: true }));
    world.load = (40.0, Duration::from_millis(50));
    world.run_until(10_000);
    assert_eq!((world.count("start"), world.count("stop")), (1, 0));
    assert_eq!(world.state(InstanceId(1)), None);
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    let run = |rate: f64| {
        let mut world =
            World::new(with(|settings| settings.events = vec![event("sale", 20_000, 25_000, 3.0)]));
        world.load = (rate, Duration::from_millis(50));
        world.run_until(30_000);
        world.log
    };
    assert_eq!(run(15.0), run(15.0));
    assert_ne!(run(15.0), run(35.0));
}

#[test]
fn a_tick_cut_short_is_taken_up_where_it_stopped() {
    let mut world = World::new(with(|settings| {
        let mut second = settings.pools[0].clone();
        second.name = "second".to_owned();
        settings.pools.push(second);
    }));
    assert_eq!(world.count("start"), 2);
    world.run_until(3_000);
    let published = world.count("publish");
    for _ in 0..12 {
        // One stage a tick.
        world.now = world.now.plus(Duration::from_secs(1));
        world.controller.begin_tick(world.now);
        world.controller.step();
        world.tell(Input::Fleet(FleetEvent::Started { instance: InstanceId(999), address: String::new() }));
    }
    assert!(world.count("publish") >= published + 3, "{:?}", world.log);
}
