//! New settings on a living controller.
use crate::world::{World, pool, settings};
use foretide_control::io::Input;
use foretide_control::report::StatusReport;
use foretide_routing::settings::{HedgeAfter, HedgeSettings, Policy};
use std::time::Duration;

#[test]
fn endpoints_that_stay_keep_their_load_and_the_others_come_and_go() {
    let mut before = settings();
    before.pools[0].manager = None;
    before.pools[0].endpoints = vec!["10.0.0.1:80".into(), "10.0.0.2:80".into()];
    let mut world = World::new(before.clone());
    world.load = (20.0, Duration::from_millis(400));
    world.run_until(5_000);
    let kept = world.table.pools[0].instances[1].clone();
    let generation = world.table.generation;
    let learned = world.controller.report(world.now).model.learned;
    let mut after = before;
    after.pools.insert(0, pool("other"));
    after.pools[0].manager = None;
    after.pools[1].endpoints = vec!["10.0.0.3:80".into(), "10.0.0.2:80".into()];
    world.tell(Input::Settings(Box::new(after)));
    let web = &world.table.pools[1];
    assert!(world.table.generation > generation);
    let addresses: Vec<&str> = web.instances.iter().map(|one| &*one.address).collect();
    assert_eq!(addresses, ["10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(web.instances[0].id, kept.id);
    assert!(std::sync::Arc::ptr_eq(&web.instances[0].live, &kept.live), "its load in flight is the same");
    assert_eq!(world.controller.report(world.now).model.learned, learned);
}

#[test]
fn a_new_weight_counts_at_once_and_the_instance_stays_the_same() {
    let mut before = settings();
    before.pools[0].manager = None;
    before.pools[0].policy = Policy::Weighted;
    before.pools[0].endpoints = vec!["10.0.0.1:80".into(), "10.0.0.2:80".into()];
    let mut world = World::new(before.clone());
    let first = world.table.pools[0].instances[0].clone();
    let mut after = before;
    after.pools[0].endpoints[0].weight = 3;
    world.tell(Input::Settings(Box::new(after)));
    let entry = &world.table.pools[0].instances[0];
    assert_eq!((first.weight, entry.weight, entry.id), (1, 3, first.id));
    assert!(std::sync::Arc::ptr_eq(&entry.live, &first.live));
}

#[test]
fn hedging_comes_goes_and_keeps_what_it_has_measured() {
    let mut world = World::new(settings());
    assert!(world.table.pools[0].hedging.is_none());
    let hedged = |budget| {
        let mut settings = settings();
        let after = HedgeAfter::Quantile(0.95);
        settings.pools[0].hedge = Some(HedgeSettings { after, budget });
        Input::Settings(Box::new(settings))
    };
    world.tell(hedged(0.05));
    let first = world.table.pools[0].hedging.clone().expect("it is on");
    world.tell(hedged(0.05));
    let same = world.table.pools[0].hedging.clone().expect("it still is");
    assert!(std::sync::Arc::ptr_eq(&first, &same));
    world.tell(hedged(0.1));
    let other = world.table.pools[0].hedging.clone().expect("it still is");
    assert!(!std::sync::Arc::ptr_eq(&first, &other), "another budget");
    world.tell(Input::Settings(Box::new(settings())));
    assert!(world.table.pools[0].hedging.is_none());
}

#[test]
fn instances_of_a_removed_pool_drain_and_stop() {
    let mut before = settings();
    before.pools.push(pool("old"));
    let mut world = World::new(before);
    world.run_until(3_000);
    assert_eq!(world.table.pools[1].instances.len(), 1);
    world.tell(Input::Settings(Box::new(settings())));
    assert_eq!(world.table.pools.len(), 1);
    world.run_until(4_000);
    assert_eq!(world.count("stop"), 1);
    assert_eq!(world.controller.report(world.now).pools.len(), 1, "and nothing is left of it");
    assert_eq!(world.serving().len(), 1);
}

#[test]
fn a_pool_that_comes_back_under_its_name_starts_afresh() {
    let mut world = World::new(settings());
    world.run_until(3_000);
    let mut without = settings();
    without.pools = vec![pool("other")];
    without.routes[0].pool = "other".to_owned();
    world.tell(Input::Settings(Box::new(without)));
    world.tell(Input::Settings(Box::new(settings())));
    world.run_until(6_000);
    assert_eq!(world.serving().len(), 1);
    assert_eq!(world.controller.report(world.now).pools.len(), 1);
}

#[test]
fn a_lower_ceiling_brings_the_fleet_down_step_by_step() {
    let mut high = settings();
    high.pools[0].scaling.floor = 4;
    let mut world = World::new(high);
    world.run_until(5_000);
    assert_eq!(world.serving().len(), 4);
    let mut low = settings();
    low.pools[0].scaling.ceiling = 2;
    world.tell(Input::Settings(Box::new(low)));
    world.run_until(15_000);
    assert!(world.serving().len() <= 2, "{:?}", world.log);
}

#[test]
fn what_was_learned_is_carried_over_into_other_steps_and_sizes() {
    let mut world = World::new(settings());
    world.load = (20.0, Duration::from_millis(20));
    world.run_until(20_000);
    let (before, refused) = (world.controller.report(world.now), world.refused);
    let mut after = settings();
    after.learning.step = Duration::from_secs(1);
    after.learning.key_cells = 1_024;
    after.learning.reservoir_rows = 5_000;
    world.tell(Input::Settings(Box::new(after)));
    let report = world.controller.report(world.now);
    assert_eq!((report.model.rows, report.model.learned), (before.model.rows, before.model.learned));
    assert_eq!(report.model.cells, before.model.cells);
    let steps = |report: &StatusReport| report.pools[0].actual.len();
    assert!((steps(&before) / 2).abs_diff(steps(&report)) <= 1, "{} {}", steps(&before), steps(&report));
    let mean = |report: &StatusReport| {
        let actual = &report.pools[0].actual;
        actual.iter().map(|step| step.1).sum::<f64>() / actual.len() as f64
    };
    assert!((mean(&report) / mean(&before) - 1.0).abs() < 0.1, "{} {}", mean(&report), mean(&before));
    world.run_until(30_000);
    let report = world.controller.report(world.now);
    assert!(report.model.learned > before.model.learned && report.pools[0].forecast.is_some());
    assert!(report.pools[0].actual.last().is_some_and(|step| step.0.as_us().is_multiple_of(1_000_000)));
    assert_eq!(world.refused, refused, "nobody noticed");
}
