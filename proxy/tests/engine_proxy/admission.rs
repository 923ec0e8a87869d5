//! Admission: who would be late is refused at the door, and let go in the queue; few heavy ones, not many light ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foretide_conf::settings::{AccessLogFormat, AccessLogSettings, Settings};
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::head::PlainHead;
use foretide_routing::observe::{Refusal, RefusalReason};
use foretide_routing::settings::{
    AdmissionSettings, ClientHints, ParameterKind, ParameterRule, ParameterSource, Policy, QueueSettings,
};
use foretide_steering::admission::Priority;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{Http, http1, send};
use crate::world::{World, eventually};

/// Two instances of four slots, as the table says.
const INSTANCES: usize = 2;
const CORES: u32 = 4;
const LIGHT_MS: u64 = 20;
const HEAVY_MS: u64 = 400;

/// An instance whose requests share its cores: `/api/work/MS` is done after so many milliseconds of a core's time.
struct Sharing {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sharing() -> Sharing {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut connections, in_service) = (JoinSet::new(), Arc::new(AtomicU32::new(0)));
        while let Ok((stream, _)) = listener.accept().await {
            let in_service = in_service.clone();
            connections.spawn(async move {
                let service = service_fn(|request| work(request, in_service.clone()));
                let serving = hyper::server::conn::http1::Builder::new();
                let _ = serving.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Sharing { address, task }
}

async fn work(
    request: Request<Incoming>,
    in_service: Arc<AtomicU32>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let ms = request.uri().path().rsplit('/').next().and_then(|last| last.parse::<f64>().ok()).unwrap_or(0.0);
    in_service.fetch_add(1, Ordering::Relaxed);
    let (mut left_ms, mut before) = (ms, Instant::now());
    while left_ms > 0.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = Instant::now();
        let others = in_service.load(Ordering::Relaxed).max(CORES);
        left_ms -= (now - before).as_secs_f64() * 1e3 * f64::from(CORES) / f64::from(others);
        before = now;
    }
    in_service.fetch_sub(1, Ordering::Relaxed);
    Ok(Response::new(Full::from("done\n")))
}

fn admission() -> AdmissionSettings {
    AdmissionSettings { margin: 0.6, client_hints: ClientHints::Lower, least_per_slot: 2, most_per_slot: 200 }
}

/// In front of two such instances; deadline of the pool about a second.
async fn world(change: impl FnOnce(&mut Settings)) -> (World, Vec<Sharing>) {
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(sharing().await);
    }
    let addresses: Vec<SocketAddr> = instances.iter().map(|instance| instance.address).collect();
    let world = World::with(&addresses, |settings| {
        settings.routing.pools[0].policy = Policy::Predictive;
        settings.routing.pools[0].objective = Duration::from_millis(1_050);
        settings.routing.pools[0].upstream.first_byte_timeout = Duration::from_secs(60);
        settings.routing.pools[0].admission = Some(admission());
        settings.routing.routes[0].parameters = vec![ParameterRule {
            name: "ms".to_owned(),
            source: ParameterSource::PathSegment(2),
            kind: ParameterKind::Number,
        }];
        change(settings);
    });
    (world, instances)
}

fn path(ms: u64) -> String {
    format!("/api/work/{ms}")
}

/// Lets the proxy know what requests cost, as if it had served them.
fn teach(world: &World, costs_ms: &[u64]) {
    let table = world.table.load();
    for number in 0..200 {
        for ms in costs_ms {
            let facts = table.routes.extract(&PlainHead::new("GET", &path(*ms))).expect("routed");
            table.costs.observe(&facts.query, *ms as f64 * 1e3, Timestamp::from_us(number * 1_000));
        }
    }
}

fn request(world: &World, ms: u64, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let request = Request::get(world.url(&path(ms)));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::default()).unwrap()
}

async fn status(world: &World, client: &Http, ms: u64, headers: &[(&str, &str)]) -> u16 {
    send(client, request(world, ms, headers)).await.status().as_u16()
}

/// Takes this many places for a while.
async fn fill(world: &World, client: &Http, count: u32, ms: u64) -> JoinSet<u16> {
    let mut held = JoinSet::new();
    for _ in 0..count {
        let (client, request) = (client.clone(), request(world, ms, &[]));
        held.spawn(async move { send(&client, request).await.status().as_u16() });
    }
    eventually(|| world.lives.iter().map(|live| live.in_flight().requests).sum::<u32>() == count).await;
    held
}

