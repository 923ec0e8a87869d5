//! Decisions through the public door: reasons, fallbacks, policies.

mod fixture;
#[path = "fixture/narrow.rs"]
mod narrow;
#[path = "policies/narrowing.rs"]
mod narrowing;
#[path = "policies/scan.rs"]
mod scan;
#[path = "fixture/trial.rs"]
mod trial;
#[path = "policies/weights.rs"]
mod weights;

use fixture::BUILT_AT;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{Attempt, Decision, Reason, decide, predict};
use foretide_routing::live::{InFlight, LiveLoad, Taken, Ticket};
use foretide_routing::select::Selector;
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::Policy;
use foretide_routing::table::{InstanceEntry, RoutingTable};
use foretide_steering::buckets::Newcomer;
use std::sync::Arc;
use std::time::Duration;
use trial::POLICIES;

fn attempt(number: u64, tried: &[InstanceId]) -> Attempt<'_> {
    Attempt { tried, id: number, chance: mix(number), wish: Wish::default(), now: BUILT_AT }
}

fn ask(table: &RoutingTable, attempt: Attempt<'_>) -> Option<(Decision, Ticket)> {
    trial::ask(table, &fixture::head(attempt.id), attempt)
}

/// Publishes the pool anew with changed instances and these weights.
fn publish(table: &mut RoutingTable, weights: TierWeights, change: impl FnOnce(&mut [InstanceEntry])) {
    let pool = &mut table.pools[0];
    change(&mut pool.instances);
    pool.selector = Selector::new(&pool.settings, pool.form, &pool.instances, weights, Some(&pool.selector));
}

fn change(table: &mut RoutingTable, change: impl FnOnce(&mut [InstanceEntry])) {
    publish(table, TierWeights::START, change);
}

fn reason(table: &RoutingTable) -> Reason {
    ask(table, attempt(1, &[])).expect("instances").0.reason
}

/// Requests each instance gets when nothing stays in flight.
fn shares(table: &RoutingTable, requests: u64) -> Vec<u64> {
    let mut shares = vec![0; table.pools[0].instances.len()];
    for number in 0..requests {
        shares[ask(table, attempt(number, &[])).expect("instances").0.index] += 1;
    }
    shares
}

fn busy(table: &RoutingTable, index: usize, requests: usize, work_us: f64) -> Vec<Ticket> {
    let entry = &table.pools[0].instances[index];
    (0..requests).map(|_| Ticket::take(&entry.live, work_us, entry.concurrency, BUILT_AT)).collect()
}

#[test]
fn every_reason_is_named() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(5));
    assert_eq!(reason(&table), Reason::NoModel, "nothing learned yet");
    fixture::teach(&mut table, 1_000);
    assert_eq!(reason(&table), Reason::Predicted);
    assert_eq!(ask(&table, attempt(1, &[InstanceId(0)])).unwrap().0.reason, Reason::Retry);
    table.model = Some(Arc::new(CostModel::broken_for_drills()));
    assert_eq!(reason(&table), Reason::ModelFailed);
    table.pools[0].panic = true;
    assert_eq!(reason(&table), Reason::Panic);
    change(&mut table, |instances| instances.iter_mut().for_each(|entry| entry.penalty_us = f32::NAN));
    assert_eq!(reason(&table), Reason::NoScore);
    table.stale_after = Duration::ZERO;
    let late = Attempt { now: BUILT_AT.plus(Duration::from_micros(1)), ..attempt(1, &[]) };
    assert_eq!(ask(&table, late).unwrap().0.reason, Reason::StaleTable);
    for policy in POLICIES {
        assert_eq!(reason(&fixture::table(policy, fixture::instances(1))), Reason::OnlyChoice);
        assert!(ask(&fixture::table(policy, Vec::new()), attempt(1, &[])).is_none());
    }
    assert_eq!(reason(&fixture::table(Policy::Ketama, fixture::instances(2))), Reason::Policy);
}

#[test]
fn fallbacks_still_avoid_the_busier_one() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(2));
    change(&mut table, |instances| instances[0].penalty_us = f32::NAN);
    assert_eq!(shares(&table, 100), [0, 100], "the one without a score is left out");
    change(&mut table, |instances| instances[1].penalty_us = f32::INFINITY);
    let tickets = busy(&table, 1, 3, 100.0);
    assert_eq!(shares(&table, 100), [100, 0], "P2C on requests in flight");
    drop(tickets);
}

