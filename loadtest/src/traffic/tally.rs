//! What came of the requests sent.

use std::time::Duration;

use hdrhistogram::Histogram;
use http::StatusCode;
use serde::Serialize;

/// Single requests kept in a summary; later ones are only counted.
pub const MOST_RECORDS: usize = 200_000;

/// A day: longer latencies are cut to it.
const LONGEST_US: u64 = 86_400_000_000;

/// How it is going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficProgress {
    /// Requests whose time has come.
    pub sent: u64,
    /// Answered or failed.
    pub finished: u64,
    /// Failed: no answer, or too many in flight.
    pub errors: u64,
    /// Under way.
    pub in_flight: u64,
}

/// One request that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentRequest {
    /// Intended time, from the start, microseconds.
    pub at_us: u64,
    /// From the intended time to the end of the answer, microseconds.
    pub latency_us: u64,
    /// Status; 0: no answer.
    pub status: u16,
    /// Path and query.
    pub path: String,
    /// Tenant; empty: none.
    pub tenant: String,
}

/// All that came of it.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficSummary {
    /// Requests whose time came.
    pub sent: u64,
    /// Answers by class: 1xx to 5xx.
    pub status_classes: [u64; 5],
    /// No answer: refused, reset, timed out or dropped.
    pub errors: u64,
    /// Of the errors, those never sent because too many were in flight.
    pub dropped: u64,
    /// Median latency of answered requests, from the intended time, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Share of all requests that were slower than the objective, got a 5xx, or failed; 0 to 1.
    pub over_objective_ratio: f64,
    /// The first requests to finish, in that order.
    pub requests: Vec<SentRequest>,
    /// Further ones, not kept.
    pub requests_not_kept: u64,
    /// Latency of answered requests, microseconds.
    #[serde(skip)]
    pub latency_us: Histogram<u64>,
}

/// Counts as answers come in.
pub(super) struct Tally {
    objective_us: u64,
    progress: TrafficProgress,
    status_classes: [u64; 5],
    dropped: u64,
    over_objective: u64,
    requests: Vec<SentRequest>,
    latency_us: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(objective: Duration) -> Self {
        Self {
            objective_us: objective.as_micros() as u64,
            progress: TrafficProgress::default(),
            status_classes: [0; 5],
            dropped: 0,
            over_objective: 0,
            requests: Vec::new(),
            latency_us: Histogram::new_with_bounds(1, LONGEST_US, 3).expect("constant bounds are valid"),
        }
    }

    pub(super) fn progress(&self) -> TrafficProgress {
        self.progress
    }

    pub(super) fn started(&mut self) {
        self.progress.sent += 1;
        self.progress.in_flight += 1;
    }

    /// Never sent: too many in flight.
    pub(super) fn dropped(&mut self) {
        self.progress.sent += 1;
        self.progress.finished += 1;
        self.progress.errors += 1;
        self.dropped += 1;
        self.over_objective += 1;
    }

    /// An answer, or none (status 0).
    pub(super) fn finished(&mut self, request: SentRequest) {
        self.progress.in_flight -= 1;
        self.progress.finished += 1;
        match StatusCode::from_u16(request.status) {
            Ok(status) => {
                if let Some(class) = self.status_classes.get_mut(usize::from(status.as_u16() / 100 - 1)) {
                    *class += 1;
                }
                self.latency_us.saturating_record(request.latency_us);
            }
            Err(_) => self.progress.errors += 1,
        }
        let failed = request.status == 0 || request.status >= 500;
        if failed || request.latency_us > self.objective_us {
            self.over_objective += 1;
        }
        if self.requests.len() < MOST_RECORDS {
            self.requests.push(request);
        }
    }

    pub(super) fn summary(self) -> TrafficSummary {
        let quantile_ms = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1e3;
        let kept = self.requests.len() as u64;
        TrafficSummary {
            sent: self.progress.sent,
            status_classes: self.status_classes,
            errors: self.progress.errors,
            dropped: self.dropped,
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            p999_ms: quantile_ms(0.999),
            over_objective_ratio: self.over_objective as f64 / self.progress.sent.max(1) as f64,
            requests_not_kept: self.progress.finished - self.dropped - kept,
            requests: self.requests,
            latency_us: self.latency_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(latency_us: u64, status: u16) -> SentRequest {
        SentRequest { at_us: 0, latency_us, status, path: "/".into(), tenant: String::new() }
    }

    #[test]
    fn slow_failed_and_dropped_requests_are_over_the_objective() {
        let mut tally = Tally::new(Duration::from_millis(100));
        for request in [sent(1_000, 200), sent(99_000, 404), sent(200_000, 200), sent(5, 503), sent(10, 0)] {
            tally.started();
            tally.finished(request);
        }
        tally.dropped();
        let summary = tally.summary();
        assert_eq!((summary.sent, summary.errors, summary.dropped), (6, 2, 1));
        assert_eq!(summary.status_classes, [0, 2, 0, 1, 1]);
        assert_eq!(summary.over_objective_ratio, 4.0 / 6.0);
        assert_eq!(summary.latency_us.len(), 4, "only answers have a latency");
        assert_eq!((summary.requests.len(), summary.requests_not_kept), (5, 0));
    }
}
