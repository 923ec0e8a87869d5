//! What is learned from finished requests, and what happens when models break.
use crate::world::{World, settings};
use foretide_control::controller::Controller;
use foretide_control::io::Input;
use foretide_predictor::cost::model::CostModel;
use foretide_routing::decide::Reason;
use foretide_routing::observe::{Reported, Utilisation};
use foretide_routing::settings::{ReportedCost, RoutingSettings};
use std::time::Duration;

fn busy() -> World {
    busy_with(|_| {})
}

fn busy_with(change: impl FnOnce(&mut RoutingSettings)) -> World {
    let mut settings = settings();
    change(&mut settings);
    settings.pools[0].manager = None;
    settings.pools[0].endpoints = vec!["10.0.0.1:80".into(), "10.0.0.2:80".into()];
    let mut world = World::new(settings);
    world.load = (20.0, Duration::from_millis(40));
    world
}

#[test]
fn finished_requests_become_costs_decisions_and_history() {
    let mut world = busy();
    world.run_until(20_000);
    let report = world.controller.report(world.now);
    assert!(
        report.model.learned > 300 && report.model.rows > 300 && report.model.cells > 0,
        "{:?}",
        report.model
    );
    assert_eq!(report.model.classes.iter().sum::<u64>(), world.served);
    let pool = &report.pools[0];
    assert!((pool.request_rate - 20.0).abs() < 2.0, "{}", pool.request_rate);
    assert!((pool.work_rate - 0.8).abs() < 0.15, "{} of 20 requests of 40 ms a second", pool.work_rate);
    assert!(pool.actual.len() > 30 && world.count("record") > 30);
    assert!(pool.forecast.is_some() && !pool.forecast_past.is_empty() && pool.coverage.is_some());
    let decision = &report.routing_decisions[0];
    let by_id = world.controller.routing_decision(decision.id).expect("kept");
    assert_eq!((by_id.route.as_str(), by_id.pool.as_str()), ("all", "web"));
    let actual_us = by_id.actual_work_us.expect("measured");
    assert!((actual_us - 40_000.0).abs() < 2_000.0, "{actual_us} at speed 1 of 40 ms at its own");
    assert!(world.controller.routing_decision(u64::MAX).is_none());
}

#[test]
fn a_busy_service_is_learned_from_evenly_and_not_from_every_request() {
    let mut world = busy();
    world.load = (6_000.0, Duration::from_millis(10));
    world.run_until(6_000);
    let report = world.controller.report(world.now);
    assert!(world.served > 25_000);
    assert!((5_000..15_000).contains(&report.model.learned), "{} of {}", report.model.learned, world.served);
    assert_eq!(report.model.classes.iter().sum::<u64>(), world.served);
    assert_eq!(report.pools[0].instances.iter().map(|one| one.requests).sum::<u64>(), world.served);
    assert!(report.routing_decisions.iter().all(|decision| decision.actual_work_us.is_some()));
}

#[test]
fn a_broken_model_is_taken_out_of_service_and_everybody_is_served() {
    let mut world = busy();
    world.run_until(3_000);
    world.tell(Input::SetModel(Some(Box::new(CostModel::broken_for_drills()))));
    world.run_until(3_200);
    assert!(world.table.model.is_some());
    world.run_until(4_900);
    let before = world.controller.report(world.now);
    assert!(before.fallbacks.iter().any(|(reason, count)| *reason == Reason::ModelFailed && *count > 0));
    world.run_until(7_500);
    assert!(world.table.model.is_none());
    let error = world.controller.report(world.now).model.last_error.unwrap_or_default();
    assert!(error.contains("taken out of service"), "{error}");
    assert_eq!(world.refused, 0);
    world.tell(Input::SetModel(None));
    world.run_until(8_000);
    assert_eq!(world.refused, 0);
}

#[test]
fn what_was_learned_survives_a_restart() {
    let mut world = busy();
    world.run_until(12_000);
    let learned = world.controller.learned();
    let rows = learned.rows.len();
    let mut again = Controller::new(settings(), world.now);
    again.handle(world.now, Input::Learned(Box::new(learned)));
    let report = again.report(world.now);
    assert_eq!(report.model.rows, rows);
    let before = world.controller.report(world.now);
    assert_eq!(report.model.cells, before.model.cells);
    assert!(before.gates.iter().any(|gate| gate.mean_us > 0.0), "something to keep");
    assert_eq!(report.gates, before.gates);
}

/// Predicted work of the latest decision, ms.
fn predicted_ms(world: &World) -> f64 {
    let report = world.controller.report(world.now);
    report.routing_decisions[0].predicted.work_us.mean() / 1e3
}

#[test]
fn clients_that_give_up_on_slow_requests_still_teach_that_they_are_slow() {
    let mut world = busy();
    world.load = (10.0, Duration::from_millis(20));
    world.run_until(10_000);
    assert!((predicted_ms(&world) - 20.0).abs() < 2.0, "{}", predicted_ms(&world));
    // Requests become ten times as dear, and nobody waits for their end.
    world.load = (4.0, Duration::from_millis(200));
    world.impatient = Some(Duration::from_millis(120));
    let learned = world.controller.report(world.now).model.learned;
    world.run_until(25_000);
    assert!(world.controller.report(world.now).model.learned > learned);
    let predicted = predicted_ms(&world);
    assert!((45.0..=130.0).contains(&predicted), "at least what they had cost, 120 ms, no more: {predicted}");
    assert!(
        world.controller.report(world.now).routing_decisions[0].actual_work_us.is_none(),
        "not the whole cost"
    );
}

#[test]
fn a_pool_may_take_its_costs_from_reports() {
    let mut world = busy_with(|settings| {
        let cost = ReportedCost { field: "request_cost.x".to_owned(), unit: Duration::from_secs(1) };
        settings.pools[0].upstream.cost_from = Some(cost);
    });
    let utilisation = Utilisation { cpu: Some(0.75), ..Utilisation::default() };
    world.run_until(5_000);
    let report = world.controller.report(world.now);
    assert_eq!(report.model.learned, 0, "service time is not what a report says");
    assert!(report.pools[0].instances.iter().all(|one| one.utilisation.is_none()));
    world.reported = Reported { work_us: Some(7_000.0), utilisation };
    world.run_until(15_000);
    let report = world.controller.report(world.now);
    assert!(
        (predicted_ms(&world) - 7.0).abs() < 0.5,
        "7 ms reported, 40 ms served: {}",
        predicted_ms(&world)
    );
    assert_eq!(report.routing_decisions[0].actual_work_us, Some(7_000.0));
    for instance in &report.pools[0].instances {
        assert_eq!(instance.utilisation, Some(utilisation));
        assert!((instance.speed - 1.0).abs() < 0.05, "the unit is nobody's speed: {}", instance.speed);
        assert!(instance.load.loads.cost >= Some(0.75), "tier 2 believes the instance: {:?}", instance.load);
    }
    world.load.0 = 0.0;
    world.run_until(30_000);
    let report = world.controller.report(world.now);
    assert!(
        report.pools[0].instances.iter().all(|one| one.utilisation.is_none()),
        "old reports do not count"
    );
}