#[test]
fn a_decision_takes_its_predicted_work_on_and_the_ticket_takes_it_off() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(3));
    fixture::teach(&mut table, 1_000);
    let facts = table.routes.extract(&fixture::head(5)).unwrap();
    let expected = predict(&table, &facts, BUILT_AT).estimate.work_us.mean() as u64;
    let (decision, ticket) = ask(&table, attempt(5, &[])).unwrap();
    let live = Arc::clone(&table.pools[0].instances[decision.index].live);
    assert_eq!(live.in_flight(), InFlight { requests: 1, work_us: expected });
    assert_eq!((decision.in_flight, decision.work_in_flight_us), (0, 0), "as it was before");
    assert_eq!(decision.instance, table.pools[0].instances[decision.index].id);
    drop(ticket);
    assert_eq!(live.in_flight(), InFlight::default());
}

#[test]
fn the_smallest_score_wins_and_candidates_are_in_order() {
    let table = fixture::table(Policy::Predictive, fixture::instances(6));
    let held: Vec<Vec<Ticket>> =
        (0..6).map(|index| busy(&table, index, 4 + 2 * ((index + 3) % 6), 10_000.0)).collect();
    let (decision, _ticket) = ask(&table, attempt(1, &[])).unwrap();
    assert_eq!(decision.index, 3, "the one with the fewest in flight");
    let found: Vec<u32> =
        decision.candidates.iter().flatten().map(|candidate| candidate.instance.0).collect();
    assert_eq!(found, [3, 4, 5, 0]);
    let scores: Vec<f32> = decision.candidates.iter().flatten().map(|candidate| candidate.score_us).collect();
    assert!(scores.is_sorted() && scores[0] > 0.0, "{scores:?}");
    drop(held);
}

#[test]
fn a_light_request_passes_heavy_ones_by_count_and_not_by_work() {
    let table = fixture::table(Policy::Predictive, fixture::instances(2));
    // Five heavy ones interfere with a 10 ms request as five of its size do; twelve tiny ones hardly do.
    let held = [busy(&table, 0, 5, 5e6), busy(&table, 1, 12, 300.0)];
    assert_eq!(shares(&table, 50), [0, 50]);
    drop(held);
}

#[test]
fn speed_peers_penalties_and_tiers_move_the_choice() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(3));
    table.pools[0].instances[0].live.set_speed_residual(0.3, 0.5);
    change(&mut table, |instances| instances[1].penalty_us = 50_000.0);
    assert_eq!(shares(&table, 50), [0, 0, 50]);
    change(&mut table, |instances| instances[2].excess = 3.0);
    assert_eq!(shares(&table, 50), [50, 0, 0]);
    change(&mut table, |instances| {
        instances[0].background = 3.9;
        instances[1].penalty_us = 0.0;
    });
    assert_eq!(shares(&table, 50), [0, 50, 0]);
    // Without tiers 1 and 3 only the plain rule and measured speed are left.
    publish(&mut table, TierWeights { baseline: 0.0, cost: 1.0, peers: 0.0 }, |_| {});
    let plain = shares(&table, 400);
    assert!(plain[0] == 0 && plain[1].abs_diff(plain[2]) < 80, "{plain:?}");
}

#[test]
fn tried_ones_are_avoided_until_nothing_else_is_left() {
    for policy in POLICIES {
        let table = fixture::table(policy, fixture::instances(4));
        let tried = [InstanceId(0), InstanceId(1), InstanceId(3)];
        for number in 0..50 {
            assert_eq!(ask(&table, attempt(number, &tried)).unwrap().0.instance, InstanceId(2), "{policy:?}");
        }
        let all = [0, 1, 2, 3].map(InstanceId);
        assert!(ask(&table, attempt(1, &all)).is_some());
    }
}

#[test]
fn idle_equal_instances_get_equal_shares() {
    for policy in
        [Policy::Predictive, Policy::LeastRequest, Policy::P2c, Policy::PeakEwma, Policy::RoundRobin]
    {
        let table = fixture::table(policy, fixture::instances(5));
        let shares = shares(&table, 5_000);
        assert!(shares.iter().all(|&share| (870..1_130).contains(&share)), "{policy:?} {shares:?}");
    }
}

