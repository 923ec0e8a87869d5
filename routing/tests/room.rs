//! Room in a pool: what a request may claim, how long it would take, what others should send where, and leases.

mod fixture;

use fixture::BUILT_AT;
use foretide_predictor::hash::mix;
use foretide_predictor::id::PoolId;
use foretide_predictor::time::Timestamp;
use foretide_routing::claim::Claim;
use foretide_routing::decide::{Attempt, predict};
use foretide_routing::extract::described::{Description, Given, Unclear};
use foretide_routing::extract::head::PlainHead;
use foretide_routing::foresee;
use foretide_routing::lease::{LONGEST, LeaseBook, NoLease, Wanted};
use foretide_routing::live::{InFlight, Ticket};
use foretide_routing::observe::Outcome;
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::{AdmissionSettings, ClientHints, Policy, RoutingSettings};
use foretide_routing::table::RoutingTable;
use foretide_routing::weights;
use foretide_steering::admission::Priority;
use proptest::prelude::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms))
}

fn claim(settings: &RoutingSettings, headers: &[(&str, &str)]) -> (Option<Duration>, Priority) {
    let head = headers.iter().fold(PlainHead::new("GET", "/search/text"), |head, (name, value)| {
        head.with_header(name, value.as_bytes())
    });
    let Claim { deadline, priority } = Claim::of(&settings.routes[0], &settings.pools[0], &head);
    (deadline, priority)
}

#[test]
fn strangers_can_only_ask_for_less() {
    let mut settings = fixture::settings(Policy::Predictive);
    let greedy = [("x-slo-latency-ms", "3000"), ("x-priority", "high")];
    let modest = [("x-slo-latency-ms", "30"), ("x-priority", "low")];
    assert_eq!(claim(&settings, &modest), (None, Priority::Normal), "without admission nobody is asked");
    let mut with = |client_hints| {
        settings.pools[0].admission =
            Some(AdmissionSettings { margin: 0.6, client_hints, least_per_slot: 2, most_per_slot: 200 });
        [claim(&settings, &[]), claim(&settings, &greedy), claim(&settings, &modest)]
    };
    let usual = (Some(SECOND), Priority::Normal);
    assert_eq!(with(ClientHints::Ignore), [usual; 3]);
    assert_eq!(with(ClientHints::Lower), [usual, usual, (ms(30), Priority::Low)]);
    assert_eq!(with(ClientHints::Trust), [usual, (ms(3000), Priority::High), (ms(30), Priority::Low)]);
    settings.routes[0].level.latency = ms(200);
    settings.routes[0].level.priority = Priority::High;
    assert_eq!(claim(&settings, &[]), (ms(200), Priority::High), "the route before the pool's objective");
    assert_eq!(
        claim(&settings, &[("x-priority", "9"), ("x-slo-latency-ms", "-1")]),
        (ms(200), Priority::High)
    );
}

fn busy(table: &RoutingTable, index: usize, requests: usize, work_us: f64) -> Vec<Ticket> {
    let entry = &table.pools[0].instances[index];
    (0..requests).map(|_| Ticket::take(&entry.live, work_us, entry.concurrency, BUILT_AT)).collect()
}

#[test]
fn latency_is_foreseen_on_the_best_instance() {
    let table = fixture::table(Policy::Predictive, fixture::instances(2));
    let pool = &table.pools[0];
    assert_eq!(foresee::latency_us(pool, 10_000.0, 0), 10_000.0);
    let _held = [busy(&table, 0, 12, 1e6), busy(&table, 1, 7, 1e6)];
    // Seven others share four slots: as if four of the seven were before it.
    assert_eq!(foresee::latency_us(pool, 10_000.0, 0), 20_000.0);
    pool.instances[1].live.set_speed_residual(1.0, 0.5);
    let slow = foresee::latency_us(pool, 10_000.0, 0);
    assert!((slow - 10_000.0 * (1.0 + 9.0 / 4.0)).abs() < 1.0, "{slow}: now the fuller one is better");
    assert_eq!(foresee::fill(pool), (19, 8));
    let empty = fixture::table(Policy::Predictive, Vec::new());
    assert_eq!(foresee::latency_us(&empty.pools[0], 1.0, 7), f64::INFINITY);
    assert_eq!(foresee::queued_us(&empty.pools[0], 1.0, 0.0), f64::INFINITY);
}

