//! Counters of one instance that every request touches: plain atomics, never a lock (contract; body to come).
use foretide_predictor::time::Timestamp;
use std::sync::Arc;

/// Live load of one instance; outlives generations of the table.
#[derive(Debug, Default)]
pub struct LiveLoad {}

/// A snapshot of what is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InFlight {
    /// Requests.
    pub requests: u32,
    /// Sum of their predicted work, microseconds.
    pub work_us: u64,
}

impl LiveLoad {
    /// What is in flight now.
    pub fn in_flight(&self) -> InFlight {
        todo!()
    }
    /// Interference `Σ min(r_i, x)` of the work in flight with a request of predicted work `x`, microseconds.
    pub fn interference_us(&self, _work_us: f64) -> f64 {
        todo!()
    }
    /// Speed residual: EWMA of ln(observed / predicted work), 0 before 50 samples, within ±1.5. Written by control.
    pub fn speed_residual(&self) -> f32 {
        todo!()
    }
    /// Requests and predicted work taken on since the start, for demand: (count, microseconds).
    pub fn taken_total(&self) -> (u64, u64) {
        todo!()
    }
    /// Peak EWMA of latency, microseconds.
    pub fn peak_latency_us(&self, _now: Timestamp) -> f64 {
        todo!()
    }
}

/// Holds a request's predicted work on an instance; dropping it takes the work off, on every path.
#[derive(Debug)]
pub struct Ticket {
    _live: Arc<LiveLoad>,
}

impl Ticket {
    /// Takes the work on. `concurrency`: requests the instance serves at full speed at once.
    pub fn take(_live: &Arc<LiveLoad>, _work_us: f64, _concurrency: u32, _now: Timestamp) -> Self {
        todo!()
    }
    /// Ends the request in good order and returns its measured work in microseconds *with waiting taken off*: the
    /// service it attained under processor sharing, i.e. the integral of min(1, k / n(t)) over its stay, at the
    /// instance's own speed.
    pub fn finish(self, _now: Timestamp) -> f64 {
        todo!()
    }
}
