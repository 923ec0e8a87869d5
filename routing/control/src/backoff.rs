//! How soon a start may be tried again after starts that failed.
//!
//! ```text
//! wait = min(1 s · 2^(failures in a row - 1), 60 s), then one start at a time until one becomes ready and stays
//! ```
//!
//! An instance that becomes ready and falls over at once counts as a failed start, else a crash loop would run at the
//! speed of the starts.
use foretide_predictor::time::Timestamp;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// An instance that lived for so long did not fail to start.
const STAYED: Duration = Duration::from_secs(10);

/// Failed starts of one pool.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failed_starts: u32,
    early_ends: u32,
    last: Timestamp,
    /// Why the last one failed, for people.
    pub(crate) last_error: Option<String>,
}

impl Backoff {
    /// A start failed.
    pub(crate) fn failed(&mut self, why: String, now: Timestamp) {
        self.failed_starts = self.failed_starts.saturating_add(1);
        self.last = now;
        self.last_error = Some(why);
    }

    /// An instance ended by itself after so long in service.
    pub(crate) fn ended(&mut self, lived: Duration, now: Timestamp) {
        if lived < STAYED {
            self.early_ends = self.early_ends.saturating_add(1);
            self.last = now;
            self.last_error =
                Some(format!("ended by itself {:.1} s after it was ready", lived.as_secs_f64()));
        } else {
            self.early_ends = 0;
        }
    }

    /// A start succeeded.
    pub(crate) fn ready(&mut self) {
        self.failed_starts = 0;
    }

    /// Instances asked for since the last failure stayed.
    pub(crate) fn stayed(&mut self, asked_at: Timestamp, warm_for: Duration) {
        if asked_at > self.last && warm_for >= STAYED {
            self.early_ends = 0;
        }
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failed_starts.saturating_add(self.early_ends)
    }

    /// Starts allowed now, while `starting` others are under way; `None`: as many as planned.
    pub(crate) fn allowed(&self, starting: u32, now: Timestamp) -> Option<u32> {
        let failures = self.failures();
        if failures == 0 {
            return None;
        }
        let waited = now.since(self.last) >= Self::wait(failures);
        Some(if waited && starting == 0 { 1 } else { 0 })
    }

    /// Time from the last failure to the next start.
    fn wait(failures: u32) -> Duration {
        FIRST.saturating_mul(1 << (failures - 1).min(6)).min(LONGEST)
    }

    /// For the report; `None` when nothing failed.
    pub(crate) fn words(&self) -> Option<String> {
        let failures = self.failures();
        let why = self.last_error.as_deref().unwrap_or("no reason given");
        (failures > 0).then(|| {
            format!(
                "starts wait {:.0} s after {failures} failed in a row: {why}",
                Self::wait(failures).as_secs_f64()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_us(seconds * 1_000_000)
    }

    #[test]
    fn waits_double_up_to_a_minute_and_end_with_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.allowed(3, at(0)), None);
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                backoff.failed("no port".to_owned(), at(0));
                (0..).find(|&seconds| backoff.allowed(0, at(seconds)) == Some(1)).unwrap()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.allowed(1, at(100)), Some(0), "one at a time");
        backoff.ready();
        assert_eq!(backoff.allowed(1, at(100)), None);
    }

    #[test]
    fn a_crash_loop_is_a_failed_start() {
        let mut backoff = Backoff::default();
        backoff.ended(Duration::from_secs(1), at(10));
        backoff.ready();
        backoff.ended(Duration::from_secs(1), at(20));
        assert_eq!(backoff.failures(), 2);
        backoff.stayed(at(5), Duration::from_secs(60));
        assert_eq!(backoff.failures(), 2, "an older instance proves nothing");
        backoff.stayed(at(21), Duration::from_secs(10));
        assert_eq!(backoff.failures(), 0);
    }
}
