//! The admin listener over real sockets.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use foretide_admin::{AdminCommand, AdminParts, DrillKind, metrics};
use foretide_advice::{Advice, AdviceParts};
use foretide_control::controller::Controller;
use foretide_control::report::StatusReport;
use foretide_predictor::time::Timestamp;
use foretide_routing::observe::{Observation, Outcome};
use foretide_routing::table::RoutingTable;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

/// What weights and leases rest on.
const ROUTING: &str = r#"
version = 1
[[routes]]
name = "search"
pool = "shop"
consumer = ["header:x-tenant"]
parameters = ["query:rows:number", "query:sort:category"]
[pools.shop]
endpoints = ["10.0.0.1:80", "10.0.0.2:80"]
slow_start = "0s"
[[routes]]
name = "never"
path = "/never"
pool = "empty"
[pools.empty]
endpoints = []
"#;

struct Running {
    address: String,
    reports: watch::Sender<Arc<StatusReport>>,
    commands: mpsc::Receiver<AdminCommand>,
    ready: Arc<AtomicBool>,
    table: Arc<RoutingTable>,
    advice: Arc<Advice>,
    learned: Arc<Mutex<Vec<Observation>>>,
    now_us: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

/// One recorder a process, as in the product.
fn handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| metrics::install("9.9.9").unwrap()).clone()
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (reports, report) = watch::channel(Arc::new(support::report(128)));
    let (sender, commands) = mpsc::channel(4);
    let ready = Arc::new(AtomicBool::new(false));
    let (settings, _) = foretide_conf::parse::parse("test.toml", ROUTING).expect("a good configuration");
    let now_us = Arc::new(AtomicU64::new(support::START_S * 1_000_000));
    let controller = Controller::new(settings.routing, Timestamp::from_us(now_us.load(Ordering::Relaxed)));
    let table = Arc::clone(controller.table());
    let clock = Arc::clone(&now_us);
    let learned = Arc::new(Mutex::new(Vec::new()));
    let taught = Arc::clone(&learned);
    let advice = Arc::new(Advice::new(AdviceParts {
        table: Arc::new(ArcSwap::new(Arc::clone(&table))),
        report: report.clone(),
        ready: Arc::clone(&ready),
        now: Box::new(move || Timestamp::from_us(clock.load(Ordering::Relaxed))),
        learn: Box::new(move |observation| taught.lock().unwrap().push(observation)),
        seed: 1,
    }));
    let config = "name = \"shop\"\napi_token = \"hush\"\n".to_owned();
    let parts = AdminParts {
        report,
        metrics: handle(),
        commands: sender,
        advice: Arc::clone(&advice),
        config_text: Arc::new(ArcSwap::from_pointee(config)),
        ready: Arc::clone(&ready),
        started_at: Timestamp::from_us(support::START_S * 1_000_000),
        version: "9.9.9",
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(foretide_admin::serve(listener, parts, async {
        let _ = stopped.await;
    }));
    Running { address, reports, commands, ready, table, advice, learned, now_us, stop, server }
}

impl Running {
    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address))
            .await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let (host, length) = (&self.address, body.len());
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
        .await
    }

    async fn send(&self, request: &str) -> Answer {
        exchange(self.address.clone(), request.to_owned()).await
    }
}

async fn exchange(address: String, request: String) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head[9..12].parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[tokio::test]
async fn readiness_follows_the_flag_and_a_drain_ends_it() {
    let mut admin = start().await;
    assert_eq!(admin.get("/live").await.status, 200);
    assert_eq!(admin.get("/ready").await.status, 503);
    admin.ready.store(true, Ordering::Relaxed);
    assert_eq!(admin.get("/ready").await.status, 200);
    assert_eq!(admin.post("/drain", "").await.status, 202);
    assert!(matches!(admin.commands.recv().await, Some(AdminCommand::Drain)));
    let answer = admin.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("draining"));
}

