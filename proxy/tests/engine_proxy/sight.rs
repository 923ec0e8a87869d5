//! Two proxies in front of the same pool see each other's requests, over real sockets; and nobody who lies, hangs or talks
//! nonsense does harm.
//!
//! The pool: two producers, each behind a proxy of its own that shares its sight. In front of them, proxies that ask.

use std::time::Duration;

use foretide_conf::settings::LOAD_PATH;
use foretide_routing::settings::{Policy, SightSettings};
use foretide_steering::wire;
use tokio::task::JoinSet;

use crate::client::{Http, get, http1, http2, post};
use crate::instance::{self, Instance};
use crate::world::{World, eventually};

/// Long, so that what was heard does not age while a busy machine is about something else.
const MEAN_SERVICE_US: f64 = 500_000.0;
/// Requests held on an instance, three times what it serves at full speed.
const HELD: usize = 12;

/// A producer and the proxy beside it.
struct Producer {
    beside: World,
    _instance: Instance,
}

async fn producer() -> Producer {
    let instance = instance::start().await;
    let beside = World::with(&[instance.address], |settings| settings.server.share_sight = true);
    Producer { beside, _instance: instance }
}

async fn producers() -> [Producer; 2] {
    [producer().await, producer().await]
}

fn sight() -> SightSettings {
    let timeout = Duration::from_secs(5);
    SightSettings { probes: 2, path: LOAD_PATH.to_owned(), timeout, max_age: Duration::from_secs(60) }
}

/// A proxy in front of the pool.
fn in_front(producers: &[Producer], policy: Policy, sight: Option<SightSettings>) -> World {
    let addresses: Vec<_> = producers.iter().map(|producer| producer.beside.address).collect();
    World::with(&addresses, |settings| {
        settings.routing.pools[0].policy = policy;
        settings.routing.pools[0].sight = sight;
    })
    .with_mean_service(MEAN_SERVICE_US)
}

/// Requests that stay until the set is dropped.
fn hold(client: &Http, world: &World) -> JoinSet<u16> {
    let mut held = JoinSet::new();
    for _ in 0..HELD {
        let (client, url) = (client.clone(), world.url("/api/sleep/600000"));
        held.spawn(async move { get(&client, &url).await.status().as_u16() });
    }
    held
}

fn own(world: &World) -> Vec<u32> {
    world.lives.iter().map(|live| live.in_flight().requests).collect()
}

/// Sends small requests until the proxy sees so many of others on each instance.
async fn look_until(world: &World, client: &Http, wanted: [f32; 2]) {
    loop {
        assert_eq!(get(client, &world.url("/api/x")).await.status(), 200);
        let seen = [0, 1].map(|at| world.others(at).unwrap_or(-1.0));
        if seen.iter().zip(wanted).all(|(seen, wanted)| (seen - wanted).abs() < 0.5) {
            return;
        }
        world.still_in_time(&format!("sees {seen:?}, not {wanted:?}"));
    }
}

/// How many of forty requests, one after the other, each instance got.
async fn shares(world: &World, client: &Http) -> [u64; 2] {
    let before: Vec<_> = world.lives.iter().map(|live| live.taken()).collect();
    for _ in 0..40 {
        assert_eq!(get(client, &world.url("/api/x")).await.status(), 200);
    }
    [0, 1].map(|at| world.lives[at].taken().since(before[at]).0)
}

#[tokio::test]
async fn each_of_two_proxies_sees_the_others_requests_and_avoids_the_instance_they_fill() {
    let producers = producers().await;
    // All requests of a client go to one instance: this one fills it.
    let filling = in_front(&producers, Policy::Ketama, Some(sight()));
    let (seeing, blind) = (
        in_front(&producers, Policy::Predictive, Some(sight())),
        in_front(&producers, Policy::Predictive, None),
    );
    let client = http1();
    let held = hold(&client, &filling);
    eventually(|| own(&filling).contains(&(HELD as u32))).await;
    let full = own(&filling).iter().position(|&own| own > 0).unwrap();
    let mut wanted = [0.0; 2];
    wanted[full] = HELD as f32;
    eventually(|| producers[full].beside.stats.in_flight() == HELD as u64).await;

    look_until(&seeing, &client, wanted).await;
    let shares_seeing = shares(&seeing, &client).await;
    assert_eq!(shares_seeing[full], 0, "{shares_seeing:?}");
    let shares_blind = shares(&blind, &client).await;
    assert!(shares_blind[full] > 5, "without sight both look idle: {shares_blind:?}");

    // The other way round: what this one holds, the first one sees, and not its own.
    let also_held = hold(&client, &seeing);
    eventually(|| own(&seeing).iter().sum::<u32>() == HELD as u32).await;
    assert_eq!(own(&seeing)[full], 0, "who holds twelve there sends none of twelve");
    let mut back = [HELD as f32; 2];
    back[full] = 0.0;
    look_until(&filling, &client, back).await;
    drop((held, also_held));
    filling.at_rest().await;
    look_until(&seeing, &client, [0.0; 2]).await;
}

