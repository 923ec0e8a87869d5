//! The agent over real sockets, word by word as HAProxy's manual has it, in front of a real controller's table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use foretide_advice::leases::{LeaseError, LeaseRequest};
use foretide_advice::{Advice, AdviceParts, agent};
use foretide_control::controller::Controller;
use foretide_control::io::Input;
use foretide_predictor::time::Timestamp;
use foretide_routing::observe::Outcome;
use foretide_routing::table::InstanceState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const CONFIG: &str = r#"
version = 1
[[routes]]
pool = "shop"
[pools.shop]
endpoints = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
slow_start = "0s"
[pools.shop.health]
unhealthy_after = 1
"#;
const PATIENCE: Duration = Duration::from_secs(20);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_us(1_000_000_000 + ms * 1_000)
}

struct World {
    controller: Controller,
    advice: Arc<Advice>,
    ready: Arc<AtomicBool>,
    table: Arc<ArcSwap<foretide_routing::table::RoutingTable>>,
    report: watch::Sender<Arc<foretide_control::report::StatusReport>>,
    address: SocketAddr,
}

async fn world() -> World {
    let (settings, _) = foretide_conf::parse::parse("test.toml", CONFIG).expect("a good configuration");
    let controller = Controller::new(settings.routing, at(0));
    let table = Arc::new(ArcSwap::new(Arc::clone(controller.table())));
    let (report, seen) = watch::channel(Arc::new(controller.report(at(0))));
    let ready = Arc::new(AtomicBool::new(true));
    let advice = Arc::new(Advice::new(AdviceParts {
        table: Arc::clone(&table),
        report: seen,
        ready: Arc::clone(&ready),
        now: Box::new(|| at(0)),
        learn: Box::new(|_| {}),
        seed: 7,
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(agent::serve(listener, Arc::clone(&advice), std::future::pending()));
    World { controller, advice, ready, table, report, address }
}

impl World {
    /// The controller works for a while, and what it says is in force.
    fn tick(&mut self, from_ms: u64) {
        for ms in (from_ms..from_ms + 1_200).step_by(100) {
            self.controller.begin_tick(at(ms));
            while self.controller.step() {}
            while self.controller.next_effect().is_some() {}
        }
        self.table.store(Arc::clone(self.controller.table()));
        self.report.send_replace(Arc::new(self.controller.report(at(from_ms + 1_200))));
    }

    async fn ask(&self, sent: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }
}

#[tokio::test]
async fn instances_are_asked_by_name_and_answer_in_haproxys_words() {
    let mut world = world().await;
    for asked in ["10.0.0.1:80\n", "10.0.0.1:80\r\n", "shop 10.0.0.1:80\n", " shop\t10.0.0.1:80 \n"] {
        assert_eq!(world.ask(asked).await, "up ready 100%\n", "{asked:?}");
    }
    assert_eq!(world.ask("10.0.0.1:80").await, "up ready 100%\n", "a forgotten line feed is only slower");
    for unknown in ["10.0.0.9:80\n", "other 10.0.0.1:80\n", "a b c\n", "\u{0}\u{1}\n"] {
        assert_eq!(world.ask(unknown).await, "\n", "changes nothing: {unknown:?}");
    }
    assert_eq!(world.ask(&"x".repeat(2_000)).await, "\n");
    let instance = world.table.load().pools[0].instances[1].id;
    world.controller.handle(at(50), Input::Probed { instance, healthy: false });
    world.tick(100);
    assert_eq!(world.ask("10.0.0.2:80\n").await, "down #fails its health checks\n");
    assert_eq!(world.ask("10.0.0.3:80\n").await, "up ready 100%\n");
    let mut report = world.controller.report(at(2_000));
    report.pools[0].instances[1].state = InstanceState::Draining;
    world.report.send_replace(Arc::new(report));
    assert_eq!(world.ask("10.0.0.2:80\n").await, "up drain\n");
}

#[tokio::test]
async fn without_a_name_the_proxy_speaks_of_itself() {
    let world = world().await;
    assert_eq!(world.ask("\n").await, "up ready 100%\n");
    assert_eq!(world.ask("").await, "up ready 100%\n");
    world.ready.store(false, Ordering::Relaxed);
    assert_eq!(world.ask("").await, "up drain\n");
}

#[tokio::test]
async fn a_leased_instance_weighs_less_until_the_lease_ends() {
    let mut world = world().await;
    let request =
        LeaseRequest { pool: Some("shop".to_owned()), work_ms: Some(20_000.0), ..LeaseRequest::default() };
    let lease = world.advice.lease(&request).unwrap();
    world.tick(100);
    let answer = world.ask(&format!("{}\n", lease.address)).await;
    let percent: u32 = answer.trim_start_matches("up ready ").trim_end_matches("%\n").parse().unwrap();
    assert!((1..60).contains(&percent), "{answer}");
    let weights = world.advice.weights(Some("shop")).unwrap();
    let sum: f64 = weights.pools[0].instances.iter().map(|instance| instance.weight).sum();
    assert!((sum - 1.0).abs() < 1e-9 && !weights.stale);
    assert_eq!(
        world.advice.release(&lease.lease, Some(Outcome::Ok)),
        Some(false),
        "a cost that was named teaches nothing"
    );
    assert_eq!(world.advice.release(&lease.lease, None), None);
    world.tick(1_400);
    assert_eq!(world.ask(&format!("{}\n", lease.address)).await, "up ready 100%\n");
    assert!(world.advice.weights(Some("none")).is_none());
}

#[tokio::test]
async fn what_makes_no_sense_takes_nothing_on() {
    let world = world().await;
    let pool = || LeaseRequest { pool: Some("shop".to_owned()), ..LeaseRequest::default() };
    let refused = |request: LeaseRequest| world.advice.lease(&request).unwrap_err();
    assert_eq!(refused(LeaseRequest::default()), LeaseError::Unknown);
    assert_eq!(refused(LeaseRequest { pool: Some("none".to_owned()), ..pool() }), LeaseError::Unknown);
    assert_eq!(refused(LeaseRequest { route: Some("none".to_owned()), ..pool() }), LeaseError::Unknown);
    for work_ms in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e12] {
        let request = LeaseRequest { work_ms: Some(work_ms), ..pool() };
        assert_eq!(refused(request), LeaseError::Value("work_ms".to_owned()));
    }
    for ttl_ms in [0, 60_001, u64::MAX] {
        assert_eq!(
            refused(LeaseRequest { ttl_ms: Some(ttl_ms), ..pool() }),
            LeaseError::Value("ttl_ms".to_owned())
        );
    }
    let parameters = [("rows".to_owned(), serde_json::json!(5))].into_iter().collect();
    assert_eq!(refused(LeaseRequest { parameters, ..pool() }), LeaseError::Parameter("rows".to_owned()));
    assert_eq!(["not a lease", "00"].map(|lease| world.advice.release(lease, None)), [None; 2]);
    assert_eq!(world.advice.leases(), 0);
    let in_flight =
        world.advice.weights(None).unwrap().pools[0].instances.iter().map(|one| one.in_flight).sum::<u32>();
    assert_eq!(in_flight, 0);
}
