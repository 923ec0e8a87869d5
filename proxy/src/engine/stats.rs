//! Live counters of the engine, for the admin API and for draining.

use std::sync::atomic::{AtomicU64, Ordering};

/// Live counters. Every method is a snapshot; all count since the start unless they say otherwise.
#[derive(Debug, Default)]
pub struct EngineStats {
    connections: AtomicU64,
    in_flight: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    log_dropped: AtomicU64,
}

impl EngineStats {
    /// Client connections open now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Requests whose head was read.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Second and later tries.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Access log lines dropped because the writer could not keep up.
    pub fn log_dropped(&self) -> u64 {
        self.log_dropped.load(Ordering::Relaxed)
    }

    pub(super) fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// Its number, from 0.
    pub(super) fn request_started(&self) -> u64 {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// It was none: it counts neither as in flight nor as a request.
    pub(super) fn request_set_aside(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn line_dropped(&self) {
        self.log_dropped.fetch_add(1, Ordering::Relaxed);
    }
}
