//! What does not go through is said clearly, and tried elsewhere where that is safe.

use std::time::Duration;

use foretide_routing::observe::Outcome;

use crate::client::{get, http1, http2, post, try_send};
use crate::instance;
use crate::world::{World, eventually};

#[tokio::test]
async fn no_route_is_404_and_an_empty_pool_503() {
    let world = World::start(&[]);
    for client in [http1(), http2()] {
        let answer = get(&client, &world.url("/elsewhere")).await;
        assert_eq!(answer.status(), 404);
        assert!(answer.headers().contains_key("x-request-id"));
        let answer = get(&client, &world.url("/none/x")).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "1");
    }
    assert_eq!(world.ring.pop(), None, "nothing was tried");
}

#[tokio::test]
async fn a_pool_of_dead_instances_is_502_and_each_try_is_observed() {
    let dead = [instance::nobody().await, instance::nobody().await];
    let world = World::start(&dead);
    let answer = get(&http1(), &world.url("/api")).await;
    assert_eq!(answer.status(), 502);
    let seen = world.observed(3).await;
    assert_eq!(seen.len(), 3, "as many tries as the pool allows");
    assert!(seen.iter().all(|one| one.outcome == Outcome::ProducerUnreachable && one.attained_us == 0.0));
    assert_eq!(seen.iter().map(|one| one.retried).collect::<Vec<_>>(), [true, true, false]);
    assert_ne!(seen[0].decision.instance, seen[1].decision.instance, "not the same one again");
    world.at_rest().await;
}

#[tokio::test]
async fn a_dead_instance_costs_no_client_an_error() {
    let (one, two, dead) = (instance::start().await, instance::start().await, instance::nobody().await);
    let world = World::start(&[one.address, dead, two.address]);
    let client = http1();
    for turn in 0..60 {
        // Nothing was sent to the dead one, so a POST may be tried again too.
        let answer = match turn % 2 {
            0 => get(&client, &world.url("/api")).await,
            _ => post(&client, &world.url("/api/echo"), "once").await,
        };
        assert_eq!(answer.status(), 200, "request {turn}");
    }
    assert!(world.stats.retries() > 0, "the dead one was met");
    world.at_rest().await;
}

#[tokio::test]
async fn only_what_is_safe_is_repeated_after_it_was_sent() {
    let (mute, well) = (instance::mute().await, instance::start().await);
    let world = World::start(&[mute.address, well.address]);
    let client = http1();
    for _ in 0..8 {
        assert_eq!(get(&client, &world.url("/api")).await.status(), 200);
    }
    let mut broken = 0;
    for _ in 0..8 {
        let answer = post(&client, &world.url("/api/echo"), "once").await;
        assert!([200, 502].contains(&answer.status().as_u16()));
        broken += u32::from(answer.status() == 502);
    }
    assert!(broken > 0, "a POST that may have arrived is not repeated");
    world.at_rest().await;
}

#[tokio::test]
async fn an_instance_killed_under_load_is_not_noticed_by_safe_requests() {
    let (one, two) = (instance::start().await, instance::start().await);
    let world = World::start(&[one.address, two.address]);
    let url = world.url("/api/sleep/2");
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move {
                let client = http1();
                for _ in 0..60 {
                    assert_eq!(get(&client, &url).await.status(), 200);
                }
            })
        })
        .collect();
    eventually(|| world.stats.requests() > 100).await;
    drop(one);
    for client in clients {
        client.await.expect("no request failed");
    }
    world.at_rest().await;
}

#[tokio::test]
async fn the_retry_budget_is_a_limit() {
    let dead = [instance::nobody().await, instance::nobody().await];
    let world = World::with(&dead, |settings| {
        settings.routing.pools[0].retry.budget_ratio = 0.0;
        settings.routing.pools[0].retry.budget_floor_per_s = 0.0;
    });
    for _ in 0..40 {
        assert_eq!(get(&http1(), &world.url("/api")).await.status(), 502);
    }
    assert!(world.stats.retries() < 40, "{} retries for 40 requests", world.stats.retries());
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_ticket_back_and_what_it_had_cost() {
    let instance = instance::start().await;
    for client in [http1(), http2()] {
        let world = World::start(&[instance.address]);
        let request = hyper::Request::get(world.url("/api/sleep/10000")).body(Default::default()).unwrap();
        let asking = tokio::spawn(async move { try_send(&client, request).await });
        eventually(|| world.lives[0].in_flight().requests == 1).await;
        asking.abort();
        let _ = asking.await;
        world.at_rest().await;
        let seen = world.observed(1).await;
        assert_eq!(seen[0].outcome, Outcome::ClientGone);
        let attained_us = seen[0].attained_us;
        assert!(attained_us > 0.0, "it ran until the client went: its cost is at least that");
        assert!(attained_us <= seen[0].finished_at.since(seen[0].arrived_at).as_micros() as f64);
        assert!(seen[0].upstream_us < Duration::from_secs(5).as_micros() as u64);
    }
}