async fn at_rest(world: &World, mut held: JoinSet<u16>) {
    while let Some(status) = held.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    world.at_rest().await;
}

fn refusals(world: &World) -> Vec<Refusal> {
    std::iter::from_fn(|| world.refusals.pop()).collect()
}

#[tokio::test]
async fn who_would_be_late_is_refused_and_told_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let (mut world, _instances) = world(|settings| {
        settings.access_log =
            Some(AccessLogSettings { path: Some(log.clone()), format: AccessLogFormat::Json });
    })
    .await;
    teach(&world, &[LIGHT_MS, HEAVY_MS]);
    let client = http1();
    // Six heavy ones on four cores take 600 ms, which is a seventh one's share of its deadline.
    let held = fill(&world, &client, 12, HEAVY_MS).await;
    let refused = send(&client, request(&world, HEAVY_MS, &[])).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    // All that is to be refused first: those who are held do not wait for us.
    let greedy = [("x-slo-latency-ms", "3600000"), ("x-priority", "high")];
    assert_eq!(status(&world, &client, HEAVY_MS, &greedy).await, 503, "strangers cannot ask for more");
    assert_eq!(
        status(&world, &client, LIGHT_MS, &[("x-slo-latency-ms", "21")]).await,
        503,
        "but not in time for all"
    );
    assert_eq!(status(&world, &client, LIGHT_MS, &[]).await, 200, "a light one still comes in");
    for hostile in ["-1", "0", "999999999999999999999", "1e9", "NaN", ""] {
        assert_eq!(status(&world, &client, LIGHT_MS, &[("x-slo-latency-ms", hostile)]).await, 200);
    }
    at_rest(&world, held).await;
    let refused = refusals(&world);
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|one| one.reason == RefusalReason::Late && one.in_flight >= 12));
    assert!(
        refused[0].latency_us > Some(600_000.0) && refused[0].deadline_us == Some(1.05e6),
        "{:?}",
        refused[0]
    );
    assert_eq!(refused[2].deadline_us, Some(21_000.0));
    world.stop();
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains(r#""flags":"OM""#)).count(), 3, "{lines}");
}

#[tokio::test]
async fn the_limit_holds_where_nothing_is_known_and_low_priority_meets_it_first() {
    let (world, _instances) = world(|settings| {
        settings.routing.pools[0].admission = Some(AdmissionSettings {
            client_hints: ClientHints::Trust,
            least_per_slot: 2,
            most_per_slot: 2,
            ..admission()
        });
    })
    .await;
    let client = http1();
    let held = fill(&world, &client, 12, HEAVY_MS).await;
    assert_eq!(status(&world, &client, 1, &[("x-priority", "low")]).await, 503);
    let more = fill_up(&world, &client).await;
    assert_eq!(status(&world, &client, 1, &[]).await, 503);
    assert_eq!(status(&world, &client, 1, &[("x-priority", "HIGH")]).await, 200);
    at_rest(&world, held).await;
    at_rest(&world, more).await;
    let refused = refusals(&world);
    assert!(refused.iter().all(|one| one.reason == RefusalReason::Limit && one.latency_us.is_none()));
    let priorities: Vec<Priority> = refused.iter().map(|one| one.priority).collect();
    assert_eq!(priorities, [Priority::Low, Priority::Normal]);
}

/// From 12 to the limit of 16.
async fn fill_up(world: &World, client: &Http) -> JoinSet<u16> {
    let mut more = JoinSet::new();
    for _ in 0..4 {
        let (client, request) = (client.clone(), request(world, HEAVY_MS, &[]));
        more.spawn(async move { send(&client, request).await.status().as_u16() });
    }
    eventually(|| world.lives.iter().map(|live| live.in_flight().requests).sum::<u32>() == 16).await;
    more
}

#[tokio::test]
async fn a_stale_table_lets_everybody_in() {
    let (world, _instances) = world(|_| {}).await;
    teach(&world, &[HEAVY_MS]);
    let client = http1();
    let hurried = [("x-slo-latency-ms", "50")];
    assert_eq!(status(&world, &client, HEAVY_MS, &hurried).await, 503);
    world.make_stale();
    assert_eq!(status(&world, &client, HEAVY_MS, &hurried).await, 200);
    world.at_rest().await;
}

