//! What is counted, under which names. The recorder is the process's, so only what this test alone does is compared.

use metrics_exporter_prometheus::PrometheusBuilder;

use crate::client::{get, http1};
use crate::instance;
use crate::world::World;

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
}
