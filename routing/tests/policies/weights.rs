//! Weights, consistent hashing and its bounds: what operators expect of policies they know.

use crate::fixture::{self, BUILT_AT};
use crate::trial;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_routing::decide::{Attempt, Decision, decide, predict};
use foretide_routing::live::Ticket;
use foretide_routing::select::Selector;
use foretide_routing::select::narrow::{Narrowing, Wish};
use foretide_routing::settings::Policy;
use foretide_routing::settings::choice::ChoiceSettings;
use foretide_routing::table::{InstanceEntry, RoutingTable};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const NONE: &[InstanceId] = &[];

fn weighted(weights: &[u32]) -> Vec<InstanceEntry> {
    let mut instances = fixture::instances(weights.len() as u32);
    instances.iter_mut().zip(weights).for_each(|(entry, &weight)| entry.weight = weight);
    instances
}

pub(crate) fn table(policy: Policy, instances: Vec<InstanceEntry>, choice: ChoiceSettings) -> RoutingTable {
    let mut table = fixture::table(policy, instances);
    Arc::make_mut(&mut table.pools[0].settings).choice = choice;
    renew(&mut table);
    table
}

/// The next generation.
pub(crate) fn renew(table: &mut RoutingTable) {
    let pool = &mut table.pools[0];
    let (settings, form, instances) = (&pool.settings, pool.form, &pool.instances);
    let known = fixture::known(instances);
    let before = Some(&pool.narrowing);
    pool.narrowing = Narrowing::new(settings, form, instances, &known, TierWeights::START, before);
    pool.selector = Selector::new(settings, form, instances, TierWeights::START, Some(&pool.selector));
}

/// A request of this consumer.
fn ask_for(table: &RoutingTable, consumer: u64, number: u64, tried: &[InstanceId]) -> (Decision, Ticket) {
    let mut facts = table.routes.extract(&fixture::head(number)).expect("routed");
    facts.query.consumer_key = mix(consumer);
    let prediction = predict(table, &facts, BUILT_AT);
    let attempt = Attempt { tried, id: number, chance: mix(number), wish: Wish::default(), now: BUILT_AT };
    decide(table, &table.pools[0], &facts, &prediction, attempt).expect("instances")
}

fn order(table: &RoutingTable, requests: u64, tried: &[InstanceId]) -> Vec<u32> {
    (0..requests).map(|number| ask_for(table, number, number, tried).0.instance.0).collect()
}

fn shares(table: &RoutingTable, requests: u64, tried: &[InstanceId]) -> Vec<u64> {
    let mut shares = vec![0; table.pools[0].instances.len()];
    order(table, requests, tried).into_iter().for_each(|id| shares[id as usize] += 1);
    shares
}

fn busy(table: &RoutingTable, index: usize, requests: usize) -> Vec<Ticket> {
    let entry = &table.pools[0].instances[index];
    (0..requests).map(|_| Ticket::take(&entry.live, 1e4, entry.concurrency, BUILT_AT)).collect()
}