#[tokio::test]
async fn who_can_no_longer_be_in_time_is_let_go_from_the_queue_at_once() {
    let (world, _instances) = world(|settings| {
        settings.routing.pools[0].queue =
            Some(QueueSettings { limit: 100, timeout: Duration::from_secs(60) });
        settings.routing.pools[0].admission = None;
        settings.routing.routes[0].level.latency = Some(Duration::from_millis(300));
    })
    .await;
    teach(&world, &[LIGHT_MS]);
    let client = http1();
    let held = fill(&world, &client, 8, 3_000).await;
    let response = send(&client, request(&world, LIGHT_MS, &[])).await;
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    let in_flight: u32 = world.lives.iter().map(|live| live.in_flight().requests).sum();
    assert_eq!(in_flight, 8, "long before there was a slot");
    let refused = refusals(&world);
    assert_eq!(refused.iter().map(|one| one.reason).collect::<Vec<_>>(), [RefusalReason::LateInQueue]);
    at_rest(&world, held).await;
    assert_eq!(status(&world, &client, LIGHT_MS, &[]).await, 200);
}

/// What came of the light and the heavy requests of a drill.
#[derive(Debug, Default)]
struct Drill {
    light: u32,
    light_in_time: u32,
    light_refused: u32,
    heavy_refused: u32,
}

/// One request in ten is heavy; 1.5 times what the instances can do, for some seconds, in time with the clock and not with
/// the answers.
async fn overload(world: &World) -> Drill {
    const OVERLOAD: f64 = 1.5;
    const LIGHT_WITHIN: Duration = Duration::from_millis(120);
    let mean_s = (0.9 * LIGHT_MS as f64 + 0.1 * HEAVY_MS as f64) / 1e3;
    let rate = OVERLOAD * INSTANCES as f64 * f64::from(CORES) / mean_s;
    let (client, began) = (http1(), tokio::time::Instant::now());
    let mut sent = JoinSet::new();
    for number in 0..(6.0 * rate) as u32 {
        tokio::time::sleep_until(began + Duration::from_secs_f64(f64::from(number) / rate)).await;
        let heavy = number % 10 == 9;
        let (ms, hint) = if heavy { (HEAVY_MS, "1000") } else { (LIGHT_MS, "120") };
        let (client, request) = (client.clone(), request(world, ms, &[("x-slo-latency-ms", hint)]));
        sent.spawn(async move {
            let began = Instant::now();
            let status = send(&client, request).await.status().as_u16();
            (heavy, status, began.elapsed())
        });
    }
    let mut drill = Drill::default();
    while let Some(ended) = sent.join_next().await {
        let (heavy, status, took) = ended.unwrap();
        assert!(status == 200 || status == 503, "{status}");
        drill.light += u32::from(!heavy);
        drill.light_in_time += u32::from(!heavy && status == 200 && took <= LIGHT_WITHIN);
        drill.light_refused += u32::from(!heavy && status == 503);
        drill.heavy_refused += u32::from(heavy && status == 503);
    }
    world.at_rest().await;
    drill
}

/// A drill runs against the clock; on a machine that is busy with something else the work itself takes longer than it says.
const DRILLS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_overload_light_requests_are_in_time_because_heavy_ones_are_refused() {
    let mut drills = Vec::new();
    while drills.len() < DRILLS {
        let (with, _instances) = world(|_| {}).await;
        teach(&with, &[LIGHT_MS, HEAVY_MS]);
        let on = overload(&with).await;
        let (without, _instances) = world(|settings| settings.routing.pools[0].admission = None).await;
        teach(&without, &[LIGHT_MS, HEAVY_MS]);
        let off = overload(&without).await;
        eprintln!("1.5 times overload: with admission {on:?}, without {off:?}");
        assert_eq!(off.light_refused + off.heavy_refused, 0);
        let in_time = |drill: &Drill| f64::from(drill.light_in_time) / f64::from(drill.light);
        let few_heavy = on.heavy_refused > 4 * on.light_refused;
        if in_time(&on) > 0.85 && in_time(&off) < 0.75 && few_heavy {
            return;
        }
        drills.push((on, off));
    }
    panic!("never as it should be: {drills:?}");
}