#[tokio::test]
async fn the_report_is_shown_part_by_part() {
    let admin = start().await;
    let info = admin.get("/api/v1/info").await.json();
    assert_eq!((&info["version"], &info["uptime_s"]), (&"9.9.9".into(), &128.0.into()));
    let producers = admin.get("/api/v1/producers").await.json();
    assert_eq!(producers["pools"][0]["instances"].as_array().unwrap().len(), 5);
    assert_eq!(producers["pools"][0]["instances"][4]["state"], "warming");
    let forecasts = admin.get("/api/v1/forecasts").await.json();
    let horizon = &forecasts["pools"][0]["horizons"][2];
    assert_eq!(horizon["steps"], 30);
    assert_eq!(horizon["point"]["at"].as_u64(), Some((support::START_S + 128 + 29) * 1_000_000));
    assert_eq!(admin.get("/api/v1/models").await.json()["cost"]["card"]["version"], 7);
    let decisions = admin.get("/api/v1/decisions?pool=shop&limit=3").await.json();
    assert_eq!(decisions["routing"].as_array().unwrap().len(), 3);
    assert_eq!(decisions["scaling"][0]["plan"]["reason"], "event");
    let none = admin.get("/api/v1/decisions?pool=other").await.json();
    assert_eq!(none["routing"].as_array().unwrap().len(), 0);
    let config = admin.get("/api/v1/config").await;
    assert!(config.body.contains("name = \"shop\"") && !config.body.contains("hush"), "{}", config.body);
}

#[tokio::test]
async fn a_decision_comes_from_the_report_or_from_the_control_loop_or_is_forgotten() {
    let mut admin = start().await;
    let newest = support::report(128).routing_decisions[0].id;
    let line = format!("GET /api/v1/decisions/{newest}?kind=routing HTTP/1.1");
    let request = format!("{line}\r\nhost: {}\r\nconnection: close\r\n\r\n", admin.address);
    let shown = tokio::spawn(exchange(admin.address.clone(), request));
    let Some(AdminCommand::RoutingDecision { reply, .. }) = admin.commands.recv().await else { panic!() };
    reply.send(None).unwrap();
    assert_eq!(shown.await.unwrap().json()["routing"]["id"], newest);

    let old = tokio::spawn(exchange(
        admin.address.clone(),
        format!(
            "GET /api/v1/decisions/3?kind=routing HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            admin.address
        ),
    ));
    let Some(AdminCommand::RoutingDecision { id: 3, reply }) = admin.commands.recv().await else { panic!() };
    let mut kept = support::report(128).routing_decisions.remove(0);
    kept.id = 3;
    reply.send(Some(kept)).unwrap();
    assert_eq!(old.await.unwrap().json()["routing"]["id"], 3);

    let gone = tokio::spawn(exchange(
        admin.address.clone(),
        format!("GET /api/v1/decisions/4 HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", admin.address),
    ));
    let Some(AdminCommand::RoutingDecision { reply, .. }) = admin.commands.recv().await else { panic!() };
    reply.send(None).unwrap();
    let Some(AdminCommand::ScalingDecision { reply, .. }) = admin.commands.recv().await else { panic!() };
    reply.send(None).unwrap();
    let answer = gone.await.unwrap();
    assert_eq!(answer.status, 404);
    assert!(answer.json()["help"].as_str().unwrap().contains("/api/v1/decisions"));
    assert_eq!(admin.get("/api/v1/decisions/seven").await.status, 400);
}

#[tokio::test]
async fn a_reload_tells_warnings_or_why_not() {
    let mut admin = start().await;
    for (result, status) in [(Ok(vec!["one warning".to_owned()]), 200), (Err("line 3".to_owned()), 422)] {
        let request =
            format!("POST /api/v1/reload HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", admin.address);
        let asked = tokio::spawn(exchange(admin.address.clone(), request));
        let Some(AdminCommand::Reload(reply)) = admin.commands.recv().await else { panic!() };
        reply.send(result).unwrap();
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.body.contains("one warning") || answer.body.contains("line 3"), "{}", answer.body);
    }
}

#[tokio::test]
async fn drills_are_passed_on_and_nonsense_is_explained() {
    let mut admin = start().await;
    let body = r#"{"kind": "nan_model"}"#;
    let request = format!(
        "POST /api/v1/models/drill HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        admin.address,
        body.len()
    );
    let asked = tokio::spawn(exchange(admin.address.clone(), request));
    let Some(AdminCommand::Drill(DrillKind::NanModel, reply)) = admin.commands.recv().await else { panic!() };
    reply.send(()).unwrap();
    assert_eq!(asked.await.unwrap().status, 202);
    let answer = admin.post("/api/v1/models/drill", "{}").await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["help"].as_str().unwrap().contains("remove_model"));
}

