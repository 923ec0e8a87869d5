//! The access log, as it lies on disk after the engine has ended.

use std::path::Path;

use foretide::engine::EngineError;
use foretide_conf::settings::{AccessLogFormat, AccessLogSettings};

use crate::client::{get, http1};
use crate::instance;
use crate::world::World;

fn logged(world: &mut World, path: &Path) -> Vec<String> {
    world.stop();
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_says_what_was_decided_and_measured() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let instance = instance::start().await;
    let mut world = World::with(&[instance.address], |settings| {
        settings.access_log =
            Some(AccessLogSettings { path: Some(path.clone()), format: AccessLogFormat::Json });
    });
    get(&http1(), &world.url("/api/sleep/5?x=1")).await;
    get(&http1(), &world.url("/elsewhere")).await;
    let decision = world.observed(1).await[0].decision;
    let lines = logged(&mut world, &path);
    assert_eq!(lines.len(), 2);
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["path"], "/api/sleep/5?x=1");
    assert_eq!((&line["status"], &line["flags"]), (&200.into(), &"-".into()));
    assert_eq!((&line["route"], &line["pool"]), (&"api".into(), &"main".into()));
    assert_eq!(line["upstream"], instance.address.to_string());
    assert_eq!(line["decision"], decision.id);
    assert_eq!(line["outcome"], "ok");
    assert_eq!(line["bytes_sent"], 7);
    assert_eq!(line["consumer"].as_str().unwrap().len(), 16);
    assert_eq!(line["request_id"].as_str().unwrap().len(), 32);
    assert!(line["predicted_ms"].as_f64().unwrap() > 0.0 && line["measured_ms"].as_f64().unwrap() > 0.0);
    assert!(line["reason"].is_string());
    let line: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!((&line["status"], &line["flags"]), (&404.into(), &"NR".into()));
    assert!(line.get("pool").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_line_can_be_had_instead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let dead = instance::nobody().await;
    let mut world = World::with(&[dead], |settings| {
        settings.access_log =
            Some(AccessLogSettings { path: Some(path.clone()), format: AccessLogFormat::Envoy });
    });
    get(&http1(), &world.url("/api")).await;
    let lines = logged(&mut world, &path);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("\"GET /api HTTP/1.1\" 502 UF 0 "), "{}", lines[0]);
    assert!(lines[0].ends_with(&format!("\"{dead}\"")), "{}", lines[0]);
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_said_at_the_start() {
    let refused = World::try_with(&[], |settings| {
        let path = Some("/no/such/directory/access.log".into());
        settings.access_log = Some(AccessLogSettings { path, format: AccessLogFormat::Json });
    });
    let error = refused.err().expect("an error");
    assert!(matches!(&error, EngineError::AccessLog { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/directory/access.log"));
}

#[tokio::test]
async fn an_address_in_use_is_said_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error =
        World::try_with(&[], |settings| settings.server.listeners[0].address = address).err().unwrap();
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
}
