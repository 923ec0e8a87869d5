//! Cookies, labels and limits of instances, as clients see them.

use std::time::Duration;

use foretide_conf::settings::{AccessLogFormat, AccessLogSettings};
use foretide_routing::decide::Reason;
use foretide_routing::observe::RefusalReason;
use foretide_routing::settings::choice::{AffinitySettings, SameSite};
use http_body_util::Full;
use hyper::Request;
use tokio::task::JoinSet;

use crate::client::{get, http1, send};
use crate::instance;
use crate::world::{World, eventually};

fn affinity() -> AffinitySettings {
    AffinitySettings {
        cookie: "at".to_owned(),
        ttl: Some(Duration::from_secs(60)),
        path: "/".to_owned(),
        same_site: SameSite::Lax,
        secure: None,
        secret: None,
    }
}

/// The cookie that an answer sets, and what it says besides.
fn set(answer: &hyper::Response<String>) -> Option<(String, String)> {
    let line = answer.headers().get("set-cookie")?.to_str().unwrap();
    let (cookie, rest) = line.split_once("; ").unwrap();
    Some((cookie.to_owned(), rest.to_owned()))
}

#[tokio::test]
async fn a_cookie_keeps_a_client_where_it_was_and_moves_with_it() {
    let mut instances =
        [Some(instance::start().await), Some(instance::start().await), Some(instance::start().await)];
    let addresses = instances.each_ref().map(|one| one.as_ref().unwrap().address);
    let world = World::with(&addresses, |settings| {
        settings.routing.pools[0].choice.affinity = Some(affinity());
    });
    let client = http1();
    let ask = async |cookie: &str| {
        let request = Request::get(world.url("/api/sleep/0")).header("cookie", format!("a=b; {cookie}"));
        send(&client, request.body(Full::default()).unwrap()).await
    };
    let first = ask("at=nonsense").await;
    let (cookie, rest) = set(&first).expect("a cookie");
    assert_eq!(rest, "Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
    assert!(addresses.iter().all(|address| !cookie.contains(&address.port().to_string())), "{cookie}");
    for _ in 0..7 {
        assert_eq!(set(&ask(&cookie).await), None, "it has the right one");
    }
    let seen = world.observed(8).await;
    let home = seen[0].decision.index;
    assert!(
        seen[1..].iter().all(|one| one.decision.index == home && one.decision.reason == Reason::Affinity)
    );
    instances[home] = None;
    let moved = ask(&cookie).await;
    assert_eq!(moved.status(), 200, "another one answers");
    let (other, _) = set(&moved).expect("a new cookie");
    assert_ne!(other, cookie);
    assert_eq!(set(&ask(&other).await), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_have_all_they_may_get_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let instances = [instance::start().await, instance::start().await];
    let mut world = World::with(&instances.each_ref().map(|one| one.address), |settings| {
        settings.routing.pools[0].choice.max_requests = Some(2);
        settings.access_log =
            Some(AccessLogSettings { path: Some(path.clone()), format: AccessLogFormat::Envoy });
    });
    let client = http1();
    let mut sent = JoinSet::new();
    for _ in 0..4 {
        let (client, url) = (client.clone(), world.url("/api/sleep/500"));
        sent.spawn(async move { get(&client, &url).await.status().as_u16() });
    }
    eventually(|| world.lives.iter().all(|live| live.in_flight().requests == 2)).await;
    let refused = get(&client, &world.url("/api/sleep/0")).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    let connection = refused.headers().get("connection").map(|value| value.as_bytes());
    assert_ne!(connection, Some(&b"close"[..]), "the client may ask again on this connection");
    assert_eq!(world.refusals.pop().map(|one| one.reason), Some(RefusalReason::InstancesFull));
    while let Some(status) = sent.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    world.at_rest().await;
    assert_eq!(get(&client, &world.url("/api/sleep/0")).await.status(), 200);
    world.stop();
    let log = std::fs::read_to_string(&path).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\" 503 UO ")).count(), 1, "{log}");
}