#[tokio::test]
async fn a_control_loop_that_takes_nothing_gives_an_error_not_a_hang() {
    let mut admin = start().await;
    admin.commands.close();
    let answer = admin.post("/api/v1/reload", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["error"].as_str().unwrap().contains("control loop"));
}

#[tokio::test]
async fn strangers_names_and_foreign_pages_are_refused_and_errors_are_json() {
    let admin = start().await;
    let rebinding = "GET /api/v1/config HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let answer = admin.send(rebinding).await;
    assert_eq!(answer.status, 403);
    assert!(answer.json()["help"].is_string());
    let foreign = format!(
        "POST /drain HTTP/1.1\r\nhost: {}\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n",
        admin.address
    );
    assert_eq!(admin.send(&foreign).await.status, 403);
    assert_eq!(admin.get("/nothing").await.json()["error"], "no such page");
    let wrong = admin.get("/drain").await;
    assert_eq!((wrong.status, &wrong.json()["help"]), (405, &"use POST".into()));
}

#[tokio::test]
async fn metrics_show_the_fleet_as_it_is_and_forget_who_is_gone() {
    let admin = start().await;
    metrics::config_reloaded(true);
    let text = admin.get("/metrics").await.body;
    for line in [
        "foretide_build_info{version=\"9.9.9\"} 1",
        "foretide_config_last_reload_successful 1",
        "foretide_instance_state{pool=\"shop\",instance=\"127.0.0.1:9005\",state=\"warming\"} 1",
        "foretide_tier_weight{tier=\"cost\"} 0.45",
        "foretide_forecast_coverage_ratio{pool=\"shop\"} 0.913",
        "foretide_forecast_mase{pool=\"shop\"} 0.64",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("foretide_forecast_work_rate{pool=\"shop\",horizon=\"15\",bound=\"high\"}"));
    assert!(
        text.contains("foretide_scale_decisions_total{action=\"scale_up\",reason=\"event\",mode=\"act\"}")
    );

    let mut smaller = support::report(129);
    smaller.pools[0].instances.pop();
    admin.reports.send_replace(Arc::new(smaller));
    assert!(!admin.get("/metrics").await.body.contains("127.0.0.1:9005"));
}

