//! Tier 3: is this consumer, or everybody, worse off on that instance than expected? (contract; body to come)
use crate::id::InstanceId;
use crate::time::Timestamp;
use serde::Serialize;

/// Bounded concurrent table of residuals per (consumer, instance): many readers, one writer, no lock.
#[derive(Debug)]
pub struct PeerTable {}

/// How unusual an instance is, seen by all its consumers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Anomaly {
    /// Which instance.
    pub instance: InstanceId,
    /// Robust z-score of its median residual among the pool's instances (median and MAD); positive is worse.
    pub score: f64,
    /// Share of capacity that this excess is likely to cost, >= 0: tier 3's part of the load score.
    pub excess: f64,
    /// Share of recent requests that failed there.
    pub error_ratio: f64,
    /// Consumers it rests on.
    pub consumers: usize,
}

impl PeerTable {
    /// `cells`: capacity, rounded up to a power of two; 4,096 if in doubt.
    pub fn new(_cells: usize) -> Self {
        todo!()
    }
    /// Learns from one finished request: ln(observed / expected latency), and whether it failed by the producer.
    pub fn observe(
        &self,
        _consumer_key: u64,
        _instance: InstanceId,
        _log_residual: f64,
        _failed: bool,
        _now: Timestamp,
    ) {
        todo!()
    }
    /// Factor on the score of `instance` for this consumer: 1.0 when nothing is known, above when it fares badly
    /// there; within [1/2, 4]. No lock, no allocation.
    pub fn factor(&self, _consumer_key: u64, _instance: InstanceId) -> f32 {
        todo!()
    }
    /// Compares the instances of one pool with each other.
    pub fn anomalies(&self, _instances: &[InstanceId], _now: Timestamp) -> Vec<Anomaly> {
        todo!()
    }
    /// Forgets an instance that is gone.
    pub fn forget(&self, _instance: InstanceId) {
        todo!()
    }
}
