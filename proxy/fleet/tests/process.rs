//! Real child processes: this test binary starts itself as the producer (see `stand_in_producer`).

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use foretide_control::io::FleetEvent;
use foretide_fleet::process::ProcessFleet;
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::ProcessManager;
use tokio::sync::mpsc;

const ID: InstanceId = InstanceId(7);

/// Not a test: what the tests below start. Without its environment it does nothing.
#[test]
fn stand_in_producer() {
    let Ok(port) = std::env::var("STAND_IN_PORT") else { return };
    match std::env::var("STAND_IN_MODE").as_deref() {
        Ok("broken") => {
            eprintln!("cannot read my configuration");
            std::process::exit(3);
        }
        Ok("slow") => loop {
            std::thread::park();
        },
        _ => serve(port.parse().unwrap()),
    }
}

fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut seen = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        reader.read_line(&mut line).unwrap();
        let mut header = String::new();
        while reader.read_line(&mut header).unwrap() > 2 {
            header.clear();
        }
        let path = line.split(' ').nth(1).unwrap_or("").to_owned();
        // The first probe is refused, so that readiness is something that comes.
        let status = if path == "/ready" && seen.is_empty() { "503 Not Yet" } else { "200 OK" };
        seen.push(path);
        let body = format!("{} {}", std::env::var("STAND_IN_NAME").unwrap_or_default(), seen.join(","));
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    }
}

/// Tests run at the same time, each with a fleet of its own: they must not be given each other's ports.
fn own_ports() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(31_000);
    let first = NEXT.fetch_add(50, Ordering::Relaxed);
    (first, first + 49)
}

fn manager(mode: &str) -> ProcessManager {
    let me = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    ProcessManager {
        command: vec![me, "--exact".into(), "stand_in_producer".into(), "--nocapture".into()],
        environment: vec![
            ("STAND_IN_PORT".into(), "{port}".into()),
            ("STAND_IN_NAME".into(), "I am {instance}".into()),
            ("STAND_IN_MODE".into(), mode.into()),
        ],
        ports: own_ports(),
        ready_path: "/ready".into(),
        warm_paths: vec!["/warm/1".into(), "/warm/2".into()],
        start_timeout: Duration::from_secs(30),
        stop_grace: Duration::from_secs(10),
    }
}

fn fleet() -> (ProcessFleet, mpsc::Receiver<FleetEvent>) {
    let (events, heard) = mpsc::channel(64);
    (ProcessFleet::new(events), heard)
}

async fn next(heard: &mut mpsc::Receiver<FleetEvent>) -> FleetEvent {
    tokio::time::timeout(Duration::from_secs(60), heard.recv()).await.expect("no event in a minute").unwrap()
}

async fn started(heard: &mut mpsc::Receiver<FleetEvent>) -> String {
    match next(heard).await {
        FleetEvent::Started { address, .. } => address,
        other => panic!("{other:?}"),
    }
}

async fn ready(heard: &mut mpsc::Receiver<FleetEvent>) {
    let event = next(heard).await;
    assert!(matches!(event, FleetEvent::Ready { .. }), "{event:?}");
}

fn ask(address: &str) -> String {
    use std::io::Read;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /ask HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_started_probed_warmed_and_stopped() {
    let (fleet, mut heard) = fleet();
    fleet.start(ID, "shop", Arc::new(manager("serve")));
    fleet.start(ID, "shop", Arc::new(manager("serve")));
    let address = started(&mut heard).await;
    ready(&mut heard).await;
    assert_eq!(fleet.len(), 1, "the second start was the same wish");
    let answer = ask(&address);
    assert!(answer.contains("I am shop-7 /ready,/ready,/warm/1,/warm/2,/ask"), "{answer}");

    fleet.stop(ID);
    fleet.stop(ID);
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: true });
    assert!(TcpStream::connect(&address).is_err());
    fleet.stop(ID);
    assert!(fleet.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_killed_from_outside_is_told_and_can_be_started_anew() {
    let (fleet, mut heard) = fleet();
    let with_pid = |mut manager: ProcessManager, file: &std::path::Path| {
        let command = manager.command.join("' '");
        let script = format!("echo $$ > {}; exec '{command}'", file.display());
        manager.command = vec!["/bin/sh".into(), "-c".into(), script];
        manager
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    fleet.start(ID, "shop", Arc::new(with_pid(manager("serve"), &file)));
    started(&mut heard).await;
    ready(&mut heard).await;
    let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: false });

    fleet.start(ID, "shop", Arc::new(manager("serve")));
    started(&mut heard).await;
    ready(&mut heard).await;
    fleet.stop_all().await;
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_before_it_is_ready_is_quoted() {
    let (fleet, mut heard) = fleet();
    fleet.start(ID, "shop", Arc::new(manager("broken")));
    started(&mut heard).await;
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains("exit status: 3"), "{why}");
    assert!(why.contains("cannot read my configuration"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_get_ready_in_time_is_stopped() {
    let (fleet, mut heard) = fleet();
    let manager = ProcessManager { start_timeout: Duration::from_millis(300), ..manager("slow") };
    fleet.start(ID, "shop", Arc::new(manager));
    started(&mut heard).await;
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains("not ready after 0.3 s"), "{why}");
    assert!(fleet.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_can_be_broken_off() {
    let (fleet, mut heard) = fleet();
    fleet.start(ID, "shop", Arc::new(manager("slow")));
    started(&mut heard).await;
    fleet.stop(ID);
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ignores_the_polite_signal_is_killed_with_all_it_started() {
    let (fleet, mut heard) = fleet();
    let mut stubborn = manager("serve");
    // An ignored signal stays ignored through exec; the shell waits as the group's leader.
    let script = format!("trap '' TERM; '{}'; true", stubborn.command.join("' '"));
    stubborn.command = vec!["/bin/sh".into(), "-c".into(), script];
    stubborn.stop_grace = Duration::from_millis(200);
    fleet.start(ID, "shop", Arc::new(stubborn));
    let address = started(&mut heard).await;
    ready(&mut heard).await;
    fleet.stop(ID);
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: true });
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < deadline, "the shell's child lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_is_told() {
    let (fleet, mut heard) = fleet();
    let missing = ProcessManager { command: vec!["/no/such/program".into()], ..manager("serve") };
    fleet.start(ID, "shop", Arc::new(missing));
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains("/no/such/program"), "{why}");

    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    fleet.start(ID, "shop", Arc::new(ProcessManager { ports: (port, port), ..manager("serve") }));
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains(&format!("no free port in {port}-{port}")), "{why}");
}