#[tokio::test]
async fn events_bring_the_report_now_and_each_new_one_and_end_at_shutdown() {
    let admin = start().await;
    let mut stream = TcpStream::connect(&admin.address).await.unwrap();
    let request = format!("GET /api/v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", admin.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut seen = Vec::new();
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let report: Value = serde_json::from_str(data).unwrap();
            seen.push(report["generation"].as_u64().unwrap());
            match seen.len() {
                1 => drop(admin.reports.send_replace(Arc::new(support::report(500)))),
                _ if seen.last() == Some(&540) => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    // The first may come twice: once on connecting, once as news.
    seen.dedup();
    assert_eq!(seen, [168, 540]);
    admin.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, admin.server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn the_dashboard_is_whole_and_asks_nobody_else() {
    let admin = start().await;
    let page = admin.get("/").await;
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    for path in ["/dashboard.css", "/dashboard.js", "/chart.js"] {
        let asset = admin.get(path).await;
        assert_eq!(asset.status, 200, "{path}");
        assert!(!asset.body.contains("https://"), "{path} names another host");
    }
    for wanted in ["/dashboard.css", "/dashboard.js"] {
        assert!(page.body.contains(wanted));
    }
    // Inline scripts and styles would be blocked by our own policy.
    assert!(!page.body.contains(" style=") && !page.body.contains("onclick="));
}

#[tokio::test]
async fn weights_are_shares_with_a_time_to_live() {
    let admin = start().await;
    let all = admin.get("/api/v1/weights").await.json();
    assert_eq!(all["ttl_ms"], 1_000);
    assert_eq!((&all["pools"][0]["pool"], &all["pools"][1]["pool"]), (&"empty".into(), &"shop".into()));
    let shop = admin.get("/api/v1/weights?pool=shop").await.json();
    let instances = shop["pools"][0]["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 2);
    for (instance, address) in instances.iter().zip(["10.0.0.1:80", "10.0.0.2:80"]) {
        assert_eq!((&instance["address"], &instance["weight"]), (&address.into(), &0.5.into()));
        assert_eq!((&instance["percent"], &instance["in_flight"]), (&100.into(), &0.into()));
    }
    assert_eq!(admin.get("/api/v1/weights?pool=none").await.status, 404);
}

#[tokio::test]
async fn a_lease_takes_its_cost_on_until_it_is_given_back_or_over() {
    let admin = start().await;
    let in_flight = || {
        let shop = admin.table.pools.iter().find(|pool| &*pool.name == "shop").unwrap();
        let all = shop.instances.iter().map(|entry| entry.live.in_flight());
        all.map(|one| (one.requests, one.work_us)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let body = r#"{"pool": "shop", "consumer": "acme", "parameters": {"rows": 250, "sort": "date"}, "ttl_ms": 5000}"#;
    let answer = admin.post("/api/v1/leases", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let lease = answer.json();
    assert_eq!((&lease["pool"], &lease["ttl_ms"]), (&"shop".into(), &5_000.into()));
    let work_ms = lease["work_ms"].as_f64().unwrap();
    assert!((work_ms - 10.0).abs() < 0.01, "{work_ms}: nothing is known yet");
    let expires_at = (support::START_S + 5) * 1_000_000;
    assert_eq!(lease["expires_at"].as_u64(), Some(expires_at));
    let second = admin.post("/api/v1/leases", r#"{"route": "search", "work_ms": 2.5}"#).await.json();
    assert_ne!(lease["address"], second["address"], "the first one is seen");
    assert_eq!(in_flight(), (2, 12_500));
    let path = format!("/api/v1/leases/{}", second["lease"].as_str().unwrap());
    let delete = |path: &str| {
        format!("DELETE {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", admin.address)
    };
    assert_eq!(admin.send(&delete(&path)).await.status, 200);
    assert_eq!(admin.send(&delete(&path)).await.status, 404, "only once");
    assert_eq!(in_flight(), (1, 10_000));
    let third = admin.post("/api/v1/leases", r#"{"pool": "shop"}"#).await.json();
    let path = format!("/api/v1/leases/{}?outcome=", third["lease"].as_str().unwrap());
    admin.now_us.fetch_add(30_000, Ordering::Relaxed);
    let wrong = admin.send(&delete(&format!("{path}fine"))).await;
    assert!(wrong.status == 400 && wrong.body.contains("producer_error"), "{}", wrong.body);
    assert_eq!(admin.send(&delete(&format!("{path}ok"))).await.json()["learned"], true);
    let learned: Vec<_> =
        admin.learned.lock().unwrap().iter().map(|one| (one.outcome, one.upstream_us)).collect();
    assert_eq!(learned, [(Outcome::Ok, 30_000)], "only who says how it ended teaches");
    assert_eq!(in_flight(), (1, 10_000));
    admin.now_us.store(expires_at, Ordering::Relaxed);
    admin.advice.expire_leases();
    assert_eq!((in_flight(), admin.advice.leases()), ((0, 0), 0));
    let metrics = admin.get("/metrics").await.body;
    assert!(metrics.contains("foretide_leases_ended_total{how=\"expired\"}"), "{metrics}");
}

#[tokio::test]
async fn leases_that_cannot_be_are_explained() {
    let admin = start().await;
    for (body, status, word) in [
        ("", 400, "not a request for a lease"),
        ("{}", 404, "no such pool or route"),
        (r#"{"pool": "none"}"#, 404, "no such pool or route"),
        (r#"{"pool": "shop", "rows": 5}"#, 400, "unknown field"),
        (r#"{"pool": "shop", "parameters": {"row": 5}}"#, 400, "no parameter `row`"),
        (r#"{"pool": "shop", "parameters": {"rows": []}}"#, 400, "`rows`"),
        (r#"{"pool": "shop", "ttl_ms": 60001}"#, 400, "`ttl_ms`"),
        (r#"{"pool": "shop", "work_ms": -1}"#, 400, "`work_ms`"),
        (r#"{"pool": "empty"}"#, 503, "no instance"),
    ] {
        let answer = admin.post("/api/v1/leases", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.json()["error"].as_str().unwrap().contains(word), "{body}: {}", answer.body);
    }
    assert_eq!(admin.advice.leases(), 0);
}
