//! What comes before a policy: cookies, labels, zones; and limits of instances.

use crate::fixture::{self, BUILT_AT};
use crate::narrow;
use crate::trial;
use crate::weights::{renew, table};
use foretide_predictor::blend::TierWeights;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_routing::decide::{Attempt, Decision, Reason};
use foretide_routing::live::Ticket;
use foretide_routing::select::affinity::token;
use foretide_routing::select::eligible::is_full;
use foretide_routing::select::groups::label;
use foretide_routing::select::narrow::{Narrowing, Wish};
use foretide_routing::settings::Policy;
use foretide_routing::settings::choice::ChoiceSettings;
use foretide_routing::table::{InstanceEntry, RoutingTable};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

const NOTHING: Wish = Wish { instance: None, label: None };

fn version(value: &str) -> Wish {
    Wish { label: Some(label(value)), ..NOTHING }
}

fn ask(table: &RoutingTable, number: u64, wish: Wish, tried: &[InstanceId]) -> Option<(Decision, Ticket)> {
    let attempt = Attempt { tried, id: number, chance: mix(number), wish, now: BUILT_AT };
    trial::ask(table, &fixture::head(number), attempt)
}

/// Shares of requests by instance, and how many were `Spilled`.
fn shares(table: &RoutingTable, wish: Wish, tried: &[InstanceId]) -> (Vec<u32>, u32) {
    let mut shares = vec![0; 20];
    let mut spilled = 0;
    for number in 0..1_000 {
        let (decision, _ticket) = ask(table, number, wish, tried).expect("instances");
        shares[decision.instance.0 as usize] += 1;
        assert_eq!(table.pools[0].instances[decision.index].id, decision.instance);
        spilled += u32::from(decision.reason == Reason::Spilled);
    }
    (shares, spilled)
}

fn only(change: impl FnOnce(&mut ChoiceSettings, ChoiceSettings)) -> ChoiceSettings {
    let mut choice = ChoiceSettings::default();
    change(&mut choice, narrow::all_on());
    choice
}

/// Eight instances, zones a and b in turn; versions: six times 1, twice 2.
fn instances() -> Vec<InstanceEntry> {
    let mut instances = fixture::instances(8);
    for (number, entry) in instances.iter_mut().enumerate() {
        entry.traits = narrow::traits(["a", "b"][number % 2], ["1", "2"][number / 6]);
    }
    instances
}

#[test]
fn a_label_narrows_the_choice_and_the_policy_is_right_within_it() {
    let choice = only(|choice, all| choice.subset = all.subset);
    for policy in trial::POLICIES {
        let mut table = table(policy, instances(), choice.clone());
        let (canary, spilled) = shares(&table, version("2"), &[]);
        assert_eq!((canary[6] + canary[7], spilled), (1_000, 0), "{policy:?} {canary:?}");
        assert!(canary[6] > 350 && canary[7] > 350, "{policy:?}: both of them: {canary:?}");
        let (anywhere, _) = shares(&table, NOTHING, &[]);
        assert!(anywhere[..8].iter().all(|&share| share > 20), "{policy:?} {anywhere:?}");
        assert_eq!(shares(&table, version("3"), &[]).1, 1_000, "{policy:?}: nobody has it");
        let both = [6, 7].map(InstanceId);
        assert_eq!(shares(&table, version("2"), &both).1, 1_000, "{policy:?}: all that have it were tried");
        Arc::make_mut(&mut table.pools[0].settings).choice.subset.as_mut().unwrap().fallback = false;
        renew(&mut table);
        assert!(
            ask(&table, 1, version("3"), &[]).is_none(),
            "{policy:?}: rather nobody than another version"
        );
        let (again, _) = shares(&table, version("2"), &both);
        assert_eq!(again[6] + again[7], 1_000, "{policy:?}: the same ones again");
    }
}

#[test]
fn the_own_zone_gets_all_until_too_many_of_it_are_out() {
    let choice = only(|choice, all| choice.locality = all.locality);
    let mut table = table(Policy::LeastRequest, instances(), choice);
    let near = |shares: &[u32]| shares.iter().step_by(2).sum::<u32>();
    let (all_well, spilled) = shares(&table, NOTHING, &[]);
    assert_eq!((near(&all_well), spilled), (1_000, 0));
    let all_near = [0, 2, 4, 6].map(InstanceId);
    assert_eq!(shares(&table, NOTHING, &all_near).1, 1_000, "who tried the whole zone goes to the others");
    // Two of four are out: 1.4 · 0.5.
    let pool = &mut table.pools[0];
    let known = fixture::known(&pool.instances);
    pool.instances.retain(|entry| ![0, 2].contains(&entry.id.0));
    pool.narrowing = Narrowing::new(
        &pool.settings,
        pool.form,
        &pool.instances,
        &known,
        TierWeights::START,
        Some(&pool.narrowing),
    );
    let (half, spilled) = shares(&table, NOTHING, &[]);
    assert!(near(&half).abs_diff(700) < 50 && spilled == 1_000 - near(&half), "{half:?}");
}