#[test]
fn turns_go_on_across_generations() {
    let instances = fixture::instances(3);
    let mut order = Vec::new();
    for generation in 0..6 {
        let table = fixture::table(Policy::RoundRobin, instances.clone());
        order.push(ask(&table, attempt(generation, &[])).unwrap().0.index);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn new_instances_are_ramped_up() {
    for policy in [Policy::Predictive, Policy::LeastRequest, Policy::P2c, Policy::PeakEwma] {
        let mut table = fixture::table(policy, fixture::instances(2));
        let held = [busy(&table, 0, 4, 10_000.0), busy(&table, 1, 4, 10_000.0)];
        for index in 0..2 {
            table.pools[0].instances[index].live.observe_latency(1_000.0, BUILT_AT);
        }
        change(&mut table, |instances| instances[0].warm_since = BUILT_AT);
        assert_eq!(shares(&table, 50), [0, 50], "{policy:?}: a cold one is spared");
        change(&mut table, |instances| instances[0].warm_since = BUILT_AT.minus(Duration::from_secs(10)));
        let warm = shares(&table, 400);
        assert!(warm.iter().all(|&share| share > 120), "{policy:?}: a warm one is not: {warm:?}");
        drop(held);
    }
}

#[test]
fn peak_ewma_prefers_the_quick_one() {
    let table = fixture::table(Policy::PeakEwma, fixture::instances(2));
    table.pools[0].instances[0].live.observe_latency(90_000.0, BUILT_AT);
    table.pools[0].instances[1].live.observe_latency(10_000.0, BUILT_AT);
    assert_eq!(shares(&table, 50), [0, 50]);
}

#[test]
fn prequal_takes_the_quickest_that_is_not_among_the_busiest() {
    let table = fixture::table(Policy::Prequal, fixture::instances(12));
    let live = |index: usize| &table.pools[0].instances[index].live;
    (0..12).for_each(|index| live(index).observe_latency(10_000.0, BUILT_AT));
    live(4).observe_latency(90_000.0, BUILT_AT);
    let slow = shares(&table, 5_000)[4];
    assert!(slow < 50, "{slow} of 5,000 to the slow one, where its share would be 417");
    // Quick, but two in three are.
    let quick = fixture::table(Policy::Prequal, fixture::instances(12));
    let live = |index: usize| &quick.pools[0].instances[index].live;
    (0..12).for_each(|index| live(index).observe_latency(10_000.0 + 10.0 * index as f64, BUILT_AT));
    let held = busy(&quick, 0, 40, 10_000.0);
    let hot = shares(&quick, 5_000)[0];
    assert!(hot < 50, "{hot} of 5,000 to the quickest, which is the busiest");
    drop(held);
    let cool = shares(&quick, 5_000)[0];
    assert!(cool > 417, "{cool} of 5,000 once it is idle");
}

#[test]
fn ketama_keeps_consumers_and_moves_few_when_a_member_goes() {
    let owners = |table: &RoutingTable| -> Vec<InstanceId> {
        (0..2_000u64)
            .map(|number| {
                let mut facts = table.routes.extract(&fixture::head(number)).unwrap();
                facts.query.consumer_key = mix(number);
                let prediction = predict(table, &facts, Timestamp::ZERO);
                decide(table, &table.pools[0], &facts, &prediction, attempt(number, &[])).unwrap().0.instance
            })
            .collect()
    };
    let full = fixture::instances(10);
    let mut less = full.clone();
    less.remove(4);
    let before = owners(&fixture::table(Policy::Ketama, full.clone()));
    assert_eq!(before, owners(&fixture::table(Policy::Ketama, full)), "the same for the same members");
    let after = owners(&fixture::table(Policy::Ketama, less));
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || *before == InstanceId(4), "only those of the one that went may move");
    }
    for id in 0..10 {
        let share = before.iter().filter(|owner| owner.0 == id).count();
        assert!((120..280).contains(&share), "{share} of 2,000 on one of ten");
    }
}

