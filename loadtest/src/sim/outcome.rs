//! What a run came to.

use foretide_predictor::hash;
use serde::Serialize;

/// Figures that people compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests without an answer.
    pub errors: u64,
    /// Median latency, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, milliseconds.
    pub p99_ms: f64,
    /// 99.9th percentile, milliseconds.
    pub p999_ms: f64,
    /// Share of requests over their objective; errors count as over.
    pub over_objective_ratio: f64,
    /// Sum over instances of the time from the wish for it to its end.
    pub instance_seconds: f64,
}

/// Latencies in milliseconds as they come, summed up at the end.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    finished_ms: Vec<f64>,
    over_objective: u64,
    errors: u64,
}

impl Latencies {
    /// One answered request.
    pub fn finished(&mut self, latency_ms: f64, objective_ms: f64) {
        self.finished_ms.push(latency_ms);
        self.over_objective += u64::from(latency_ms > objective_ms);
    }

    /// One that got none.
    pub fn failed(&mut self) {
        self.errors += 1;
        self.over_objective += 1;
    }

    /// Sums up.
    pub fn figures(mut self, instance_seconds: f64) -> Figures {
        self.finished_ms.sort_unstable_by(f64::total_cmp);
        let requests = self.finished_ms.len() as u64 + self.errors;
        Figures {
            requests,
            errors: self.errors,
            p50_ms: quantile(&self.finished_ms, 0.5),
            p99_ms: quantile(&self.finished_ms, 0.99),
            p999_ms: quantile(&self.finished_ms, 0.999),
            over_objective_ratio: self.over_objective as f64 / requests.max(1) as f64,
            instance_seconds,
        }
    }

    /// Mean latency, milliseconds; 0 without any.
    pub fn mean_ms(&self) -> f64 {
        self.finished_ms.iter().sum::<f64>() / self.finished_ms.len().max(1) as f64
    }
}

/// Nearest-rank quantile of sorted values; 0 of none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// A running hash of everything that was decided: equal for equal seeds, different for different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(1)
    }
}

impl Digest {
    /// Takes in one more fact.
    pub fn add(&mut self, fact: u64) {
        self.0 = hash::pair(self.0, fact);
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_hundred_requests() {
        let mut latencies = Latencies::default();
        for ms in 1..=99 {
            latencies.finished(f64::from(ms), 90.0);
        }
        latencies.failed();
        let figures = latencies.figures(12.0);
        assert_eq!((figures.requests, figures.errors), (100, 1));
        assert_eq!(figures.p50_ms, 50.0);
        assert_eq!(figures.p99_ms, 99.0);
        assert!((figures.over_objective_ratio - 0.10).abs() < 1e-9);
    }

    #[test]
    fn the_digest_depends_on_order() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(1);
        one.add(2);
        other.add(2);
        other.add(1);
        assert_ne!(one, other);
    }
}
