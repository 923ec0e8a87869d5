//! Whether a request may be tried again.
//!
//! Retries are let through as a share of requests (Finagle's `RetryBudget`): over the last ten seconds
//! `retries < ratio · requests + floor · 10 s`. An outage then costs at most that share more load, instead of a
//! multiple.
//!
//! Ten one-second slots, each one word {second, requests, retries}: what is older than ten seconds falls out by itself.
//! Why slots and not a leaking bucket: a bucket needs a cap, and the right cap depends on the request rate.

use crate::settings::RetrySettings;
use foretide_predictor::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seconds remembered.
const SLOTS: u64 = 10;
/// Low bits: retries, up to a million a second.
const RETRY_BITS: u32 = 20;
/// Then requests, up to 16 million a second; the 20 bits above hold the second, unambiguous for twelve days.
const REQUEST_BITS: u32 = 24;
const SECOND_BITS: u32 = 64 - RETRY_BITS - REQUEST_BITS;

/// Lets retries through as a share of requests, so that they cannot feed an outage. Atomics only.
#[derive(Debug)]
pub struct RetryBudget {
    settings: RetrySettings,
    slots: [AtomicU64; SLOTS as usize],
}

#[derive(Clone, Copy)]
struct Slot {
    second: u64,
    requests: u64,
    retries: u64,
}

impl Slot {
    fn unpack(word: u64) -> Self {
        let requests = (word >> RETRY_BITS) & ((1 << REQUEST_BITS) - 1);
        Self {
            second: word >> (RETRY_BITS + REQUEST_BITS),
            requests,
            retries: word & ((1 << RETRY_BITS) - 1),
        }
    }

    fn pack(self) -> u64 {
        let requests = self.requests.min((1 << REQUEST_BITS) - 1);
        let retries = self.retries.min((1 << RETRY_BITS) - 1);
        self.second << (RETRY_BITS + REQUEST_BITS) | requests << RETRY_BITS | retries
    }

    fn is_recent(self, second: u64) -> bool {
        (second.wrapping_sub(self.second) & ((1 << SECOND_BITS) - 1)) < SLOTS
    }
}

impl RetryBudget {
    /// A full budget.
    pub fn new(settings: RetrySettings) -> Self {
        Self { settings, slots: Default::default() }
    }

    /// A first try pays in.
    pub fn deposit(&self, now: Timestamp) {
        self.update(now, |slot| slot.requests += 1);
    }

    /// A retry draws; `false`: not now.
    pub fn withdraw(&self, now: Timestamp) -> bool {
        // Drawn first and given back if there was nothing: two threads cannot both take the last one.
        self.update(now, |slot| slot.retries += 1);
        let (requests, retries) = self.recent(now);
        let floor = self.settings.budget_floor_per_s * SLOTS as f64;
        let allowed = retries as f64 <= self.settings.budget_ratio * requests as f64 + floor;
        if !allowed {
            self.update(now, |slot| slot.retries = slot.retries.saturating_sub(1));
        }
        allowed
    }

    fn update(&self, now: Timestamp, change: impl Fn(&mut Slot)) {
        let second = second_of(now);
        let slot = &self.slots[(now.as_us() / 1_000_000 % SLOTS) as usize];
        let _always_changed = slot.fetch_update(Relaxed, Relaxed, |word| {
            let mut held = Slot::unpack(word);
            if held.second != second {
                held = Slot { second, requests: 0, retries: 0 };
            }
            change(&mut held);
            Some(held.pack())
        });
    }

    /// Requests and retries of the last ten seconds.
    fn recent(&self, now: Timestamp) -> (u64, u64) {
        let second = second_of(now);
        self.slots
            .iter()
            .map(|slot| Slot::unpack(slot.load(Relaxed)))
            .filter(|slot| slot.is_recent(second))
            .fold((0, 0), |(requests, retries), slot| (requests + slot.requests, retries + slot.retries))
    }
}

fn second_of(now: Timestamp) -> u64 {
    (now.as_us() / 1_000_000) & ((1 << SECOND_BITS) - 1)
}

/// Whether a request may be sent again: idempotent by RFC 9110 §9.2.2, or nothing of it has reached an instance.
pub fn is_safe(method: &str, nothing_sent: bool) -> bool {
    nothing_sent || matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(ratio: f64, floor: f64) -> RetryBudget {
        RetryBudget::new(RetrySettings { attempts: 3, budget_ratio: ratio, budget_floor_per_s: floor })
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_us(1_700_000_000_000_000 + seconds * 1_000_000)
    }

    fn drawn(budget: &RetryBudget, now: Timestamp) -> usize {
        (0..1_000).filter(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn retries_are_a_share_of_requests_over_a_floor() {
        let budget = budget(0.2, 1.0);
        assert_eq!(drawn(&budget, at(0)), 10, "ten seconds of floor");
        (0..100).for_each(|_| budget.deposit(at(1)));
        assert_eq!(drawn(&budget, at(2)), 20, "a fifth of a hundred on top");
        assert_eq!(drawn(&budget, at(2)), 0);
    }

    #[test]
    fn what_is_older_than_ten_seconds_counts_no_more() {
        let budget = budget(0.5, 0.0);
        (0..10).for_each(|_| budget.deposit(at(0)));
        assert_eq!(drawn(&budget, at(9)), 5);
        (0..4).for_each(|_| budget.deposit(at(9)));
        assert_eq!(drawn(&budget, at(10)), 0, "the ten requests are gone, the five retries are not");
        assert_eq!(drawn(&budget, at(19)), 0, "all is gone");
        (0..4).for_each(|_| budget.deposit(at(25)));
        assert_eq!(drawn(&budget, at(25)), 2);
    }

    #[test]
    fn only_idempotent_or_unsent_requests_are_safe() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_safe(method, false), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", ""] {
            assert!(!is_safe(method, false) && is_safe(method, true), "{method}");
        }
    }
}
