//! Light requests that wait for long go to a second instance, a few of them, and nobody's books suffer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foretide_routing::decide::Reason;
use foretide_routing::observe::{Observation, Outcome};
use foretide_routing::settings::{HedgeAfter, HedgeSettings};
use http::Request;
use http_body_util::Full;

use crate::client::{get, http1, http2, post, send, try_send};
use crate::instance;
use crate::world::{PATIENCE, World, eventually, route};

/// Nobody waits for an instance that takes so long.
const FOR_EVER: Duration = Duration::from_secs(600);

/// A proxy that hedges after 30 ms. It knows requests under `/api` to be light, those under `/heavy` to be heavy, and nothing
/// of those under `/new`.
async fn world(instances: &[SocketAddr], budget: f64) -> World {
    let world = World::with(instances, |settings| {
        let after = HedgeAfter::Fixed(Duration::from_millis(30));
        settings.routing.pools[0].hedge = Some(HedgeSettings { after, budget });
        settings.routing.routes.extend([route("heavy", "/heavy", "main"), route("new", "/new", "main")]);
    });
    teach(&world).await;
    world
}

/// From requests that come to nothing: what they asked is all that is needed.
pub(crate) async fn teach(world: &World) {
    let table = world.table.load();
    table.costs.pin_class_borders([2_000.0, 20_000.0, 50_000.0]);
    for (path, work_us) in [("/api", 500.0), ("/heavy", 90_000.0)] {
        let request = Request::options(world.url(path)).body(Full::default()).unwrap();
        let _asked = tokio::time::timeout(Duration::from_millis(50), try_send(&http1(), request)).await;
        world.at_rest().await;
        let query = world.observed(1).await[0].query;
        (0..50).for_each(|_| table.costs.observe(&query, work_us, table.built_at));
    }
    while world.ring.pop().is_some() {}
}

fn hedges(seen: &[Observation]) -> usize {
    seen.iter().filter(|one| one.decision.reason == Reason::Hedged).count()
}

fn all_free(world: &World) -> bool {
    world.lives.iter().all(|live| live.in_flight().requests == 0 && live.in_flight().work_us == 0)
}

#[tokio::test]
async fn a_light_request_that_waits_is_answered_by_another_instance() {
    let (slow, fast) = (instance::slow(FOR_EVER).await, instance::start().await);
    for client in [http1(), http2()] {
        let world = world(&[slow.address, fast.address], 1.0).await;
        for turn in 0..8 {
            let answer = get(&client, &world.url("/api/status/201")).await;
            assert_eq!(
                (answer.status().as_u16(), answer.body().as_str()),
                (201, "as asked\n"),
                "request {turn}"
            );
        }
        world.at_rest().await;
        assert!(all_free(&world));
        let seen = world.observed(16).await;
        // In turn: the hedge takes the fast one's, so the next request is the slow one's again.
        assert_eq!((seen.len(), hedges(&seen)), (16, 8));
        for one in &seen {
            let off = one.decision.instance.0 == 0;
            let wanted = if off { (Outcome::ClientGone, true, 0) } else { (Outcome::Ok, false, 201) };
            assert_eq!((one.outcome, one.retried, one.status), wanted, "called off, or the answer");
        }
        assert_eq!(world.stats.retries(), 0, "hedges are no retries");
    }
}

#[tokio::test]
async fn the_first_instance_may_still_be_the_quicker_one() {
    let (slow, slower) = (instance::slow(Duration::from_millis(300)).await, instance::slow(FOR_EVER).await);
    let world = world(&[slow.address, slower.address], 1.0).await;
    for _ in 0..4 {
        assert_eq!(get(&http1(), &world.url("/api")).await.status(), 200);
    }
    world.at_rest().await;
    assert!(all_free(&world));
    let seen = world.observed(8).await;
    assert_eq!(hedges(&seen), 4, "each waited");
    let answered = |one: &&Observation| one.outcome == Outcome::Ok;
    let by: Vec<u32> = seen.iter().filter(answered).map(|one| one.decision.instance.0).collect();
    assert_eq!(by, [0; 4]);
    assert!(seen.iter().filter(answered).any(|one| one.decision.reason != Reason::Hedged));
}

