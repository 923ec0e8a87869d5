//! Peak EWMA of latency (Twitter Finagle's `PeakEwma`, also linkerd's): jumps to every new peak, falls back slowly.
//!
//! `cost = latency` if it is above the average, else `cost = w · cost + (1 - w) · latency` with
//! `w = exp(-span / decay)`. Reading decays it too, so that an instance that had one bad answer is tried again.
//! States: nothing observed (reads 0), following.
//!
//! Value and time share one word, so a reader never mixes two updates. Known weakness: of two answers in the same
//! instant one may be lost; the next one repairs it.

use foretide_predictor::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Finagle's default: ten seconds.
const DECAY_MS: f64 = 10_000.0;

/// Low half: f32 bits of microseconds. High half: milliseconds of the last update, modulo 2^32 (49 days).
#[derive(Debug, Default)]
pub(crate) struct PeakLatency(AtomicU64);

impl PeakLatency {
    /// Takes one answer in.
    pub(crate) fn observe(&self, latency_us: f64, now: Timestamp) {
        if !(latency_us.is_finite() && latency_us >= 0.0) {
            return;
        }
        let old = self.0.load(Relaxed);
        let (value_us, age_ms) = unpack(old, now);
        let kept = if value_us > latency_us { (-age_ms / DECAY_MS).exp() } else { 0.0 };
        let value_us = value_us * kept + latency_us * (1.0 - kept);
        let _lost_to_another_answer = self.0.compare_exchange(old, pack(value_us, now), Relaxed, Relaxed);
    }

    /// The average as of now, microseconds.
    pub(crate) fn read_us(&self, now: Timestamp) -> f64 {
        let (value_us, age_ms) = unpack(self.0.load(Relaxed), now);
        if value_us == 0.0 { 0.0 } else { value_us * (-age_ms / DECAY_MS).exp() }
    }
}

fn pack(value_us: f64, now: Timestamp) -> u64 {
    u64::from(milliseconds(now)) << 32 | u64::from((value_us as f32).min(f32::MAX).to_bits())
}

fn unpack(word: u64, now: Timestamp) -> (f64, f64) {
    let age = milliseconds(now).wrapping_sub((word >> 32) as u32);
    // A reader slightly behind the writer sees an age just below 2^32: that is no time at all.
    let age = if age > u32::MAX / 2 { 0 } else { age };
    (f64::from(f32::from_bits(word as u32)), f64::from(age))
}

fn milliseconds(now: Timestamp) -> u32 {
    (now.as_us() / 1_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_up_at_once_and_falls_with_time() {
        let latency = PeakLatency::default();
        let at = |seconds: u64| Timestamp::from_us(seconds * 1_000_000);
        assert_eq!(latency.read_us(at(1)), 0.0);
        latency.observe(1_000.0, at(1));
        latency.observe(8_000.0, at(1));
        assert_eq!(latency.read_us(at(1)), 8_000.0);
        latency.observe(1_000.0, at(11));
        let expected = 8_000.0 * (-1f64).exp() + 1_000.0 * (1.0 - (-1f64).exp());
        assert!((latency.read_us(at(11)) - expected).abs() < 0.01);
        assert!(latency.read_us(at(31)) < 0.2 * expected);
        latency.observe(f64::NAN, at(31));
        latency.observe(-1.0, at(31));
        assert!(latency.read_us(at(10)) > 0.0, "a reader behind the writer sees no decay");
    }
}