#[test]
fn a_consumer_is_kept_away_from_where_it_alone_fares_badly() {
    let table = fixture::table(Policy::Predictive, fixture::instances(3));
    let consumer = |number| table.routes.extract(&fixture::head(number)).unwrap().query.consumer_key;
    for _ in 0..50 {
        table.peers.observe(consumer(1), InstanceId(1), 1.0, false, BUILT_AT);
        table.peers.observe(consumer(2), InstanceId(1), 0.0, false, BUILT_AT);
    }
    let on_one = |number| {
        let tries = (0..100).map(|chance| Attempt { chance: mix(chance), ..attempt(number, &[]) });
        tries.filter(|&attempt| ask(&table, attempt).unwrap().0.index == 1).count()
    };
    assert_eq!(on_one(1), 0);
    assert!(on_one(2) > 15, "an instance that is bad for one is not for the others");
}

#[test]
fn a_ring_is_kept_while_its_members_and_weights_are() {
    let mut table = fixture::table(Policy::Ketama, fixture::instances(3));
    let ring = |table: &RoutingTable| match &table.pools[0].selector {
        Selector::Ketama(ring) => Arc::clone(ring),
        other => panic!("{other:?}"),
    };
    let first = ring(&table);
    change(&mut table, |instances| instances[0].penalty_us = 7.0);
    assert!(Arc::ptr_eq(&first, &ring(&table)));
    change(&mut table, |instances| instances[0].concurrency = 8);
    assert!(!Arc::ptr_eq(&first, &ring(&table)));
}

#[test]
fn one_request_in_a_hundred_goes_to_an_instance_without_news_and_no_retry_does() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(4));
    table.stale_after = Duration::MAX;
    // Number 2 was slow once and gets nothing any more.
    table.pools[0].instances[2].live.set_speed_residual(1.5, 0.5);
    let hear = |index: usize, now| drop(Ticket::take(&table.pools[0].instances[index].live, 1.0, 4, now));
    hear(2, BUILT_AT);
    let explored = |heard: &[usize], tried: &[InstanceId]| {
        let asked = (1..=10_000).filter(|&number| {
            let now = BUILT_AT.plus(Duration::from_secs(11 * number));
            heard.iter().for_each(|&index| hear(index, now));
            let (decision, _ticket) = ask(&table, Attempt { now, ..attempt(number, tried) }).unwrap();
            assert_eq!(decision.reason == Reason::Explored, decision.index == 2);
            decision.index == 2
        });
        asked.count()
    };
    let found = explored(&[0, 1, 3], &[]);
    assert!((60..140).contains(&found), "{found} of 10,000");
    assert_eq!(explored(&[0, 1, 3], &[InstanceId(0)]), 0, "not on a retry");
    assert_eq!(explored(&[0, 1, 2, 3], &[]), 0, "not where everybody is heard of");
}

#[test]
fn large_pools_are_searched_well_without_a_full_scan() {
    let table = fixture::table(Policy::Predictive, fixture::instances(1_000));
    let held: Vec<Vec<Ticket>> =
        (0..1_000).map(|index| busy(&table, index, 8 + index % 50, 10_000.0)).collect();
    let mut in_flight = 0;
    for number in 0..200 {
        let (decision, _ticket) = ask(&table, attempt(number, &[])).unwrap();
        assert!(decision.candidates.iter().all(Option::is_some));
        in_flight += decision.in_flight;
    }
    assert!(in_flight < 200 * 10, "mean {} in flight where the best have 8", in_flight as f64 / 200.0);
    drop(held);
}

#[test]
fn tickets_of_many_threads_end_at_exactly_nothing() {
    let table = fixture::table(Policy::Predictive, fixture::instances(3));
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let table = &table;
            scope.spawn(move || {
                let mut held = Vec::new();
                for number in 0..2_000u64 {
                    let now = BUILT_AT.plus(Duration::from_micros(number * 3));
                    let attempt = Attempt { now, ..attempt(thread << 32 | number, &[]) };
                    held.push(ask(table, attempt).unwrap().1);
                    if held.len() > 20 {
                        let attained = held.swap_remove((mix(number) % 20) as usize).finish(now);
                        assert!(attained.sharing_us >= 0.0 && attained.in_turn_us >= 0.0);
                    }
                }
            });
        }
    });
    let live = table.pools[0].instances.iter().map(|entry| &entry.live);
    let taken = |live: &Arc<LiveLoad>| live.taken().since(Taken::default()).0;
    assert_eq!(live.clone().map(taken).sum::<u64>(), 16_000);
    for live in live {
        assert_eq!(live.in_flight(), InFlight::default());
        assert_eq!(live.interference_us(Newcomer::of(1e9)), 0.0);
    }
}
