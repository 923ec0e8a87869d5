//! Traffic against the sample producer, over real sockets, in process.

use std::time::Duration;

use foretide_loadtest::producer::{ProducerSettings, serve_on};
use foretide_loadtest::traffic::schedule::{Endpoint, Shape, schedule};
use foretide_loadtest::traffic::tally::TrafficProgress;
use foretide_loadtest::traffic::{TrafficSettings, drive};
use tokio::net::TcpListener;
use tokio::sync::watch;

fn shape() -> Shape {
    Shape {
        seed: 11,
        duration: Duration::from_millis(800),
        rate_per_s: 60.0,
        day: Duration::from_secs(1),
        amplitude: 0.5,
        campaign: None,
        tenants: 5,
        mix: vec![(Endpoint::Search, 1.0), (Endpoint::Thumbnail, 0.2)],
    }
}

#[tokio::test]
async fn every_request_of_the_schedule_is_sent_and_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let producer = ProducerSettings {
        address: target,
        speed: 1.0,
        cold_start: Duration::ZERO,
        seed: 1,
        load_report: false,
    };
    tokio::spawn(serve_on(listener, producer, std::future::pending()));
    let (progress, told) = watch::channel(TrafficProgress::default());
    let settings = TrafficSettings { target, objective: Duration::from_secs(60), shape: shape() };
    let summary = drive(settings, progress).await;
    let planned = schedule(&shape());
    assert_eq!(summary.sent as usize, planned.len());
    assert_eq!(summary.status_classes, [0, summary.sent, 0, 0, 0], "{summary:?}");
    assert_eq!((summary.errors, summary.over_objective_ratio), (0, 0.0));
    assert_eq!(told.borrow().finished, summary.sent);
    assert!(summary.p50_ms > 0.0 && summary.p50_ms <= summary.p99_ms && summary.p99_ms <= summary.p999_ms);
    let mut sent: Vec<u64> = summary.requests.iter().map(|request| request.at_us).collect();
    sent.sort_unstable();
    assert!(sent.into_iter().eq(planned.iter().map(|request| request.at.as_micros() as u64)));
}

#[tokio::test]
async fn nobody_there_is_an_error_for_each_request() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (progress, _told) = watch::channel(TrafficProgress::default());
    let settings = TrafficSettings { target: closed, objective: Duration::from_secs(1), shape: shape() };
    let summary = drive(settings, progress).await;
    assert!(summary.sent > 0);
    assert_eq!((summary.errors, summary.over_objective_ratio), (summary.sent, 1.0));
}