#[tokio::test]
async fn only_light_and_safe_requests_are_hedged() {
    let slow =
        [instance::slow(Duration::from_millis(200)).await, instance::slow(Duration::from_millis(200)).await];
    let world = world(&[slow[0].address, slow[1].address], 1.0).await;
    let client = http1();
    assert_eq!(post(&client, &world.url("/api/echo"), "once").await.body(), "once");
    assert_eq!(get(&client, &world.url("/heavy")).await.status(), 200);
    assert_eq!(get(&client, &world.url("/new")).await.status(), 200);
    let upgrade = Request::get(world.url("/api")).header("connection", "upgrade").header("upgrade", "other");
    assert_eq!(send(&client, upgrade.body(Full::default()).unwrap()).await.status(), 200);
    let long = Request::get(world.url("/api/echo")).body(Full::from("a body")).unwrap();
    assert_eq!(send(&client, long).await.status(), 200);
    let seen = world.observed(5).await;
    assert_eq!((seen.len(), hedges(&seen)), (5, 0));
    assert_eq!(get(&client, &world.url("/api")).await.status(), 200);
    assert_eq!(hedges(&world.observed(2).await), 1, "and this one is");
}

#[tokio::test]
async fn hedges_are_a_share_of_the_requests_that_might_be() {
    let slow =
        [instance::slow(Duration::from_millis(60)).await, instance::slow(Duration::from_millis(60)).await];
    let world = world(&[slow[0].address, slow[1].address], 0.1).await;
    let client = http1();
    for _ in 0..45 {
        assert_eq!(get(&client, &world.url("/api")).await.status(), 200);
    }
    world.at_rest().await;
    let hedged = hedges(&world.observed(45).await);
    assert!((1..=4).contains(&hedged), "{hedged} of 45 with a budget of a tenth");
}

#[tokio::test]
async fn what_fails_is_tried_again_or_said_as_ever() {
    let dead = [instance::nobody().await, instance::nobody().await];
    let nobody = world(&dead, 1.0).await;
    assert_eq!(get(&http1(), &nobody.url("/api")).await.status(), 502);
    let seen = nobody.observed(3).await;
    assert_eq!(seen.iter().map(|one| one.retried).collect::<Vec<_>>(), [true, true, false]);
    assert!(seen.iter().all(|one| one.outcome == Outcome::ProducerUnreachable));
    nobody.at_rest().await;

    let (mute, well) = (instance::mute().await, instance::start().await);
    let half = world(&[mute.address, well.address], 1.0).await;
    for _ in 0..6 {
        assert_eq!(get(&http1(), &half.url("/api")).await.status(), 200);
    }
    assert!(half.stats.retries() > 0, "the one that breaks off was met");
    half.at_rest().await;
    assert!(all_free(&half));
}

#[tokio::test]
async fn a_dead_second_instance_leaves_the_first_alone() {
    let (slow, dead) = (instance::slow(Duration::from_millis(300)).await, instance::nobody().await);
    let world = world(&[slow.address, dead], 1.0).await;
    let client = http1();
    // In turn: three at the same time do not all begin at the dead one.
    let url = world.url("/api");
    let all = [0, 1, 2].map(|_| get(&client, &url));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status(), 200);
    }
    world.at_rest().await;
    assert!(all_free(&world));
    let seen = world.observed(3).await;
    assert!(hedges(&seen) > 0);
    let unreachable = |one: &Observation| one.outcome == Outcome::ProducerUnreachable;
    assert!(seen.iter().all(|one| unreachable(one) == (one.decision.instance.0 == 1)));
}

