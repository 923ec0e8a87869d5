//! Requests that were not let in: demand all the same, and explained.
use crate::world::{World, at, settings};
use foretide_control::io::Input;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::id::{PoolId, RouteId};
use foretide_routing::observe::{Refusal, RefusalReason};
use foretide_steering::admission::Priority;

fn refusal(ms: u64, pool: PoolId, work_us: f64) -> Input {
    Input::Refused(Box::new(Refusal {
        arrived_at: at(ms),
        pool,
        query: CostQuery::new(RouteId(0), 1, 2),
        work_us,
        latency_us: Some(9e5),
        deadline_us: Some(1e6),
        priority: Priority::Low,
        in_flight: 12,
        reason: RefusalReason::Late,
    }))
}

#[test]
fn a_pool_that_refuses_everything_still_sees_its_demand_and_grows() {
    let mut world = World::new(settings());
    world.run_until(3_000);
    let before = world.serving().len();
    for step in 0..100 {
        let ms = 3_000 + step * 100;
        // 20 a second of 100 ms each, on instances that do one second a second.
        (0..2).for_each(|_| world.tell(refusal(ms, PoolId(0), 100_000.0)));
        world.run_until(ms + 100);
    }
    let report = world.controller.report(world.now);
    let pool = &report.pools[0];
    assert!((pool.work_rate - 2.0).abs() < 0.4, "{}", pool.work_rate);
    assert!((pool.request_rate - 20.0).abs() < 4.0, "{}", pool.request_rate);
    assert!(world.serving().len() > before, "{}", world.decisions());
    let newest = &report.refusals[0];
    assert_eq!((newest.pool.as_str(), newest.route.as_str()), ("web", "all"));
    assert_eq!((newest.reason, newest.priority), (RefusalReason::Late, "low"));
    assert_eq!(report.refusals.len(), 200);
}

#[test]
fn absurd_refusals_and_those_of_unknown_pools_move_nothing() {
    let mut world = World::new(settings());
    world.run_until(1_000);
    for work_us in [f64::NAN, f64::INFINITY, -1.0] {
        world.tell(refusal(1_000, PoolId(0), work_us));
    }
    world.tell(refusal(1_000, PoolId(9), 1e6));
    world.run_until(2_000);
    let report = world.controller.report(world.now);
    assert!(report.pools[0].work_rate.is_finite());
    assert_eq!(report.refusals.len(), 3);
}
