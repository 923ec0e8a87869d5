//! The recorder with its buckets, and what the admin side counts itself.
//!
//! What happens on requests is counted, and described, where it happens, through the `metrics` crate. What is a *state*
//! (scores, tiers, forecasts) is not recorded at all: `super::snapshot` writes it from the report when somebody asks,
//! so that the series of an instance end with the instance.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use foretide_control::report::StatusReport;
use serde::Serialize;

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// Buckets are empty.
    #[error("metric buckets: {0}")]
    Buckets(#[from] metrics_exporter_prometheus::BuildError),
    /// Another recorder is in place.
    #[error("metrics are recorded elsewhere already: {0}")]
    Taken(String),
}

/// Seconds, from half a millisecond to a minute, about three to a decade: requests and their costs.
const BUCKETS_S: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Seconds, from a tenth of a microsecond to a millisecond: a decision aims at 2 µs.
const DECISION_BUCKETS_S: [f64; 10] = [1e-7, 2.5e-7, 5e-7, 1e-6, 2e-6, 4e-6, 8e-6, 2e-5, 1e-4, 1e-3];

/// Makes the recorder of this process; call it before the first metric is touched. The handle's `run_upkeep` must be
/// called every second: histogram samples pile up between two calls (10 M of them are 161 MB).
pub fn install(version: &str) -> Result<PrometheusHandle, MetricsError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&BUCKETS_S)?
        .set_buckets_for_metric(
            Matcher::Full("foretide_prediction_duration_seconds".to_owned()),
            &DECISION_BUCKETS_S,
        )?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| MetricsError::Taken(error.to_string()))?;
    describe();
    gauge!("foretide_build_info", "version" => version.to_owned()).set(1.0);
    Ok(handle)
}

/// Says how the last reading of the configuration went, the first one included.
pub fn config_reloaded(successful: bool) {
    gauge!("foretide_config_last_reload_successful").set(f64::from(u8::from(successful)));
}

fn describe() {
    describe_counter!(
        "foretide_scale_decisions_total",
        "Scaling decisions, by action, reason and mode; only mode act changes anything."
    );
    describe_gauge!(
        "foretide_config_last_reload_successful",
        "1 if the configuration was last read without errors, 0 if an older one stays in service."
    );
    describe_gauge!("foretide_build_info", "Always 1; the version is in the label.");
}

/// Counts each scaling decision once, by its id.
#[derive(Debug, Default)]
pub(super) struct ScalingCounter {
    /// Ids below this are counted; they only grow.
    next: u64,
}

impl ScalingCounter {
    pub(super) fn observe(&mut self, report: &StatusReport) {
        let newest = report.scaling_decisions.iter().map(|decision| decision.id + 1).max().unwrap_or(0);
        for decision in report.scaling_decisions.iter().filter(|decision| decision.id >= self.next) {
            counter!(
                "foretide_scale_decisions_total",
                "action" => word(&decision.plan.action),
                "reason" => word(&decision.plan.reason),
                "mode" => word(&decision.mode),
            )
            .increment(1);
        }
        self.next = self.next.max(newest);
    }
}

/// The name a plain enum has in JSON.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}