#[tokio::test]
async fn two_that_never_answer_are_a_timeout() {
    let slow = [instance::slow(FOR_EVER).await, instance::slow(FOR_EVER).await];
    let world = World::with(&[slow[0].address, slow[1].address], |settings| {
        let after = HedgeAfter::Fixed(Duration::from_millis(30));
        settings.routing.pools[0].hedge = Some(HedgeSettings { after, budget: 1.0 });
        settings.routing.pools[0].upstream.first_byte_timeout = Duration::from_millis(400);
        settings.routing.routes.push(route("heavy", "/heavy", "main"));
    });
    teach(&world).await;
    assert_eq!(get(&http1(), &world.url("/api")).await.status(), 504);
    world.at_rest().await;
    assert!(all_free(&world));
    assert_eq!(hedges(&world.observed(2).await), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_both() {
    let slow = [instance::slow(FOR_EVER).await, instance::slow(FOR_EVER).await];
    for client in [http1(), http2()] {
        let world = world(&[slow[0].address, slow[1].address], 1.0).await;
        let request = Request::get(world.url("/api")).body(Full::default()).unwrap();
        let asking = tokio::spawn(async move { try_send(&client, request).await });
        eventually(|| world.lives.iter().all(|live| live.in_flight().requests == 1)).await;
        asking.abort();
        let _ = asking.await;
        world.at_rest().await;
        assert!(all_free(&world));
        let seen = world.observed(2).await;
        assert!(seen.iter().all(|one| one.outcome == Outcome::ClientGone && one.attained_us > 0.0));
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_answer_frees_its_instance() {
    let instances = [instance::start().await, instance::start().await];
    let world = world(&[instances[0].address, instances[1].address], 1.0).await;
    let client = http1();
    let request = Request::get(world.url("/api/stall")).body(Full::default()).unwrap();
    let asking = tokio::spawn(async move { try_send(&client, request).await });
    eventually(|| !all_free(&world)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    asking.abort();
    let _ = asking.await;
    world.at_rest().await;
    assert!(all_free(&world));
}

#[tokio::test]
async fn instances_and_clients_see_the_same_as_without() {
    let instances = [instance::start().await, instance::start().await];
    let addresses = [instances[0].address, instances[1].address];
    let worlds = [world(&addresses, 1.0).await, World::start(&addresses)];
    for client in [http1(), http2()] {
        for (method, path) in [
            ("GET", "/api/head?a=%20b"),
            ("HEAD", "/api/head"),
            ("GET", "/api/status/204"),
            ("GET", "/api/status/304"),
            ("GET", "/api/status/500"),
            ("GET", "/api/report/1"),
            ("GET", "/api/big"),
        ] {
            let mut answers = Vec::new();
            for world in &worlds {
                let request = Request::builder().method(method).uri(world.url(path));
                let request = request.header("x-request-id", "the-same").header("accept", "*/*");
                let answer = send(&client, request.body(Full::default()).unwrap()).await;
                let (mut head, body) = answer.into_parts();
                head.headers.remove("date");
                let body = body.replace(&world.address.to_string(), "HOST");
                let names: Vec<_> =
                    head.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                answers.push((head.status, head.version, names, body));
            }
            assert!(answers[0] == answers[1], "{method} {path}: {:?} and {:?}", &answers[0].2, &answers[1].2);
            worlds[0].at_rest().await;
            assert!(all_free(&worlds[0]));
        }
    }
}

#[tokio::test]
async fn a_delay_that_is_measured_waits_for_enough_answers() {
    let (slow, fast) = (instance::slow(Duration::from_millis(100)).await, instance::start().await);
    let world = World::with(&[fast.address, slow.address], |settings| {
        let after = HedgeAfter::Quantile(0.5);
        settings.routing.pools[0].hedge = Some(HedgeSettings { after, budget: 1.0 });
        settings.routing.routes.push(route("heavy", "/heavy", "main"));
    });
    teach(&world).await;
    let started = Instant::now();
    let client = http1();
    let mut hedged = 0;
    for turn in 0.. {
        get(&client, &world.url("/api")).await;
        hedged += hedges(&world.observed(0).await);
        assert!(turn >= 10 || hedged == 0, "ten answers are what the median is trusted from");
        assert!(started.elapsed() < PATIENCE, "it never hedges");
        if hedged > 0 {
            break;
        }
    }
    world.at_rest().await;
    assert!(all_free(&world));
}
