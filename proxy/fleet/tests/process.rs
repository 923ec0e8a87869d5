//! Real child processes: this test binary starts itself as the producer (see `stand_in_producer`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use foretide_control::io::FleetEvent;
use foretide_fleet::ask::{Speech, TlsNames};
use foretide_fleet::process::{ProcessFleet, Producer};
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::ProcessManager;
use tokio::sync::mpsc;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

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

/// One request a connection, over TLS where a certificate is given.
fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let tls = std::env::var("STAND_IN_TLS").ok().map(|folder| tls(Path::new(&folder)));
    let mut seen = Vec::new();
    for stream in listener.incoming() {
        match &tls {
            None => answer(stream.unwrap(), &mut seen),
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                answer(StreamOwned::new(connection, stream.unwrap()), &mut seen);
            }
        }
    }
}

fn tls(folder: &Path) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

fn answer(stream: impl Read + Write, seen: &mut Vec<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        // Not our language.
        return;
    }
    let mut header = String::new();
    while reader.read_line(&mut header).unwrap() > 2 {
        header.clear();
    }
    let path = line.split(' ').nth(1).unwrap_or("").to_owned();
    // The first probe is refused, so that readiness is something that comes.
    let status = if path == "/ready" && seen.is_empty() { "503 Not Yet" } else { "200 OK" };
    seen.push(path);
    let body = format!("{} {}", std::env::var("STAND_IN_NAME").unwrap_or_default(), seen.join(","));
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let stream = reader.get_mut();
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    let _ = stream.flush();
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

fn shop(manager: ProcessManager) -> Producer {
    Producer { pool: "shop".into(), manager: Arc::new(manager), speech: Speech::default() }
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
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /ask HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_started_probed_warmed_and_stopped() {
    let (fleet, mut heard) = fleet();
    fleet.start(ID, shop(manager("serve")));
    fleet.start(ID, shop(manager("serve")));
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
async fn a_pool_that_talks_tls_is_asked_over_tls_whether_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["shop.internal".to_owned()]).unwrap();
    let certificate = folder.path().join("certificate.pem");
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();

    let (fleet, mut heard) = fleet();
    let mut over_tls = manager("serve");
    over_tls.environment.push(("STAND_IN_TLS".into(), folder.path().to_str().unwrap().into()));
    let names = TlsNames { server_name: "shop.internal".into(), ca: Some(certificate) };
    let speech = Speech { tls: Some(names), http2: false };
    fleet.start(ID, Producer { speech, ..shop(over_tls.clone()) });
    started(&mut heard).await;
    ready(&mut heard).await;
    fleet.stop_all().await;
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: true });

    // Asked in the clear, such a producer never gets ready.
    fleet.start(ID, shop(ProcessManager { start_timeout: Duration::from_secs(1), ..over_tls }));
    started(&mut heard).await;
    let event = next(&mut heard).await;
    assert!(matches!(event, FleetEvent::Failed { .. }), "{event:?}");
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
    fleet.start(ID, shop(with_pid(manager("serve"), &file)));
    started(&mut heard).await;
    ready(&mut heard).await;
    let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: false });

    fleet.start(ID, shop(manager("serve")));
    started(&mut heard).await;
    ready(&mut heard).await;
    fleet.stop_all().await;
    assert_eq!(next(&mut heard).await, FleetEvent::Exited { instance: ID, asked: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_before_it_is_ready_is_quoted() {
    let (fleet, mut heard) = fleet();
    fleet.start(ID, shop(manager("broken")));
    started(&mut heard).await;
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains("exit status: 3"), "{why}");
    assert!(why.contains("cannot read my configuration"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_get_ready_in_time_is_stopped() {
    let (fleet, mut heard) = fleet();
    let manager = ProcessManager { start_timeout: Duration::from_millis(300), ..manager("slow") };
    fleet.start(ID, shop(manager));
    started(&mut heard).await;
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains("not ready after 0.3 s"), "{why}");
    assert!(fleet.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_can_be_broken_off() {
    let (fleet, mut heard) = fleet();
    fleet.start(ID, shop(manager("slow")));
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
    fleet.start(ID, shop(stubborn));
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
    fleet.start(ID, shop(missing));
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains("/no/such/program"), "{why}");

    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    fleet.start(ID, shop(ProcessManager { ports: (port, port), ..manager("serve") }));
    let FleetEvent::Failed { why, .. } = next(&mut heard).await else { panic!("not failed") };
    assert!(why.contains(&format!("no free port in {port}-{port}")), "{why}");
}
