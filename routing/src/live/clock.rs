//! How much service a request got while it shared an instance.
//!
//! Under processor sharing with `n` requests on `k` slots each is served at the rate `min(1, k / n)`. The clock is the
//! integral of that rate; a request's attained service is the difference of two readings. Kept is what is missing from it,
//! `∫ max(0, 1 − k / n)`, and since when; a reading is the time without what was lost until then. So where slots are free,
//! which is most of the time, arrivals and ends write nothing. Every other one carries the loss on with the number that was in
//! flight since the last, so the integral is exact when calls come one after another. Between threads, a request that
//! arrives during another's advance may be counted a few microseconds early or late.
//!
//! Why not subtract a modelled wait from each latency: that needs the history of `n`, this needs two words.
//! Known weakness: a ticket that is dropped without `finish` brings no time with it, so the span before it is charged
//! at the smaller number in flight.

use foretide_predictor::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Fractions of a microsecond kept: rounding then stays below a thousandth of a microsecond per event, and 64 bits
/// last for 500 years.
const FRACTION_BITS: u32 = 10;

/// Where slots are free the time of the last arrival or end is kept as exactly as this.
const MARKED_EVERY_US: u64 = 1_000;

/// Integral of the service rate, shared by all requests of an instance.
#[derive(Debug, Default)]
pub(crate) struct ServiceClock {
    last_us: AtomicU64,
    /// Service that a request has not got that was there all the time.
    lost: AtomicU64,
}

impl ServiceClock {
    /// The last time it was advanced to; a millisecond too early at most where slots are free.
    pub(crate) fn last(&self) -> Timestamp {
        Timestamp::from_us(self.last_us.load(Relaxed))
    }

    /// Carries the clock on to `now`, when requests in flight change from `before` to `after`, on `slots` slots; its
    /// reading.
    pub(crate) fn advance(&self, now: Timestamp, before: u64, after: u64, slots: u32) -> u64 {
        let (now_us, slots) = (now.as_us(), u64::from(slots.max(1)));
        let mut last_us = self.last_us.load(Relaxed);
        if before.max(after) >= slots || now_us.saturating_sub(last_us) > MARKED_EVERY_US {
            // The maximum, not a swap: a thread that comes late with an early time must not count a span twice.
            last_us = self.last_us.fetch_max(now_us, Relaxed);
        }
        let lost = if before > slots {
            let elapsed = now_us.saturating_sub(last_us).wrapping_shl(FRACTION_BITS);
            let served = (elapsed as f64 * (slots as f64 / before as f64)) as u64;
            let lost = elapsed.saturating_sub(served);
            self.lost.fetch_add(lost, Relaxed).wrapping_add(lost)
        } else {
            self.lost.load(Relaxed)
        };
        reading(now_us.max(last_us), lost)
    }
}

fn reading(now_us: u64, lost: u64) -> u64 {
    now_us.wrapping_shl(FRACTION_BITS).wrapping_sub(lost)
}

/// Service between two readings, microseconds; 0 where another thread's loss came between time and reading.
pub(crate) fn between_us(start: u64, end: u64) -> f64 {
    let served = end.wrapping_sub(start) as i64;
    served.max(0) as f64 / (1 << FRACTION_BITS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_slots_are_free_little_is_written_and_nothing_lost() {
        let clock = ServiceClock::default();
        let at = |us: u64| Timestamp::from_us(1_000_000 + us);
        let start = clock.advance(at(0), 0, 1, 4);
        assert_eq!(clock.last(), at(0));
        assert_eq!(between_us(start, clock.advance(at(900), 1, 2, 4)), 900.0);
        assert_eq!(clock.last(), at(0), "still the same millisecond");
        clock.advance(at(1_500), 2, 1, 4);
        assert_eq!(clock.last(), at(1_500));
        // Full: exact from here on. Then one waits with four others, and each gets four fifths.
        clock.advance(at(1_600), 3, 4, 4);
        clock.advance(at(1_700), 4, 5, 4);
        assert_eq!(clock.last(), at(1_700));
        assert_eq!(between_us(start, clock.advance(at(2_200), 5, 4, 4)), 1_700.0 + 400.0);
        assert_eq!(between_us(start, clock.advance(at(2_100), 4, 3, 4)), 1_700.0 + 400.0, "late");
    }
}