#[test]
fn a_place_in_the_queue_is_foreseen_by_the_capacity_of_all() {
    let table = fixture::table(Policy::Predictive, fixture::instances(2));
    let pool = &table.pools[0];
    assert_eq!(foresee::queued_us(pool, 10.0, 800.0), 110.0);
    pool.instances.iter().for_each(|entry| entry.live.set_speed_residual(2f32.ln(), 1.0));
    assert!((foresee::queued_us(pool, 10.0, 800.0) - 220.0).abs() < 1e-3, "at half speed twice as long");
}

#[test]
fn shares_follow_capacity_warmth_load_and_errors() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(2));
    let share = |table: &RoutingTable| weights::shares(&table.pools[0], BUILT_AT)[0];
    assert_eq!(share(&table), 0.5);
    let pool = &mut table.pools[0];
    pool.instances[0].load_score = Some(0.9);
    pool.instances[1].load_score = Some(0.5);
    assert!((share(&table) - 0.4).abs() < 1e-6, "a fifth above and a fifth below the mean");
    table.pools[0].instances[0].load_score = None;
    assert_eq!(share(&table), 0.5, "who is not known is as the others");
    table.pools[0].instances[0].penalty_us = 100_000.0;
    assert!((share(&table) - 1.0 / 6.0).abs() < 1e-6, "who always fails keeps a fifth");
    table.pools[0].instances[0].penalty_us = 0.0;
    table.pools[0].instances[0].live.set_speed_residual(-1.0, 0.0);
    assert!((share(&table) - 1f64.exp() / (1.0 + 1f64.exp())).abs() < 1e-6);
    table.pools[0].instances[0].live.set_speed_residual(0.0, 0.0);
    table.pools[0].instances[0].warm_since = BUILT_AT;
    assert!((share(&table) - 0.1 / 1.1).abs() < 1e-6);
    assert_eq!(
        [weights::percent(0.1, 0.4), weights::percent(0.4, 0.4), weights::percent(1e-9, 1.0)],
        [25, 100, 1]
    );
    assert!(weights::shares(&fixture::table(Policy::P2c, Vec::new()).pools[0], BUILT_AT).is_empty());
}

#[test]
fn a_described_request_is_the_one_that_would_be_sent() {
    let table = fixture::table(Policy::Predictive, fixture::instances(1));
    let head = PlainHead::new("GET", "/search/text?limit=25&sort=date").with_header("x-api-key", b"k1");
    let sent = table.routes.extract(&head).expect("routed");
    let parameters =
        [("kind", Given::Text("text")), ("limit", Given::Number(25.0)), ("sort", Given::Text("date"))];
    let described = Description {
        route: Some("search"),
        pool: Some(PoolId(0)),
        consumer: Some("k1"),
        parameters: &parameters,
    };
    assert_eq!(table.routes.describe(&described), Ok(sent));
    let unclear = |described| table.routes.describe(&described).unwrap_err();
    assert_eq!(unclear(Description { route: Some("serch"), ..described }), Unclear::Route);
    assert_eq!(unclear(Description { pool: Some(PoolId(9)), ..described }), Unclear::Route);
    let wrong = [("rows", Given::Number(1.0))];
    assert_eq!(
        unclear(Description { parameters: &wrong, ..described }),
        Unclear::Parameter("rows".to_owned())
    );
}

/// Asks for a lease of this number and time.
fn grant(
    book: &mut LeaseBook,
    table: &RoutingTable,
    id: u64,
    at: Timestamp,
    ttl: Duration,
) -> Result<u64, NoLease> {
    let facts = table.routes.describe(&Description::default()).expect("there is a route");
    let prediction = predict(table, &facts, at);
    let attempt = Attempt { tried: &[], id, chance: mix(id), wish: Wish::default(), now: at };
    let wanted = Wanted { facts: &facts, prediction: &prediction, ttl, teaches: true };
    book.grant(table, &table.pools[0], wanted, attempt).map(|(_, until)| until.as_us())
}

