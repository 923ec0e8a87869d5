//! What goes through, goes through unchanged, with who asked added.

use bytes::Bytes;
use foretide_routing::observe::Outcome;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Request;
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::client::{get, http1, http2, post, raw, send};
use crate::instance;
use crate::world::World;

#[tokio::test]
async fn every_pair_of_protocols_works() {
    let instance = instance::start().await;
    for upstream_http2 in [false, true] {
        let world = World::with(&[instance.address], |settings| {
            settings.routing.pools[0].upstream.http2 = upstream_http2;
        });
        let spoken = if upstream_http2 { "HTTP/2.0 " } else { "HTTP/1.1 " };
        for client in [http1(), http2()] {
            let seen = get(&client, &world.url("/api/head")).await;
            assert_eq!(seen.status(), 200);
            assert!(seen.body().starts_with(spoken), "{}", seen.body());
            let echoed = post(&client, &world.url("/api/echo"), "a body").await;
            assert_eq!(echoed.body(), "a body");
        }
        let seen = world.observed(4).await;
        assert!(seen.iter().all(|one| one.outcome == Outcome::Ok && one.status == 200 && !one.retried));
        assert!(seen.iter().all(|one| one.attained_us > 0.0));
        world.at_rest().await;
    }
}

#[tokio::test]
async fn the_instance_learns_who_asked() {
    let instance = instance::start().await;
    let world = World::start(&[instance.address]);
    let request = Request::get(world.url("/api/head"))
        .header("x-forwarded-for", "198.51.100.9")
        .header("x-request-id", "mine-42")
        .header("connection", "x-private")
        .header("x-private", "for the next hop only")
        .body(Full::default())
        .unwrap();
    let seen = send(&http1(), request).await;
    let body = seen.body();
    assert!(body.contains("x-forwarded-for: 198.51.100.9, 127.0.0.1\n"), "{body}");
    assert!(body.contains("x-forwarded-proto: http\n"), "{body}");
    assert!(body.contains(&format!("x-forwarded-host: {}\n", world.address)), "{body}");
    assert!(body.contains("x-request-id: mine-42\n"), "{body}");
    assert!(!body.contains("x-private"), "hop-by-hop headers stay here: {body}");
    assert_eq!(seen.headers()["x-request-id"], "mine-42");

    let request = Request::get(world.url("/api/head"))
        .header("x-request-id", "not an id")
        .header("x-forwarded-proto", "https")
        .body(Full::default())
        .unwrap();
    let seen = send(&http1(), request).await;
    let made = seen.headers()["x-request-id"].to_str().unwrap();
    assert_eq!(made.len(), 32);
    assert!(seen.body().contains(&format!("x-request-id: {made}\n")));
    assert!(seen.body().contains("x-forwarded-proto: https\n"), "a balancer before us knows better");
}

#[tokio::test]
async fn http_1_0_and_requests_shorter_than_a_preface_work() {
    let instance = instance::start().await;
    let world = World::start(&[instance.address]);
    let answer = raw(world.address, "GET /api HTTP/1.0\n\n").await;
    assert!(answer.starts_with("HTTP/1.") && answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let instance = instance::start().await;
    let world = World::start(&[instance.address]);
    for client in [http1(), http2()] {
        let big = get(&client, &world.url("/api/big")).await;
        assert_eq!(big.body().len(), 8 << 20);
        let counted = post(&client, &world.url("/api/count"), vec![b'y'; 8 << 20]).await;
        assert_eq!(counted.body(), &(8 << 20).to_string());
    }
    let sizes: Vec<_> = world.observed(4).await.iter().map(|one| one.response_bytes).collect();
    assert_eq!(sizes, [8 << 20, 7, 8 << 20, 7].map(Some), "what was learned of their size");
}

/// The second part is sent only after the first has come back: a proxy that buffers whole bodies would hang.
#[tokio::test]
async fn bodies_are_not_held_back() {
    let instance = instance::start().await;
    let world = World::start(&[instance.address]);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let client = Client::builder(TokioExecutor::new()).build_http();
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    let response = client.request(Request::post(world.url("/api/echo")).body(body).unwrap()).await.unwrap();
    let mut echoed = response.into_body();
    assert_eq!(echoed.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    sender.send(Ok(Frame::data(Bytes::from_static(b"second")))).await.unwrap();
    assert_eq!(echoed.frame().await.unwrap().unwrap().into_data().unwrap(), "second");
    drop(sender);
    assert!(echoed.frame().await.is_none());
}

#[tokio::test]
async fn statuses_of_instances_pass_and_5xx_is_theirs() {
    let instance = instance::start().await;
    let world = World::start(&[instance.address]);
    for status in [204, 304, 404, 503] {
        let answer = get(&http1(), &world.url(&format!("/api/status/{status}"))).await;
        assert_eq!(answer.status(), status);
    }
    let seen = world.observed(4).await;
    let outcomes: Vec<Outcome> = seen.iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::Ok, Outcome::Ok, Outcome::Ok, Outcome::ProducerError]);
}