#[test]
fn turns_go_by_weight_smoothly_and_on_across_generations() {
    let mut table = table(Policy::Weighted, weighted(&[5, 1, 1]), ChoiceSettings::default());
    let mut seen = Vec::new();
    for number in 0..14 {
        seen.push(ask_for(&table, number, number, NONE).0.instance.0);
        renew(&mut table);
    }
    assert_eq!(seen, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(
        shares(&table, 70, &[InstanceId(0)]),
        [0, 50, 20],
        "who follows takes the turns of one already tried"
    );
    table.pools[0].instances[2].weight = 6;
    renew(&mut table);
    assert_eq!(shares(&table, 1_200, NONE), [500, 100, 600], "new weights count from the next generation on");
}

#[test]
fn one_that_is_ramped_up_lets_turns_pass() {
    for policy in [Policy::Weighted, Policy::RoundRobin] {
        let mut table = table(policy, weighted(&[1, 1]), ChoiceSettings::default());
        table.pools[0].instances[1].warm_since = BUILT_AT;
        renew(&mut table);
        let cold = shares(&table, 10_000, NONE)[1];
        assert!((400..600).contains(&cold), "{policy:?}: a tenth of its turns: {cold}");
        table.pools[0].instances[0].warm_since = BUILT_AT;
        renew(&mut table);
        let both = shares(&table, 10_000, NONE);
        assert!(
            both[0].abs_diff(both[1]) < 600,
            "{policy:?}: both are cold, and everybody is served: {both:?}"
        );
    }
}

#[test]
fn an_idle_fleet_and_a_busy_one_are_shared_by_weight() {
    for policy in [Policy::LeastRequest, Policy::P2c, Policy::PeakEwma] {
        let table = table(policy, weighted(&[6, 3, 1]), ChoiceSettings::default());
        let idle = shares(&table, 10_000, NONE);
        let near = |share: u64, expected: u64| share.abs_diff(expected) < 450;
        assert!(near(idle[0], 6_000) && near(idle[1], 3_000) && near(idle[2], 1_000), "{policy:?} {idle:?}");
    }
    for policy in [Policy::LeastRequest, Policy::P2c] {
        let table = table(policy, weighted(&[6, 3, 1]), ChoiceSettings::default());
        let held: Vec<Ticket> = (0..1_000).map(|number| ask_for(&table, 0, number, NONE).1).collect();
        let in_flight = |index: usize| table.pools[0].instances[index].live.in_flight().requests;
        let shares = [0, 1, 2].map(in_flight);
        assert!(shares[0].abs_diff(600) < 30 && shares[1].abs_diff(300) < 30, "{policy:?} {shares:?}");
        drop(held);
    }
}

fn owners(table: &RoutingTable) -> Vec<InstanceId> {
    (0..5_000).map(|consumer| ask_for(table, consumer, consumer, NONE).0.instance).collect()
}

#[test]
fn maglev_shares_evenly_and_few_move_when_a_member_goes() {
    let full = fixture::instances(10);
    let before = owners(&fixture::table(Policy::Maglev, full.clone()));
    for id in 0..10 {
        let share = before.iter().filter(|owner| owner.0 == id).count();
        assert!((420..580).contains(&share), "{share} of 5,000 on one of ten");
    }
    let mut less = full.clone();
    less.remove(4);
    let after = owners(&fixture::table(Policy::Maglev, less));
    let others = before.iter().filter(|owner| owner.0 != 4).count();
    let moved = before.iter().zip(&after).filter(|(before, after)| before.0 != 4 && before != after).count();
    assert!(moved * 50 < others, "{moved} of the {others} of others moved: above 2 %");
    let mut turned = full;
    turned.reverse();
    assert_eq!(
        before,
        owners(&fixture::table(Policy::Maglev, turned)),
        "the order of learning of them is nothing"
    );
}

#[test]
fn hashing_honours_weights_and_keeps_its_table_while_members_are_the_same() {
    let mut table = table(Policy::Maglev, weighted(&[3, 1, 1]), ChoiceSettings::default());
    let shares = shares(&table, 10_000, NONE);
    assert!(shares[0].abs_diff(6_000) < 200 && shares[1].abs_diff(2_000) < 200, "{shares:?}");
    let places = |table: &RoutingTable| match &table.pools[0].selector {
        Selector::Maglev(places) => Arc::clone(places),
        other => panic!("{other:?}"),
    };
    let first = places(&table);
    table.pools[0].instances[0].penalty_us = 7.0;
    renew(&mut table);
    assert!(Arc::ptr_eq(&first, &places(&table)));
    table.pools[0].instances[0].weight = 2;
    renew(&mut table);
    assert!(!Arc::ptr_eq(&first, &places(&table)));
}

#[test]
fn a_consumer_that_sends_too_much_spills_over_to_the_same_others() {
    for policy in [Policy::Ketama, Policy::Maglev] {
        let bound = |factor| ChoiceSettings { hash_balance_factor: factor, ..ChoiceSettings::default() };
        let free = table(policy, fixture::instances(8), bound(None));
        let home = ask_for(&free, 7, 0, NONE).0.index;
        let held: Vec<Ticket> = (0..400).map(|number| ask_for(&free, 7, number, NONE).1).collect();
        assert_eq!(
            free.pools[0].instances[home].live.in_flight().requests,
            400,
            "{policy:?} without a bound"
        );
        drop(held);
        let bounded = table(policy, fixture::instances(8), bound(Some(1.25)));
        assert_eq!(ask_for(&bounded, 7, 0, NONE).0.index, home, "{policy:?}: its own, while there is room");
        let held: Vec<Ticket> = (0..400).map(|number| ask_for(&bounded, 7, number, NONE).1).collect();
        let most = bounded.pools[0].instances.iter().map(|entry| entry.live.in_flight().requests).max();
        // 1.25 · 400 / 8.
        assert_eq!(most, Some(63), "{policy:?}");
        drop(held);
        let others = [busy(&bounded, home, 50), busy(&bounded, (home + 1) % 8, 1)];
        let next = ask_for(&bounded, 7, 1, NONE).0.index;
        assert!(
            next != home && ask_for(&bounded, 7, 2, NONE).0.index == next,
            "{policy:?}: always the same next one"
        );
        drop(others);
    }
}

proptest! {
    #[test]
    fn whatever_was_tried_somebody_else_is_chosen(
        weights in prop::collection::vec(1u32..9, 2..12),
        mask: u16,
        balance in prop::option::of(1.0f64..3.0),
        cold in any::<bool>(),
    ) {
        let mut instances = weighted(&weights);
        if cold {
            instances[0].warm_since = BUILT_AT.minus(Duration::from_secs(1));
        }
        let tried: Vec<InstanceId> =
            (0..weights.len()).filter(|&id| mask >> id & 1 == 1).map(|id| InstanceId(id as u32)).collect();
        for policy in trial::POLICIES {
            let choice = ChoiceSettings { hash_balance_factor: balance, ..ChoiceSettings::default() };
            let table = table(policy, instances.clone(), choice);
            let mut held = Vec::new();
            for number in 0..20 {
                let (decision, ticket) = ask_for(&table, number % 3, number, &tried);
                prop_assert!(tried.len() == weights.len() || !tried.contains(&decision.instance), "{:?}", policy);
                held.push(ticket);
            }
            drop(held);
            prop_assert!(table.pools[0].instances.iter().all(|one| one.live.in_flight().requests == 0));
        }
    }
}
