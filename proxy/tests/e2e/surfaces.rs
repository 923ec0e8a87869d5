//! What operators and their tools read: every metric name, every endpoint, every decision by its id.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::client::{PATIENCE, eventually, get, post};
use crate::foretide::{Foretide, config, managed};
use crate::load::{Load, assert_all_served};
use crate::turn;

/// Promised names with labels that at least one sample has.
const METRICS: [(&str, &[&str]); 20] = [
    ("foretide_http_requests_total", &["route=\"all\"", "pool=\"work\"", "code=\"200\""]),
    ("foretide_http_request_duration_seconds_count", &["route=\"all\""]),
    ("foretide_http_request_duration_seconds_bucket", &["le=\"0.1\""]),
    ("foretide_upstream_duration_seconds_count", &["pool=\"work\""]),
    ("foretide_requests_in_flight", &["pool=\"work\""]),
    ("foretide_instance_load_score", &["tier=\"total\""]),
    ("foretide_instance_load_score", &["tier=\"cost\""]),
    ("foretide_instance_state", &["state=\"warm\""]),
    ("foretide_cost_predicted_seconds_count", &["pool=\"work\""]),
    ("foretide_cost_actual_seconds_count", &["pool=\"work\""]),
    ("foretide_prediction_duration_seconds_count", &[]),
    ("foretide_tier_weight", &["tier=\"baseline\""]),
    ("foretide_tier_weight", &["tier=\"cost\""]),
    ("foretide_tier_weight", &["tier=\"peers\""]),
    ("foretide_tier_fallbacks_total", &["reason=\"no_model\""]),
    ("foretide_forecast_work_rate", &["pool=\"work\"", "bound=\"high\""]),
    ("foretide_forecast_coverage_ratio", &["pool=\"work\""]),
    ("foretide_scale_decisions_total", &["action=\"scale_up\"", "reason=\"floor\"", "mode=\"act\""]),
    ("foretide_config_last_reload_successful", &[]),
    ("foretide_build_info", &["version="]),
];

/// Endpoints with a field that their answers have.
const ENDPOINTS: [(&str, &str); 6] = [
    ("/api/v1/info", "version"),
    ("/api/v1/producers", "pools"),
    ("/api/v1/forecasts", "pools"),
    ("/api/v1/decisions", "routing"),
    ("/api/v1/models", "cost"),
    ("/api/v1/decisions?pool=work&limit=3", "scaling"),
];

#[test]
fn everything_promised_to_operators_is_there() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let foretide = Foretide::with(folder.path(), &config(&managed(1, 2)));
    let load = Load::start(foretide.proxy, 20.0, &["/search?rows=300", "/hash?n=2000"]);
    for (name, labels) in METRICS {
        eventually(&format!("{name} with {labels:?}"), || foretide.metric(name, labels));
    }
    every_line_of_metrics_is_well_formed(&foretide.metrics());
    for (path, field) in ENDPOINTS {
        let answer = foretide.api(path);
        assert!(!answer[field].is_null(), "{path} has no {field}: {answer}");
    }
    assert!(get(foretide.admin, "/api/v1/config").body.contains("[pools.work]"));
    for path in ["/", "/dashboard.js", "/dashboard.css", "/chart.js", "/live", "/ready"] {
        let answer = get(foretide.admin, path);
        assert!(answer.status == 200 && !answer.body.is_empty(), "{path}: {answer:?}");
    }
    assert_eq!(get(foretide.admin, "/api/v1/nothing").status, 404);
    assert_eq!(post(foretide.admin, "/api/v1/info", "").status, 405);
    decisions_can_be_asked_for(&foretide);
    events_arrive(&foretide);
    assert_all_served(&load.stop());
    access_log_names_its_decision(&foretide, folder.path());
    foretide.stop();
}

/// Prometheus reads nothing of a page with one bad line.
fn every_line_of_metrics_is_well_formed(text: &str) {
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        let name = series.split('{').next().unwrap_or_default();
        assert!(name.starts_with("foretide_") && !series.contains('{') || series.ends_with('}'), "{line}");
    }
}

fn decisions_can_be_asked_for(foretide: &Foretide) {
    let decisions = eventually("a decision of each kind is kept", || {
        let decisions = foretide.api("/api/v1/decisions");
        let kept = |kind: &str| !decisions[kind][0].is_null();
        (kept("routing") && kept("scaling")).then_some(decisions)
    });
    for kind in ["routing", "scaling"] {
        let one = &decisions[kind][0];
        let id = one["id"].as_u64().unwrap_or_else(|| panic!("no {kind} decision: {decisions}"));
        let by_id = &foretide.api(&format!("/api/v1/decisions/{id}?kind={kind}"))[kind];
        assert_eq!((&by_id["id"], &by_id["pool"]), (&one["id"], &one["pool"]), "{by_id}");
    }
    let routing = &decisions["routing"][0];
    assert!(!routing["candidates"].as_array().expect("candidates").is_empty(), "{routing}");
    assert!(!decisions["scaling"][0]["plan"]["words"].as_str().expect("words").is_empty());
    assert_eq!(get(foretide.admin, "/api/v1/decisions/18446744073709551615").status, 404);
    assert_eq!(get(foretide.admin, "/api/v1/decisions/none").status, 400);
}

fn events_arrive(foretide: &Foretide) {
    let mut stream = TcpStream::connect(foretide.admin).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let admin = foretide.admin;
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {admin}\r\n\r\n").expect("sent");
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains("\"pools\"") {
        let read = stream.read(&mut chunk).expect("an event in time");
        assert!(read > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..read]);
    }
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("text/event-stream") && text.contains("data:"), "{text}");
}

fn access_log_names_its_decision(foretide: &Foretide, folder: &std::path::Path) {
    let request = get(foretide.proxy, "/search?rows=777");
    assert_eq!(request.status, 200);
    let line: Value = eventually("the request's line is written", || {
        let log = std::fs::read_to_string(folder.join("access.log")).ok()?;
        let line = log.lines().find(|line| line.contains("rows=777"))?;
        Some(serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
    });
    assert_eq!((&line["status"], &line["route"]), (&200.into(), &"all".into()), "{line}");
    let id = line["decision"].as_u64().unwrap_or_else(|| panic!("no decision: {line}"));
    let decision = eventually("the decision of the line can be asked for", || {
        let answer = get(foretide.admin, &format!("/api/v1/decisions/{id}?kind=routing"));
        (answer.status == 200).then(|| answer.json()["routing"].clone())
    });
    assert_eq!((&decision["id"], &decision["pool"]), (&id.into(), &"work".into()), "{decision}");
    assert!(
        decision["numbers"].as_array().is_some_and(|numbers| numbers.contains(&777.0.into())),
        "{decision}"
    );
}
