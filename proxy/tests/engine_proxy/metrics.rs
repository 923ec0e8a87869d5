//! What is counted, under which names. The recorder is the process's, so only what this test alone does is compared.

use std::time::Duration;

use foretide_routing::settings::{HedgeAfter, HedgeSettings};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::client::{get, http1};
use crate::world::{World, route};
use crate::{hedge, instance};

#[tokio::test]
async fn requests_are_counted_by_route_pool_and_code() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("no other test sets one");
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| {
        settings.routing.routes[0].name = "counted".to_owned();
        settings.routing.pools[0].name = "counted-pool".to_owned();
        settings.routing.routes[0].pool = "counted-pool".to_owned();
    });
    for path in ["/api", "/api/status/201", "/api/status/418", "/api/status/418"] {
        get(&http1(), &world.url(path)).await;
    }
    world.observed(4).await;
    world.at_rest().await;
    let text = handle.render();
    let labels = "route=\"counted\",pool=\"counted-pool\"";
    for line in [
        format!("foretide_http_requests_total{{{labels},code=\"200\"}} 1"),
        format!("foretide_http_requests_total{{{labels},code=\"201\"}} 1"),
        format!("foretide_http_requests_total{{{labels},code=\"418\"}} 2"),
        format!("foretide_http_request_duration_seconds_count{{{labels}}} 4"),
        "foretide_upstream_duration_seconds_count{pool=\"counted-pool\"} 4".to_owned(),
        "foretide_requests_in_flight{pool=\"counted-pool\"} 0".to_owned(),
        "foretide_cost_predicted_seconds_count{pool=\"counted-pool\"} 4".to_owned(),
        "foretide_cost_actual_seconds_count{pool=\"counted-pool\"} 4".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("foretide_prediction_duration_seconds_count"));
    hedges_are_counted().await;
    let text = handle.render();
    for line in ["result=\"won\"} 2", "result=\"denied\"} 1"] {
        let line = format!("foretide_hedges_total{{pool=\"hedged-pool\",{line}");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}

/// In turn, with a budget of a half: late and denied, quick, late and saved, late and saved.
async fn hedges_are_counted() {
    let (late, quick) = (instance::slow(Duration::from_millis(400)).await, instance::start().await);
    let world = World::with(&[late.address, quick.address], |settings| {
        let hedge = HedgeSettings { after: HedgeAfter::Fixed(Duration::from_millis(30)), budget: 0.5 };
        settings.routing.pools[0].hedge = Some(hedge);
        settings.routing.pools[0].name = "hedged-pool".to_owned();
        settings.routing.routes[0].pool = "hedged-pool".to_owned();
        settings.routing.routes.push(route("heavy", "/heavy", "hedged-pool"));
    });
    hedge::teach(&world).await;
    for _ in 0..4 {
        assert_eq!(get(&http1(), &world.url("/api")).await.status(), 200);
    }
    world.at_rest().await;
}