fn in_flight(table: &RoutingTable) -> Vec<InFlight> {
    table.pools[0].instances.iter().map(|entry| entry.live.in_flight()).collect()
}

#[test]
fn leases_are_seen_in_the_scores_and_end_by_themselves() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(2));
    fixture::teach(&mut table, 300);
    let mut book = LeaseBook::new(3);
    let until = grant(&mut book, &table, 1, BUILT_AT, SECOND).unwrap();
    assert_eq!(until, BUILT_AT.plus(SECOND).as_us());
    assert_eq!(grant(&mut book, &table, 1, BUILT_AT, SECOND), Err(NoLease::Full), "the number is out");
    for id in 2..4 {
        grant(&mut book, &table, id, BUILT_AT, 2 * LONGEST).unwrap();
    }
    assert_eq!(grant(&mut book, &table, 4, BUILT_AT, SECOND), Err(NoLease::Full));
    let requests: Vec<u32> = in_flight(&table).iter().map(|one| one.requests).collect();
    assert!(requests == [1, 2] || requests == [2, 1], "{requests:?}: the next decisions see it");
    assert!(grant(&mut book, &table, 4, BUILT_AT.plus(SECOND), SECOND).is_ok(), "the first is over");
    let given_back =
        [2, 2, 1].map(|id| book.release(id, None, BUILT_AT).map(|released| released.observation.is_some()));
    assert_eq!(given_back, [Some(false), None, None], "once, and nobody said how it ended");
    assert_eq!(book.expire(BUILT_AT.plus(LONGEST)), 2, "no lease is longer");
    assert_eq!((book.len(), in_flight(&table)), (0, vec![InFlight::default(); 2]));
    let empty = fixture::table(Policy::Predictive, Vec::new());
    assert_eq!(grant(&mut book, &empty, 9, BUILT_AT, SECOND), Err(NoLease::NoInstance));
    assert!(book.is_empty());
}

#[test]
fn a_lease_whose_end_is_told_teaches_what_it_cost() {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(2));
    fixture::teach(&mut table, 300);
    let mut book = LeaseBook::new(3);
    grant(&mut book, &table, 1, BUILT_AT, SECOND).unwrap();
    let later = BUILT_AT.plus(Duration::from_millis(40));
    let told = book
        .release(1, Some(Outcome::Ok), later)
        .and_then(|released| released.observation)
        .expect("something to learn");
    assert_eq!(
        (told.outcome, told.upstream_us, told.arrived_at, told.retried),
        (Outcome::Ok, 40_000, BUILT_AT, false)
    );
    assert!((told.attained_us - 40_000.0).abs() < 1.0, "alone there: {}", told.attained_us);
    assert_eq!(told.decision.id, 1);
    assert_eq!(in_flight(&table), vec![InFlight::default(); 2]);
}

proptest! {
    #[test]
    fn whatever_happens_to_leases_nothing_is_left_in_flight(
        steps in prop::collection::vec((0u8..4, 0u64..30, 0u64..3_000), 0..200),
        dropped: bool,
    ) {
        let table = fixture::table(Policy::Predictive, fixture::instances(3));
        let mut book = LeaseBook::new(8);
        let mut now = BUILT_AT;
        for (kind, id, span_ms) in steps {
            match kind {
                0 | 1 => drop(grant(&mut book, &table, id, now, Duration::from_millis(span_ms))),
                2 => drop(book.release(id, Some(Outcome::Ok), now)),
                _ => {
                    now = now.plus(Duration::from_millis(span_ms));
                    book.expire(now);
                }
            }
            let requests: u32 = in_flight(&table).iter().map(|one| one.requests).sum();
            prop_assert!(book.len() <= 8 && requests as usize == book.len());
        }
        if dropped {
            drop(book);
        } else {
            book.expire(now.plus(LONGEST));
        }
        prop_assert_eq!(in_flight(&table), vec![InFlight::default(); 3]);
    }
}
