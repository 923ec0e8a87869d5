//! Active checks, passive ejection with its cap, panic.
use crate::world::{World, settings};
use foretide_control::io::Input;
use foretide_predictor::id::InstanceId;
use foretide_routing::observe::Utilisation;
use foretide_routing::settings::{Policy, RoutingSettings, SuccessRateSettings};
use foretide_routing::table::InstanceState;
use std::time::Duration;

/// Endpoints only, no manager.
fn endpoints(count: usize) -> RoutingSettings {
    let mut settings = settings();
    settings.pools[0].manager = None;
    settings.pools[0].policy = Policy::RoundRobin;
    settings.pools[0].endpoints =
        (0..count).map(|index| format!("10.0.0.{index}:80").as_str().into()).collect();
    settings
}

fn probe(world: &mut World, id: u32, verdicts: &[bool]) {
    for &healthy in verdicts {
        world.tell(Input::Probed { instance: InstanceId(id), healthy });
    }
    let soon = world.now.as_us() / 1_000 + 20;
    world.run_until(soon);
}

#[test]
fn endpoints_serve_from_the_first_table_on() {
    assert_eq!(World::new(endpoints(3)).serving().len(), 3);
}

#[test]
fn what_an_instance_says_of_itself_is_its_load_for_a_while() {
    let mut world = World::new(endpoints(2));
    let utilisation = Utilisation { cpu: Some(0.75), ..Utilisation::default() };
    world.tell(Input::Said { instance: InstanceId(2), utilisation });
    world.tell(Input::Said { instance: InstanceId(99), utilisation });
    let said = |world: &World| {
        let pool = world.controller.report(world.now).pools.remove(0);
        pool.instances.iter().map(|instance| instance.utilisation).collect::<Vec<_>>()
    };
    assert_eq!(said(&world), [None, Some(utilisation)]);
    world.run_until(world.now.as_us() / 1_000 + 11_000);
    assert_eq!(said(&world), [None, None], "ten seconds later it says nothing");
}

#[test]
fn failed_checks_take_an_instance_out_and_passed_ones_bring_it_back() {
    let mut world = World::new(endpoints(3));
    probe(&mut world, 2, &[false]);
    assert_eq!(world.serving().len(), 3, "once is chance");
    probe(&mut world, 2, &[false]);
    assert_eq!(world.serving(), [InstanceId(1), InstanceId(3)]);
    assert_eq!(world.state(InstanceId(2)), Some(InstanceState::Unhealthy));
    probe(&mut world, 2, &[true, true]);
    assert_eq!(world.serving().len(), 3);
}

#[test]
fn when_too_few_are_healthy_all_are_used() {
    let mut world = World::new(endpoints(4));
    for id in 1..=2 {
        probe(&mut world, id, &[false, false]);
    }
    assert_eq!((world.serving().len(), world.table.pools[0].panic), (2, false), "half is above 0.4");
    probe(&mut world, 3, &[false, false]);
    assert_eq!((world.serving().len(), world.table.pools[0].panic), (4, true));
    probe(&mut world, 1, &[true, true]);
    assert_eq!((world.serving().len(), world.table.pools[0].panic), (2, false));
}

#[test]
fn failing_instances_are_ejected_up_to_the_cap_and_come_back() {
    let mut world = World::new(endpoints(4));
    world.load = (40.0, Duration::from_millis(20));
    world.failing = vec![InstanceId(1), InstanceId(2), InstanceId(3)];
    world.run_until(2_500);
    let serving = world.serving();
    assert_eq!(serving.len(), 2, "half of them at most: {serving:?}");
    assert!(serving.contains(&InstanceId(4)));
    world.failing.clear();
    world.run_until(12_000);
    assert_eq!(world.serving().len(), 4, "ejections end");
}

#[test]
fn an_instance_that_fails_is_charged_for_it_until_it_fades() {
    let mut world = World::new(endpoints(2));
    world.load = (20.0, Duration::from_millis(20));
    world.failing = vec![InstanceId(2)];
    world.run_until(1_500);
    let penalty =
        |world: &World| world.table.pools[0].instances.iter().map(|one| one.penalty_us).collect::<Vec<_>>();
    assert!(penalty(&world)[0] == 0.0 && penalty(&world)[1] > 1_000.0, "{:?}", penalty(&world));
    world.load.0 = 0.0;
    world.run_until(100_000);
    assert!(penalty(&world)[1] < 10.0, "{:?}", penalty(&world));
}

#[test]
fn who_fails_more_often_than_the_others_is_ejected_without_failing_in_a_row() {
    let mut settings = endpoints(6);
    settings.pools[0].ejection.consecutive_failures = 0;
    let mut blind = World::new(settings.clone());
    settings.pools[0].ejection.success_rate = Some(SuccessRateSettings {
        stdev_factor: 1.9,
        hosts: 5,
        requests: 20,
        every: Duration::from_secs(1),
    });
    let mut world = World::new(settings);
    for world in [&mut blind, &mut world] {
        world.load = (300.0, Duration::from_millis(20));
        world.failing = vec![InstanceId(2)];
        world.run_until(4_000);
    }
    assert_eq!(blind.serving().len(), 6);
    assert_eq!(world.state(InstanceId(2)), Some(InstanceState::Ejected));
    assert_eq!(world.serving().len(), 5);
    world.failing.clear();
    world.run_until(12_000);
    assert_eq!(world.serving().len(), 6, "and it comes back");
    world.failing = (1..=6).map(InstanceId).collect();
    world.run_until(16_000);
    assert_eq!(world.serving().len(), 6, "where all fail nobody is worse than the others");
}
