//! What a proxy beside a producer shows to those that send it requests: everything in flight through it, by predicted
//! work, and how fast its instances are.
//!
//! *Whose prediction* matters. A sender takes its own requests off by bucket, so they must be counted here in the bucket in
//! which the sender has them: it says with each request what it predicts ([`WORK_HEADER`]). A request without it counts with
//! this proxy's own prediction. For the same reason the speed residual is `ln(attained / what the sender predicted)`, over
//! all requests that came with a prediction: this proxy's own model learns on its own instances, to it they are never slow.
//!
//! Known weakness: a sender may say what it likes, and with it make the instance look busy or idle, slow or fast by a
//! factor of [`foretide_steering::speed::LIMIT`] at most. So the header is for proxies, and nothing else rests on it.

use crate::live::{LiveLoad, Ticket};
use foretide_predictor::time::Timestamp;
use foretide_steering::sight::Report;
use foretide_steering::speed;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Request header, lower case: predicted work in whole microseconds.
pub const WORK_HEADER: &str = "foretide-work";
/// Samples before the mean says anything, as in [`foretide_steering::speed`].
const ENOUGH: u32 = 50;
/// Weight of a sample: a memory of some thirty requests.
const WEIGHT: f32 = 0.03;
/// One sample counts no more than a factor of 20 either way.
const MOST_SAMPLE: f32 = 3.0;

/// What is shown. Any thread; no lock.
#[derive(Debug, Default)]
pub struct Shown {
    load: Arc<LiveLoad>,
    /// Samples, and their mean as the bits of a single-precision number.
    residual: AtomicU64,
}

/// A request that is shown as long as this lives.
#[derive(Debug)]
pub struct Guest {
    ticket: Option<Ticket>,
    told_us: Option<f64>,
}

impl Guest {
    /// Its instance is done with it: it is shown no more.
    pub fn leave(&mut self) {
        self.ticket = None;
    }
}

impl Shown {
    /// A request came in. `told_us`: what its sender predicts, if it says so; `own_us`: what is predicted here.
    pub fn enter(&self, told_us: Option<f64>, own_us: f64, now: Timestamp) -> Guest {
        let ticket = Ticket::take(&self.load, told_us.unwrap_or(own_us), 1, now);
        Guest { ticket: Some(ticket), told_us }
    }

    /// A guest was served in full and attained so much service, waiting taken off, microseconds.
    pub fn served(&self, guest: &Guest, attained_us: f64) {
        let Some(told_us) = guest.told_us else { return };
        let sample = (attained_us / told_us).ln() as f32;
        if !sample.is_finite() {
            return;
        }
        let sample = sample.clamp(-MOST_SAMPLE, MOST_SAMPLE);
        let (samples, mean) = split(self.residual.load(Relaxed));
        let samples = samples.saturating_add(1);
        let mean = mean + WEIGHT.max(1.0 / samples as f32) * (sample - mean);
        // Two at once lose a sample.
        self.residual.store(u64::from(samples) << 32 | u64::from(mean.to_bits()), Relaxed);
    }

    /// What to say.
    pub fn report(&self) -> Report {
        let (samples, mean) = split(self.residual.load(Relaxed));
        let limit = speed::LIMIT as f32;
        let residual = (samples >= ENOUGH).then(|| mean.clamp(-limit, limit));
        Report { counts: self.load.counts(), residual }
    }
}

fn split(word: u64) -> (u32, f32) {
    ((word >> 32) as u32, f32::from_bits(word as u32))
}

/// The work that a sender says; `None`: nonsense. At most nine digits and a bit are looked at.
pub fn told_us(value: &[u8]) -> Option<f64> {
    if value.len() > 10 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let us: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (us > 0).then_some(us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Timestamp {
        Timestamp::from_us(us)
    }

    #[test]
    fn requests_show_in_their_senders_bucket_while_they_last() {
        let shown = Shown::default();
        let guests = [shown.enter(Some(300.0), 9e6, at(1)), shown.enter(None, 600.0, at(2))];
        let report = shown.report();
        assert_eq!((report.counts[1], report.counts[2], report.requests()), (1, 1, 2));
        let [mut first, second] = guests;
        first.leave();
        assert_eq!(shown.report().requests(), 1);
        drop(second);
        assert_eq!(shown.report(), Report::default());
    }

    #[test]
    fn speed_is_said_after_enough_samples_and_against_what_senders_predict() {
        let shown = Shown::default();
        for sample in 0..ENOUGH {
            assert_eq!(shown.report().residual, None, "after {sample}");
            shown.served(&shown.enter(None, 1_000.0, at(1)), 1e9);
            shown.served(&shown.enter(Some(1_000.0), 7.0, at(1)), 2_000.0);
            shown.served(&shown.enter(Some(1_000.0), 7.0, at(1)), f64::NAN);
        }
        assert!((shown.report().residual.unwrap() - 2f32.ln()).abs() < 1e-4);
    }

    #[test]
    fn nonsense_is_no_prediction() {
        for value in ["", "0", "-1", "1e3", "12345678901", " 7", "0x10", "NaN"] {
            assert_eq!(told_us(value.as_bytes()), None, "{value}");
        }
        assert_eq!(told_us(b"1500"), Some(1_500.0));
    }
}
