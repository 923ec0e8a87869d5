//! Nothing lasts for ever.

use std::time::Duration;

use foretide_routing::observe::Outcome;
use foretide_routing::settings::{ParameterKind, ParameterRule, ParameterSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{get, http1, http2, post, raw, try_send};
use crate::instance;
use crate::world::{PATIENCE, World};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_silent_instance_is_504_whatever_is_spoken() {
    let instance = instance::start().await;
    for upstream_http2 in [false, true] {
        let world = World::with(&[instance.address], |settings| {
            settings.routing.pools[0].upstream.first_byte_timeout = SHORT;
            settings.routing.pools[0].upstream.http2 = upstream_http2;
        });
        for client in [http1(), http2()] {
            assert_eq!(get(&client, &world.url("/api/sleep/15000")).await.status(), 504);
        }
        let seen = world.observed(2).await;
        assert!(seen.iter().all(|one| one.outcome == Outcome::ProducerUnreachable && !one.retried));
        world.at_rest().await;
    }
}

#[tokio::test]
async fn a_body_that_stops_coming_is_408_and_one_that_is_no_http_400() {
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| settings.server.client_idle_timeout = SHORT);
    let post = "POST /api/count HTTP/1.1\r\nhost: x\r\n";
    let answer = raw(world.address, &format!("{post}content-length: 10\r\n\r\nabc")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let answer = raw(world.address, &format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let seen = world.observed(2).await;
    assert!(seen.iter().all(|one| one.outcome == Outcome::ClientGone), "no instance is to blame");
    world.at_rest().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_in_all_is_504() {
    let instance = instance::start().await;
    for upstream_http2 in [false, true] {
        let world = World::with(&[instance.address], |settings| {
            settings.routing.routes[0].request_timeout = Some(SHORT);
            settings.routing.pools[0].upstream.http2 = upstream_http2;
        });
        for client in [http1(), http2()] {
            assert_eq!(get(&client, &world.url("/api/sleep/15000")).await.status(), 504);
            assert_eq!(get(&client, &world.url("/api")).await.status(), 200, "the next one has its own time");
        }
        world.at_rest().await;
    }
}

#[tokio::test]
async fn a_response_that_stalls_is_cut_when_the_request_is_over() {
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| {
        settings.routing.routes[0].request_timeout = Some(SHORT);
    });
    for client in [http1(), http2()] {
        let request = hyper::Request::get(world.url("/api/stall")).body(Default::default()).unwrap();
        let failed = try_send(&client, request).await.expect_err("half a response is no response");
        assert!(!failed.contains("no answer at all"), "{failed}");
    }
    let seen = world.observed(2).await;
    assert!(seen.iter().all(|one| one.outcome == Outcome::ProducerUnreachable));
    assert!(seen.iter().all(|one| one.attained_us > 0.0 && one.response_bytes.is_none()), "until it was cut");
    world.at_rest().await;
}

#[tokio::test]
async fn an_instance_silent_within_a_body_is_cut() {
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| {
        settings.routing.pools[0].upstream.first_byte_timeout = SHORT;
        settings.routing.pools[0].upstream.idle_timeout = SHORT;
    });
    let request = hyper::Request::get(world.url("/api/stall")).body(Default::default()).unwrap();
    try_send(&http1(), request).await.expect_err("half a response is no response");
    world.at_rest().await;
}

#[tokio::test]
async fn a_slow_upload_is_no_slow_first_byte() {
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| {
        settings.routing.pools[0].upstream.first_byte_timeout = Duration::from_millis(500);
    });
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"POST /api/count HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n").await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(SHORT).await;
        stream.write_all(b"z").await.unwrap();
    }
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// Each byte comes well within every read timeout; only a limit on the whole head can end this.
#[tokio::test]
async fn a_client_that_dribbles_its_head_is_cut_off() {
    let world = World::with(&[], |settings| settings.server.client_idle_timeout = Duration::from_millis(300));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"GET /api HTTP/1.1\r\nhost: ").await.unwrap();
    let dribbling = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, dribbling).await.expect("it is cut off");
    world.at_rest().await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| {
        settings.server.client_idle_timeout = Duration::from_millis(300);
    });
    for first in ["", "GET /api HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("it is closed").unwrap();
        assert_eq!(all.is_empty(), first.is_empty());
    }
}

#[tokio::test]
async fn json_fields_are_read_and_the_body_still_arrives() {
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| {
        let route = &mut settings.routing.routes[0];
        route.body_limit_bytes = 4096;
        route.parameters = vec![ParameterRule {
            name: "rows".to_owned(),
            source: ParameterSource::JsonField("/rows".to_owned()),
            kind: ParameterKind::Number,
        }];
    });
    for client in [http1(), http2()] {
        let body = r#"{"rows": 1250}"#;
        assert_eq!(post(&client, &world.url("/api/echo"), body).await.body(), body);
        let larger = "[".to_owned() + &"1,".repeat(40_000) + "1]";
        assert_eq!(*post(&client, &world.url("/api/echo"), larger.clone()).await.body(), larger);
    }
    let rows: Vec<f32> = world.observed(4).await.iter().map(|one| one.query.numbers[0]).collect();
    assert_eq!(rows, [1250.0, -1.0, 1250.0, -1.0], "what is too large stays unread");
}
