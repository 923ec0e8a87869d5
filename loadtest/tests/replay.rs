//! Replay of recordings against the sample producer, over real sockets, in process.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use foretide_loadtest::producer::{ProducerSettings, serve_on};
use foretide_loadtest::replay::path_template::PathTemplate;
use foretide_loadtest::replay::plan::Scale;
use foretide_loadtest::replay::recording::RowRange;
use foretide_loadtest::replay::{ReplayError, ReplaySettings, prepare, replay, resolve};
use foretide_loadtest::traffic::tally::TrafficProgress;
use tokio::net::TcpListener;
use tokio::sync::watch;

fn settings(file: PathBuf, target: String) -> ReplaySettings {
    ReplaySettings {
        file,
        range: RowRange { from: 0, rows: None },
        target,
        allow_remote: false,
        speed: 60.0,
        scale: Scale::Ratio(1.0),
        paths: Vec::new(),
        any_method: false,
        objective: Duration::from_secs(60),
        seed: 3,
    }
}

#[tokio::test]
async fn a_log_arrives_as_it_was_recorded() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for second in 0..40 {
        let method = if second % 4 == 3 { "POST" } else { "GET" };
        let time = format!("10/Oct/2000:13:55:{second:02} +0000");
        writeln!(file, "10.0.0.9 - ann [{time}] \"{method} /hash?n={} HTTP/1.1\" 200 64", second + 1)
            .unwrap();
    }
    writeln!(file, "what is this").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let producer =
        ProducerSettings { address, speed: 1.0, cold_start: Duration::ZERO, seed: 1, load_report: false };
    tokio::spawn(serve_on(listener, producer, std::future::pending()));
    let settings = settings(file.path().into(), format!("http://{address}"));
    let plan = prepare(&settings).unwrap();
    assert_eq!((plan.rows, plan.other_methods, plan.bad_row_count, plan.bad_rows[0].line), (40, 10, 1, 41));
    let (progress, _) = watch::channel(TrafficProgress::default());
    let summary = replay(plan, &settings, progress).await.unwrap();
    assert_eq!((summary.sent, summary.status_classes[1], summary.errors), (30, 30, 0), "{summary:?}");
    let mut sent = summary.requests;
    sent.sort_by_key(|request| request.at_us);
    assert_eq!((sent[0].path.as_str(), sent[0].tenant.as_str()), ("/hash?n=1", "ann"));
    assert_eq!((sent[29].path.as_str(), sent[29].at_us), ("/hash?n=39", 38_000_000 / 60));
}

#[tokio::test]
async fn only_loopback_is_loaded_unless_told() {
    assert!(resolve("http://[::1]:8080", false).await.is_ok());
    assert_eq!(resolve("127.0.0.1:9", false).await.unwrap().0.port(), 9);
    assert!(matches!(resolve("192.0.2.1:80", false).await, Err(ReplayError::Remote { .. })));
    assert!(resolve("192.0.2.1:80", true).await.is_ok());
    assert!(matches!(resolve("https://127.0.0.1:1", false).await, Err(ReplayError::Target { .. })));
    assert!(matches!(resolve("/nowhere", false).await, Err(ReplayError::Target { .. })));
}

#[test]
fn nothing_to_replay_says_why() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "neither\nfish nor fowl").unwrap();
    let error = prepare(&settings(file.path().into(), String::new())).err().unwrap().to_string();
    assert!(error.contains("2 bad rows; line 1: no [time]"), "{error}");
    let missing = prepare(&settings("no/such/file".into(), String::new())).err().unwrap().to_string();
    assert!(missing.starts_with("cannot read no/such/file: "), "{missing}");
    let still = ReplaySettings { speed: 0.0, ..settings("x".into(), String::new()) };
    assert_eq!(prepare(&still).err().unwrap().to_string(), "speed must be above 0, not 0");
}

#[test]
fn the_world_cup_keeps_its_shape() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/load/wc98_1m.csv.gz");
    if !file.exists() {
        eprintln!("skipped: {} is not there", file.display());
        return;
    }
    let hour = RowRange { from: 60_000, rows: Some(60) };
    let paths = vec![PathTemplate::parse("/hash?n={10..20}").unwrap()];
    let settings =
        ReplaySettings { range: hour, scale: Scale::PeakRate(50.0), paths, ..settings(file, String::new()) };
    let plan = prepare(&settings).unwrap();
    assert_eq!((plan.rows, plan.bad_row_count), (60, 0));
    let mut per_minute = [0_usize; 60];
    for request in plan.requests {
        per_minute[request.at.as_secs() as usize] += 1;
        assert!(request.path_and_query.starts_with("/hash?n=1") || request.path_and_query == "/hash?n=20");
    }
    let busiest = per_minute.iter().max().unwrap();
    assert!((35..90).contains(busiest), "about 50 in the busiest replayed second: {per_minute:?}");
}
