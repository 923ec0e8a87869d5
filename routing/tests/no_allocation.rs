//! The whole path of a decision allocates nothing.

mod fixture;
#[path = "fixture/narrow.rs"]
mod narrow;
#[path = "fixture/trial.rs"]
mod trial;

use fixture::BUILT_AT;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_routing::decide::{Attempt, Reason};
use foretide_routing::extract::head::PlainHead;
use foretide_routing::live::Ticket;
use foretide_routing::live::others::PoolSight;
use foretide_routing::live::shown::Shown;
use foretide_routing::select::affinity::token;
use foretide_routing::select::groups::label;
use foretide_routing::select::narrow::{Narrowing, Wish};
use foretide_routing::settings::Policy;
use foretide_routing::table::RoutingTable;
use foretide_steering::sight::Report;
use foretide_steering::wire;
use std::sync::Arc;
use std::time::Duration;
use trial::POLICIES;

fn one(table: &RoutingTable, head: &PlainHead, tried: &[InstanceId], number: u64) -> (Reason, Ticket) {
    let now = BUILT_AT.plus(Duration::from_micros(number));
    let attempt = Attempt { tried, id: number, chance: mix(number), wish: Wish::default(), now };
    let (decision, ticket) = trial::ask(table, head, attempt).expect("instances");
    (decision.reason, ticket)
}

fn allocations(mut run: impl FnMut()) -> u64 {
    allocation_counter::measure(&mut run).count_total
}

#[test]
fn extract_predict_decide_and_finish_allocate_nothing() {
    let heads: Vec<PlainHead> = (0..500).map(fixture::head).collect();
    let mut taught = fixture::table(Policy::Predictive, Vec::new());
    fixture::teach(&mut taught, 2_000);
    for (policy, count) in POLICIES.into_iter().map(|policy| (policy, 20)).chain([(Policy::Predictive, 500)])
    {
        let mut table = fixture::table(policy, fixture::instances(count));
        table.model.clone_from(&taught.model);
        table.costs = taught.costs.clone();
        let held: Vec<Ticket> =
            (0..100).map(|number| one(&table, &heads[number as usize], &[], number).1).collect();
        let tried = [InstanceId(3)];
        let mut reasons = [false; 2];
        let found = allocations(|| {
            for (number, head) in heads.iter().enumerate() {
                let (first, dropped) = one(&table, head, &[], number as u64);
                let (second, finished) = one(&table, head, &tried, number as u64);
                drop(dropped);
                assert!(finished.finish(BUILT_AT.plus(Duration::from_secs(1))).sharing_us >= 0.0);
                let best = if policy == Policy::Predictive { Reason::Predicted } else { Reason::Policy };
                reasons = [reasons[0] | (first == best), reasons[1] | (second == Reason::Retry)];
            }
        });
        assert_eq!(found, 0, "{policy:?} with {count} instances");
        assert_eq!(reasons, [true; 2], "{policy:?}: the usual path and the retry were taken");
        drop(held);
    }
}

#[test]
fn labels_zones_cookies_and_limits_allocate_nothing() {
    for policy in POLICIES {
        let mut table = fixture::table(policy, fixture::instances(20));
        let pool = &mut table.pools[0];
        Arc::make_mut(&mut pool.settings).choice = narrow::all_on();
        for (number, entry) in (0..).zip(&mut pool.instances) {
            entry.traits = narrow::traits(["a", "b"][number % 2], ["1", "2"][number / 10]);
        }
        let (settings, instances) = (&pool.settings, &pool.instances);
        let known = fixture::known(instances);
        pool.narrowing = Narrowing::new(settings, pool.form, instances, &known, TierWeights::START, None);
        let affinity = settings.choice.affinity.as_ref().unwrap();
        let instance = Some(token(affinity, &settings.name, &instances[7].address));
        let heads: Vec<PlainHead> = (0..100).map(fixture::head).collect();
        let mut reasons = [false; 3];
        let found = allocations(|| {
            for (head, number) in heads.iter().zip(0..) {
                let wishes = [
                    (Wish { instance, label: None }, Reason::Affinity),
                    (Wish { instance: None, label: Some(label("2")) }, Reason::Policy),
                    (Wish { instance: None, label: Some(label("3")) }, Reason::Spilled),
                ];
                for (seen, (wish, reason)) in reasons.iter_mut().zip(wishes) {
                    let attempt =
                        Attempt { tried: &[], id: number, chance: mix(number), wish, now: BUILT_AT };
                    let (decision, _ticket) = trial::ask(&table, head, attempt).expect("instances");
                    *seen |= decision.reason == reason || policy == Policy::Predictive;
                }
            }
        });
        assert_eq!((found, reasons), (0, [true; 3]), "{policy:?}");
    }
}

#[test]
fn hearing_of_others_requests_and_minding_them_allocates_nothing() {
    let heads: Vec<PlainHead> = (0..500).map(fixture::head).collect();
    let mut table = fixture::table(Policy::Predictive, fixture::instances(20));
    fixture::teach(&mut table, 2_000);
    let sight = Arc::new(PoolSight::new(Duration::from_secs(1)));
    table.pools[0].sight = Some(sight.clone());
    let report = Report { counts: [3; 16], residual: Some(0.1) };
    let mut value = String::with_capacity(wire::MOST_BYTES);
    let shown = Shown::default();
    let found = allocations(|| {
        for (number, head) in (0u64..).zip(&heads) {
            let (instances, now) = (&table.pools[0].instances, BUILT_AT.plus(Duration::from_micros(number)));
            let live = &instances[number as usize % 19].live;
            value.clear();
            wire::write(&report, &mut value);
            sight.hear(live, &wire::read(&value).expect("a report"), instances.len(), now);
            let guest = shown.enter(Some(2_000.0), 1_000.0, now);
            let (_, ticket) = one(&table, head, &[], number);
            shown.served(&guest, 2_000.0);
            assert_eq!(shown.report().requests(), 1);
            drop(ticket);
        }
    });
    assert_eq!(found, 0);
    let seen = sight.requests(&table.pools[0].instances[3].live, BUILT_AT);
    assert!(seen.is_some_and(|seen| seen > 40.0), "{seen:?}");
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))) > 0);
}

#[test]
fn tokens_and_bodies_without_escapes_allocate_nothing() {
    let mut settings = fixture::settings(Policy::Predictive);
    settings.routes[0].consumer =
        vec![foretide_routing::settings::ConsumerSource::UnverifiedJwtClaim("sub".to_owned())];
    let routes = foretide_routing::extract::CompiledRoutes::compile(&settings);
    let head =
        fixture::head(1).with_header("authorization", b"Bearer e30.eyJhIjp7ImIiOlsxXX0sInN1YiI6IjcifQ.x");
    let found = allocations(|| {
        let mut facts = routes.extract(&head).expect("routed");
        assert!(facts.consumer_named);
        routes.read_body(&mut facts, br#"{"other": 1, "prompt": "hello"}"#);
        assert_eq!(facts.query.numbers[2], 5.0);
    });
    assert_eq!(found, 0);
}
