//! How much service a request got while it shared an instance.
//!
//! Under processor sharing with `n` requests on `k` slots each is served at the rate `min(1, k / n)`. The clock is the
//! integral of that rate; a request's attained service is the difference of two readings. Every arrival and every end
//! advances it with the number that was in flight since the last advance, so the integral is exact when calls come one
//! after another. Between threads, a request that arrives during another's advance may be counted a few microseconds
//! early or late.
//!
//! Why not subtract a modelled wait from each latency: that needs the history of `n`, this needs two words.
//! Known weakness: a ticket that is dropped without `finish` brings no time with it, so the span before it is charged
//! at the smaller number in flight.

use foretide_predictor::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Fractions of a microsecond kept: rounding then stays below a thousandth of a microsecond per event, and 64 bits
/// last for 500 years.
const FRACTION_BITS: u32 = 10;

/// Integral of the service rate, shared by all requests of an instance.
#[derive(Debug, Default)]
pub(crate) struct ServiceClock {
    last_us: AtomicU64,
    served: AtomicU64,
}

impl ServiceClock {
    /// The last time it was advanced to.
    pub(crate) fn last(&self) -> Timestamp {
        Timestamp::from_us(self.last_us.load(Relaxed))
    }

    /// Carries the clock on to `now`, with `in_flight` requests on `slots` slots since the last time; its reading.
    pub(crate) fn advance(&self, now: Timestamp, in_flight: u64, slots: u32) -> u64 {
        let now_us = now.as_us();
        // The maximum, not a swap: a thread that comes late with an early time must not count a span twice.
        let elapsed_us = now_us.saturating_sub(self.last_us.fetch_max(now_us, Relaxed));
        let slots = u64::from(slots.max(1));
        let served = if in_flight <= slots {
            elapsed_us.wrapping_shl(FRACTION_BITS)
        } else {
            (elapsed_us as f64 * (1 << FRACTION_BITS) as f64 * (slots as f64 / in_flight as f64)) as u64
        };
        self.served.fetch_add(served, Relaxed).wrapping_add(served)
    }
}

/// Service between two readings, microseconds.
pub(crate) fn between_us(start: u64, end: u64) -> f64 {
    end.wrapping_sub(start) as f64 / (1 << FRACTION_BITS) as f64
}
