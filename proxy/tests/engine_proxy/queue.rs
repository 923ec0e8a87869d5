//! Gateway mode: requests wait in the proxy for a free slot, in bounded number and time.

use std::time::Duration;

use foretide_routing::observe::RefusalReason;
use foretide_routing::settings::{Policy, QueueSettings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{Http, get, http1};
use crate::instance::{self, Instance};
use crate::world::{World, eventually};

/// Two instances of four slots.
const SLOTS: usize = 8;

async fn world(limit: usize, timeout: Duration) -> (World, [Instance; 2]) {
    let instances = [instance::start().await, instance::start().await];
    let world = World::with(&instances.each_ref().map(|instance| instance.address), |settings| {
        // Would send every second request to each, whatever is there.
        settings.routing.pools[0].policy = Policy::RoundRobin;
        settings.routing.pools[0].queue = Some(QueueSettings { limit, timeout });
    });
    (world, instances)
}

fn at_instances(world: &World) -> Vec<u32> {
    world.lives.iter().map(|live| live.in_flight().requests).collect()
}

/// Takes all slots for a while.
async fn fill(world: &World, client: &Http, ms: u64) -> JoinSet<u16> {
    let mut held = JoinSet::new();
    for _ in 0..SLOTS {
        send(&mut held, world, client, ms);
    }
    eventually(|| at_instances(world) == [4, 4]).await;
    held
}

fn send(to: &mut JoinSet<u16>, world: &World, client: &Http, ms: u64) {
    let (client, url) = (client.clone(), world.url(&format!("/api/sleep/{ms}")));
    to.spawn(async move { get(&client, &url).await.status().as_u16() });
}

#[tokio::test]
async fn who_finds_no_slot_waits_and_beyond_the_limit_is_refused_at_once() {
    let (world, _instances) = world(3, Duration::from_secs(10)).await;
    let client = http1();
    let mut sent = fill(&world, &client, 600).await;
    for _ in 0..3 {
        send(&mut sent, &world, &client, 1);
    }
    eventually(|| world.stats.in_flight() == 11).await;
    let refused = get(&client, &world.url("/api/sleep/1")).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert_eq!(at_instances(&world), [4, 4], "nobody was sent to an instance without a free slot");
    let told = world.refusals.pop().map(|one| (one.reason, one.in_flight));
    assert_eq!(told, Some((RefusalReason::QueueFull, 11)), "eight at instances and three that wait");
    while let Some(status) = sent.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    world.at_rest().await;
    let seen = world.observed(11).await;
    assert!(seen.iter().all(|seen| seen.decision.in_flight < 4), "each found a free slot");
    assert_eq!(get(&client, &world.url("/api/sleep/1")).await.status(), 200);
}

#[tokio::test]
async fn nobody_waits_for_longer_than_the_queue_allows() {
    let (world, _instances) = world(3, Duration::from_millis(30)).await;
    let client = http1();
    let mut held = fill(&world, &client, 500).await;
    assert_eq!(get(&client, &world.url("/api/sleep/1")).await.status(), 503);
    assert_eq!(at_instances(&world), [4, 4], "it was still full");
    assert_eq!(world.refusals.pop().map(|one| one.reason), Some(RefusalReason::QueueTimeout));
    while let Some(status) = held.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(get(&client, &world.url("/api/sleep/1")).await.status(), 200);
    world.at_rest().await;
}

#[tokio::test]
async fn a_client_that_goes_away_gives_up_its_place() {
    let (world, _instances) = world(1, Duration::from_secs(10)).await;
    let client = http1();
    let mut held = fill(&world, &client, 700).await;
    let mut impatient = TcpStream::connect(world.address).await.unwrap();
    impatient.write_all(b"GET /api/sleep/1 HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    eventually(|| world.stats.in_flight() == 9).await;
    drop(impatient);
    eventually(|| world.stats.in_flight() == 8).await;
    assert_eq!(at_instances(&world), [4, 4], "long before a slot was free");
    while let Some(status) = held.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    world.at_rest().await;
    assert_eq!(world.observed(8).await.len(), 8, "it never reached an instance");
    assert_eq!(get(&client, &world.url("/api/sleep/1")).await.status(), 200);
}