#[tokio::test]
async fn old_news_become_the_fleets_mean_and_never_nothing_until_everybody_is_silent() {
    let producers = producers().await;
    let client = http1();
    let held = hold(&client, &producers[0].beside);
    eventually(|| producers[0].beside.stats.in_flight() == HELD as u64).await;
    let max_age = Duration::from_millis(400);
    let world = in_front(&producers, Policy::Predictive, Some(SightSettings { max_age, ..sight() }));
    look_until(&world, &client, [HELD as f32, 0.0]).await;
    drop(held);
    // Without requests nobody is asked.
    let mut seen = Vec::new();
    eventually(|| {
        seen = [0, 1].map(|at| world.others(at)).to_vec();
        seen[0] == seen[1]
    })
    .await;
    let mean = seen[0].expect("entries are old before everybody counts as silent");
    assert!(mean > 0.5 && mean < 11.5, "{mean}");
    eventually(|| world.others(0).is_none() && world.others(1).is_none()).await;
}

#[tokio::test]
async fn the_question_is_answered_in_few_bytes_and_is_no_request() {
    let producer = producer().await;
    let client = http1();
    let held = hold(&client, &producer.beside);
    let world = &producer.beside;
    eventually(|| world.lives[0].in_flight().requests == HELD as u32).await;
    for client in [http1(), http2()] {
        let answer = get(&client, &world.url(LOAD_PATH)).await;
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (204, ""));
        let value = answer.headers()[wire::HEADER].to_str().unwrap().to_owned();
        assert!(value.len() <= wire::MOST_BYTES, "{value}");
        assert_eq!(wire::read(&value).expect("a report").requests(), HELD as u32);
    }
    assert_eq!((world.stats.requests(), world.stats.in_flight()), (HELD as u64, HELD as u64));
    assert_eq!(post(&client, &world.url(LOAD_PATH), "").await.status(), 404, "only GET is the question");
    let answer = get(&client, &world.url("/api/x")).await;
    let report = wire::read(answer.headers()[wire::HEADER].to_str().unwrap()).expect("a report");
    assert_eq!(report.requests(), HELD as u32 + 1, "it was still there when its answer began");
    drop(held);
}

#[tokio::test]
async fn nothing_is_said_unless_configured_and_clients_of_the_front_never_see_it() {
    let (producers, client) = (producers().await, http1());
    let world = in_front(&producers, Policy::Predictive, Some(sight()));
    assert_eq!(get(&client, &world.url(LOAD_PATH)).await.status(), 404);
    let answer = get(&client, &world.url("/api/head")).await;
    assert!(!answer.headers().contains_key(wire::HEADER), "{:?}", answer.headers());
    let told = answer.body().lines().find_map(|line| line.strip_prefix("foretide-work: ")).expect("told");
    assert!(told.parse::<u64>().unwrap() > 0);
    let blind = in_front(&producers, Policy::Predictive, None);
    assert!(!get(&client, &blind.url("/api/head")).await.body().contains("foretide-work"));
}

#[tokio::test]
async fn instances_that_hang_refuse_or_talk_nonsense_when_asked_harm_nobody() {
    let (first, second) = (instance::start().await, instance::start().await);
    for path in ["/api/sleep/600000", "/api/stall", "/api/big", "/api/status/500", "/api/report/2", "/api/x"]
    {
        let world = World::with(&[first.address, second.address], |settings| {
            settings.routing.pools[0].policy = Policy::Predictive;
            let timeout = Duration::from_millis(50);
            settings.routing.pools[0].sight =
                Some(SightSettings { probes: 3, path: path.to_owned(), timeout, ..sight() });
        });
        let client = http1();
        for _ in 0..30 {
            assert_eq!(get(&client, &world.url("/api/x")).await.status(), 200, "{path}");
        }
        assert_eq!(world.others(0), None, "{path}: nobody said anything of use");
        world.at_rest().await;
    }
}

#[tokio::test]
async fn a_liar_only_makes_itself_look_busy() {
    let (honest, liar) = (producer().await, instance::start().await);
    let world = World::with(&[honest.beside.address, liar.address], |settings| {
        settings.routing.pools[0].policy = Policy::Predictive;
        settings.routing.pools[0].sight = Some(SightSettings { path: "/api/report/4".to_owned(), ..sight() });
    })
    .with_mean_service(MEAN_SERVICE_US);
    let client = http1();
    // The honest one is not asked there, but says it with its answers.
    look_until(&world, &client, [0.0, 4_095.0]).await;
    let shares = shares(&world, &client).await;
    assert_eq!(shares, [40, 0]);
}