#[test]
fn a_zone_that_is_full_spills_over() {
    let choice = only(|choice, all| (choice.locality, choice.max_requests) = (all.locality, Some(2)));
    let table = table(Policy::P2c, instances(), choice);
    let held: Vec<_> = (0..16).map(|number| ask(&table, number, NOTHING, &[]).expect("room")).collect();
    let spilled: Vec<bool> = held.iter().map(|(decision, _)| decision.reason == Reason::Spilled).collect();
    assert_eq!(spilled, [[false; 8], [true; 8]].concat());
    assert!(ask(&table, 17, NOTHING, &[]).is_none() && is_full(&table.pools[0]));
}

#[test]
fn a_client_stays_where_it_was_while_it_can() {
    let choice = only(|choice, all| {
        (choice.affinity, choice.subset, choice.max_requests) = (all.affinity, all.subset, Some(2));
    });
    for policy in trial::POLICIES {
        let table = table(policy, instances(), choice.clone());
        let affinity = choice.affinity.as_ref().unwrap();
        let of = |address: &str| Some(token(affinity, "backend", address));
        let home = Wish { instance: of(&table.pools[0].instances[3].address), ..NOTHING };
        let held: Vec<_> = (0..2).map(|number| ask(&table, number, home, &[]).unwrap()).collect();
        assert!(held.iter().all(|(decision, _)| decision.index == 3 && decision.reason == Reason::Affinity));
        assert_ne!(ask(&table, 2, home, &[]).unwrap().0.index, 3, "{policy:?}: it is full");
        drop(held);
        assert_ne!(ask(&table, 2, home, &[InstanceId(3)]).unwrap().0.index, 3, "{policy:?}: it failed");
        let other = Wish { instance: home.instance, ..version("2") };
        assert!(ask(&table, 2, other, &[]).unwrap().0.index >= 6, "{policy:?}: it has another version");
        for gone in [of("10.9.9.9:80"), Some(0), Some(u64::MAX)] {
            let decision = ask(&table, 2, Wish { instance: gone, ..NOTHING }, &[]).unwrap().0;
            assert_ne!(decision.reason, Reason::Affinity, "{policy:?}");
        }
    }
    let affinity = choice.affinity.as_ref().unwrap();
    assert_ne!(token(affinity, "a", "10.0.0.1:80"), token(affinity, "b", "10.0.0.1:80"));
}

#[test]
fn no_instance_ever_has_more_than_it_is_allowed() {
    for policy in trial::POLICIES {
        let choice = only(|choice, _| choice.max_requests = Some(3));
        let table = table(policy, fixture::instances(5), choice.clone());
        let most = || table.pools[0].instances.iter().map(|one| one.live.in_flight().requests).max();
        let held: Vec<_> = (0..15).filter_map(|number| ask(&table, number, NOTHING, &[])).collect();
        assert_eq!((held.len(), most()), (15, Some(3)), "{policy:?}: all room is found");
        assert!(ask(&table, 15, NOTHING, &[]).is_none() && is_full(&table.pools[0]), "{policy:?}");
        drop(held);
        assert!(ask(&table, 15, NOTHING, &[]).is_some() && !is_full(&table.pools[0]), "{policy:?}");
        let alone = crate::weights::table(policy, fixture::instances(1), choice);
        let held: Vec<_> = (0..9).filter_map(|number| ask(&alone, number, NOTHING, &[])).collect();
        assert_eq!(held.len(), 3, "{policy:?}: nor one that is alone");
    }
}

#[test]
fn two_threads_do_not_both_get_the_last_room() {
    let choice = only(|choice, _| choice.max_requests = Some(2));
    let table = table(Policy::RoundRobin, fixture::instances(2), choice);
    let kept = [const { AtomicU32::new(0) }; 2];
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (table, kept) = (&table, &kept);
            scope.spawn(move || {
                for number in 0..3_000 {
                    // Who gives its place back at once is seen in flight for a moment, and is not counted here.
                    if let Some((decision, ticket)) = ask(table, thread << 32 | number, NOTHING, &[]) {
                        assert!(kept[decision.index].fetch_add(1, SeqCst) < 2);
                        kept[decision.index].fetch_sub(1, SeqCst);
                        drop(ticket);
                    }
                }
            });
        }
    });
    assert!(table.pools[0].instances.iter().all(|one| one.live.in_flight().requests == 0));
}
