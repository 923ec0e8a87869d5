//! When a request got its worker, where an instance serves in order of arrival.
//!
//! With `k` workers and one queue, the request that found `n ≥ k` others there begins when `n + 1 − k` of whatever was
//! there has ended: ends are counted, and their times kept, so the moment is looked up when the request itself ends. Exact
//! for one proxy that knows the number of workers. A request that ends before its turn has come shows that the instance
//! does not serve in order of arrival, whatever anybody predicted.
//!
//! The times of the last 256 ends are kept, and of every sixteenth of the last four thousand: a request that others
//! overtake so often is so long that its wait need not be known better. Between two kept times the one before counts, so
//! such a wait is too short rather than too long.
//!
//! Why not one cell per waiting request: that needs a list. Known weaknesses: requests of other proxies are not seen, so
//! waiting behind them looks like work; one that is given up while it waits is taken for an end, and who came before it is
//! then thought to have begun a little early; two threads that end requests in the same microsecond may swap their times.

use foretide_predictor::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Times kept at each spacing.
const KEPT: usize = 256;
/// Spacings: every end, every sixteenth.
const SPACINGS: [u64; 2] = [1, 16];

/// Times of ends, microseconds, in cache lines of their own.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Turns([[AtomicU64; KEPT]; SPACINGS.len()]);

impl Default for Turns {
    fn default() -> Self {
        Self([const { [const { AtomicU64::new(0) }; KEPT] }; SPACINGS.len()])
    }
}

/// The end at which a request begins, counted from 1; 0: it begins at once. `ended`: ends so far; `found`: requests there.
pub(crate) fn turn(ended: u64, found: u64, workers: u32) -> u64 {
    let workers = u64::from(workers.max(1));
    if found < workers { 0 } else { ended + (found + 1 - workers) }
}

impl Turns {
    /// The `number`-th request, counted from 1, has ended.
    pub(crate) fn ended(&self, number: u64, at: Timestamp) {
        for (kept, spacing) in self.0.iter().zip(SPACINGS) {
            if !number.is_multiple_of(spacing) {
                break;
            }
            kept[(number / spacing) as usize % KEPT].store(at.as_us(), Relaxed);
        }
    }

    /// When the `number`-th request ended, of `ended` so far; zero: too long ago. `None`: it has not.
    pub(crate) fn when(&self, number: u64, ended: u64) -> Option<Timestamp> {
        let since = ended.checked_sub(number)?;
        // One less than is kept: the next end may be written at this moment.
        let spacing = SPACINGS.iter().position(|spacing| since < spacing * (KEPT as u64 - 1));
        let at_us = spacing
            .map_or(0, |index| self.0[index][(number / SPACINGS[index]) as usize % KEPT].load(Relaxed));
        Some(Timestamp::from_us(at_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_ends_are_known_exactly_and_old_ones_nearly() {
        let turns = Turns::default();
        let at = |number: u64| Timestamp::from_us(1_000 * number);
        (1..=5_000).for_each(|number| turns.ended(number, at(number)));
        assert_eq!(turns.when(5_000, 5_000), Some(at(5_000)));
        assert_eq!(turns.when(4_746, 5_000), Some(at(4_746)));
        assert_eq!(turns.when(4_030, 5_000), Some(at(4_016)), "the sixteenth before");
        assert_eq!(turns.when(1_000, 5_000), Some(at(992)));
        assert_eq!(turns.when(5_001, 5_000), None, "not its turn yet");
        assert_eq!(turns.when(1, 20_000), Some(Timestamp::ZERO), "forgotten");
    }

    #[test]
    fn who_finds_a_free_worker_begins_at_once() {
        assert_eq!(turn(7, 3, 4), 0);
        assert_eq!(turn(7, 4, 4), 8);
        assert_eq!(turn(7, 1, 1), 8);
        assert_eq!(turn(0, 5, 0), 5, "no workers are one");
    }
}
