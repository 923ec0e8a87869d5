//! Retry budget (contract; body to come).
use crate::settings::RetrySettings;
use foretide_predictor::time::Timestamp;

/// Lets retries through as a share of requests, so that they cannot feed an outage (Finagle's budget). Atomics only.
#[derive(Debug)]
pub struct RetryBudget {}

impl RetryBudget {
    /// A full budget.
    pub fn new(_settings: RetrySettings) -> Self {
        todo!()
    }
    /// A first try pays in.
    pub fn deposit(&self, _now: Timestamp) {
        todo!()
    }
    /// A retry draws; `false`: not now.
    pub fn withdraw(&self, _now: Timestamp) -> bool {
        todo!()
    }
}

/// Whether a request may be sent again: idempotent by RFC 9110 §9.2.2, or nothing of it has reached an instance.
pub fn is_safe(_method: &str, _nothing_sent: bool) -> bool {
    todo!()
}
