//! What became of a policy's requests lately, in fixed memory.
//!
//! Latencies are counted in a histogram of sixteenths of an octave (a quantile is known to 4.4 %), means are sums; after
//! every 2,000 requests everything is halved, so that it speaks of the last some thousand. A mean of slowdowns is
//! a mean of ratios of latency to work.

use serde::Serialize;

/// Requests after which what was counted before counts half.
const HALF_LIFE: u32 = 2_000;
/// Buckets per octave, and octaves from 1 µs on: 2^36 µs are 19 hours.
const PER_OCTAVE: f64 = 16.0;
const OCTAVES: usize = 36;
const BUCKETS: usize = OCTAVES * PER_OCTAVE as usize;
/// Fewer requests have no p99.
const ENOUGH: f64 = 200.0;
/// No request is slower than by this factor: else one of a microsecond would be all of the mean.
const MOST_SLOWDOWN: f64 = 1_000.0;

/// Counts of one policy.
#[derive(Clone, Debug)]
pub struct Tally {
    buckets: Box<[f32; BUCKETS]>,
    requests: f64,
    latency_us: f64,
    slowdown: f64,
    until_halved: u32,
}

/// What they come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Mean latency, seconds.
    pub mean_s: f64,
    /// 0.99 quantile of it, seconds.
    pub p99_s: f64,
    /// Mean of latency over work.
    pub mean_slowdown: f64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            buckets: Box::new([0.0; BUCKETS]),
            requests: 0.0,
            latency_us: 0.0,
            slowdown: 0.0,
            until_halved: HALF_LIFE,
        }
    }
}

impl Tally {
    /// A request of so much work took so long, microseconds. What is not finite and positive is ignored.
    pub fn observe(&mut self, latency_us: f64, work_us: f64) {
        let usable = |value: f64| value.is_finite() && value > 0.0;
        if !(usable(latency_us) && usable(work_us)) {
            return;
        }
        if self.until_halved == 0 {
            self.halve();
        }
        self.until_halved -= 1;
        let bucket = (latency_us.max(1.0).log2() * PER_OCTAVE) as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1.0;
        self.requests += 1.0;
        self.latency_us += latency_us;
        self.slowdown += (latency_us / work_us).min(MOST_SLOWDOWN);
    }

    /// Requests counted, older ones less.
    pub fn requests(&self) -> f64 {
        self.requests
    }

    /// The figures; `None`: too few requests.
    pub fn figures(&self) -> Option<Figures> {
        (self.requests >= ENOUGH).then(|| Figures {
            mean_s: self.latency_us / self.requests / 1e6,
            p99_s: self.quantile_us(0.99) / 1e6,
            mean_slowdown: self.slowdown / self.requests,
        })
    }

    /// The middle, on the scale of logarithms, of the bucket in which the quantile lies.
    fn quantile_us(&self, share: f64) -> f64 {
        let wanted = share * self.buckets.iter().map(|&count| f64::from(count)).sum::<f64>();
        let mut sum = 0.0;
        let bucket = self.buckets.iter().position(|&count| {
            sum += f64::from(count);
            sum >= wanted
        });
        ((bucket.unwrap_or(BUCKETS - 1) as f64 + 0.5) / PER_OCTAVE).exp2()
    }

    fn halve(&mut self) {
        self.until_halved = HALF_LIFE;
        self.buckets.iter_mut().for_each(|count| *count /= 2.0);
        for sum in [&mut self.requests, &mut self.latency_us, &mut self.slowdown] {
            *sum /= 2.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_last_thousands() {
        let mut tally = Tally::default();
        assert_eq!(tally.figures(), None);
        for _ in 0..100_000 {
            tally.observe(9e6, 1.0);
        }
        for number in 0..40_000 {
            // Two in a hundred take 100 ms.
            let latency_us = if number % 50 == 0 { 100_000.0 } else { 1_000.0 };
            tally.observe(latency_us, 500.0);
        }
        let figures = tally.figures().expect("enough");
        assert!((figures.mean_s / 0.002_98 - 1.0).abs() < 0.02, "{figures:?}");
        assert!((figures.p99_s / 0.1 - 1.0).abs() < 0.044, "{figures:?}");
        assert!((figures.mean_slowdown / 5.96 - 1.0).abs() < 0.02, "{figures:?}");
        assert!(tally.requests() <= 4_000.0);
    }
}
