//! Stopping without losing anything, and without waiting for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::client::{get, http1, http2, try_send};
use crate::instance;
use crate::world::{World, eventually};

#[tokio::test]
async fn an_idle_proxy_stops_at_once() {
    let instance = instance::start().await;
    let mut world = World::with(&[instance.address], |settings| {
        settings.server.drain_timeout = Duration::from_secs(60);
    });
    assert_eq!(get(&http1(), &world.url("/api")).await.status(), 200);
    let took = tokio::task::spawn_blocking(move || world.stop()).await.unwrap();
    assert!(took < Duration::from_secs(20), "far less than the drain timeout: {took:?}");
}

#[tokio::test]
async fn requests_in_flight_end_well() {
    let instance = instance::start().await;
    for client in [http1(), http2()] {
        let mut world = World::start(&[instance.address]);
        let url = world.url("/api/sleep/400");
        let asking = tokio::spawn(async move { get(&client, &url).await });
        eventually(|| world.stats.in_flight() == 1).await;
        let stats = world.stats.clone();
        tokio::task::spawn_blocking(move || world.stop()).await.unwrap();
        let answer = asking.await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, "rested\n"));
        assert_eq!(stats.in_flight(), 0);
    }
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut() {
    let instance = instance::start().await;
    let mut world = World::with(&[instance.address], |settings| {
        settings.server.drain_timeout = Duration::from_millis(300);
    });
    let url = world.url("/api/sleep/60000");
    let request = hyper::Request::get(url).body(Default::default()).unwrap();
    let asking = tokio::spawn(async move { try_send(&http1(), request).await });
    eventually(|| world.stats.in_flight() == 1).await;
    let live = world.lives[0].clone();
    let took = tokio::task::spawn_blocking(move || world.stop()).await.unwrap();
    assert!(took < Duration::from_secs(20), "{took:?}");
    asking.await.unwrap().expect_err("it was cut");
    assert_eq!(live.in_flight().requests, 0, "its ticket came back");
}

/// Clients on open connections go on asking while the proxy drains; each is answered until it is told to close.
#[tokio::test]
async fn a_drain_under_load_fails_no_request() {
    let instance = instance::start().await;
    for http2_clients in [false, true] {
        let mut world = World::start(&[instance.address]);
        let url = world.url("/api/sleep/3");
        let served = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (url, served) = (url.clone(), served.clone());
                tokio::spawn(async move {
                    let client = if http2_clients { http2() } else { http1() };
                    loop {
                        let request = hyper::Request::get(&url).body(Default::default()).unwrap();
                        match try_send(&client, request).await {
                            Ok(answer) if answer.status() == 200 => served.fetch_add(1, Ordering::Relaxed),
                            Ok(answer) => return Err(format!("status {}", answer.status())),
                            // A new connection is refused: the drain has closed the last one politely.
                            Err(error) if error.contains("ConnectionRefused") => return Ok(()),
                            Err(error) => return Err(error),
                        };
                    }
                })
            })
            .collect();
        eventually(|| served.load(Ordering::Relaxed) > 100).await;
        tokio::task::spawn_blocking(move || world.stop()).await.unwrap();
        for client in clients {
            client.await.unwrap().expect("no request failed");
        }
    }
}
