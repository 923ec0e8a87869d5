//! What a run came to.

use serde::Serialize;

/// Part of the arrivals at the start that are not counted: the fleet fills and the learners learn.
const WARM_UP: f64 = 0.1;

/// What became of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fate {
    /// From its arrival to its answer, milliseconds; NaN: none came.
    pub latency_ms: f64,
    /// Its work at speed 1, milliseconds.
    pub size_ms: f64,
    /// It was refused at the door.
    pub refused: bool,
}

/// The figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests counted.
    pub requests: usize,
    /// Mean response time, milliseconds, of the answered.
    pub mean_ms: f64,
    /// Quantiles of it.
    pub p50_ms: f64,
    /// 0.9.
    pub p90_ms: f64,
    /// 0.99.
    pub p99_ms: f64,
    /// 0.999.
    pub p999_ms: f64,
    /// Mean of response time over size.
    pub mean_slowdown: f64,
    /// Its 0.99 quantile.
    pub p99_slowdown: f64,
    /// Its 0.999 quantile.
    pub p999_slowdown: f64,
    /// Share of requests answered within the objective.
    pub within: f64,
    /// Share of the work that these are.
    pub work_within: f64,
    /// Share of requests refused.
    pub refused: f64,
}

impl Figures {
    /// Of requests in order of arrival; `objective_ms`: within which an answer is worth something.
    pub fn of(fates: &[Fate], objective_ms: f64) -> Self {
        let counted = &fates[(fates.len() as f64 * WARM_UP) as usize..];
        let answered = || counted.iter().filter(|fate| fate.latency_ms.is_finite());
        let mut latencies: Vec<f64> = answered().map(|fate| fate.latency_ms).collect();
        let mut slowdowns: Vec<f64> = answered().map(|fate| fate.latency_ms / fate.size_ms).collect();
        latencies.sort_unstable_by(f64::total_cmp);
        slowdowns.sort_unstable_by(f64::total_cmp);
        let in_time = || answered().filter(|fate| fate.latency_ms <= objective_ms);
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let count = counted.len() as f64;
        Self {
            requests: counted.len(),
            mean_ms: mean(&latencies),
            p50_ms: quantile(&latencies, 0.5),
            p90_ms: quantile(&latencies, 0.9),
            p99_ms: quantile(&latencies, 0.99),
            p999_ms: quantile(&latencies, 0.999),
            mean_slowdown: mean(&slowdowns),
            p99_slowdown: quantile(&slowdowns, 0.99),
            p999_slowdown: quantile(&slowdowns, 0.999),
            within: share(in_time().count() as f64, count),
            work_within: share(
                in_time().map(|fate| fate.size_ms).sum(),
                counted.iter().map(|fate| fate.size_ms).sum(),
            ),
            refused: share(counted.iter().filter(|fate| fate.refused).count() as f64, count),
        }
    }

    /// The value of a metric.
    pub fn get(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Mean => self.mean_ms,
            Metric::P99 => self.p99_ms,
            Metric::P999 => self.p999_ms,
            Metric::MeanSlowdown => self.mean_slowdown,
            Metric::P99Slowdown => self.p99_slowdown,
            Metric::P999Slowdown => self.p999_slowdown,
        }
    }
}

/// What is compared; smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Mean response time.
    Mean,
    /// Its 0.99 quantile.
    P99,
    /// Its 0.999 quantile.
    P999,
    /// Mean of response time over size.
    MeanSlowdown,
    /// Its 0.99 quantile.
    P99Slowdown,
    /// Its 0.999 quantile.
    P999Slowdown,
}

impl Metric {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::MeanSlowdown => "mean slowdown",
            Self::P99Slowdown => "p99 slowdown",
            Self::P999Slowdown => "p99.9 slowdown",
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64) as usize;
    sorted.get(rank.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Geometric mean.
pub fn geometric_mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count().max(1) as f64;
    (values.map(f64::ln).sum::<f64>() / count).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_left_out_and_the_unanswered_count_as_missed() {
        let mut fates: Vec<Fate> = (0..100)
            .map(|number| Fate { latency_ms: f64::from(number), size_ms: 1.0, refused: false })
            .collect();
        fates[0].latency_ms = 1e9;
        fates[99] = Fate { latency_ms: f64::NAN, size_ms: 10.0, refused: true };
        let figures = Figures::of(&fates, 54.0);
        assert_eq!((figures.requests, figures.p50_ms, figures.p999_ms), (90, 54.0, 98.0));
        assert!((figures.within - 0.5).abs() < 1e-9 && (figures.work_within - 45.0 / 99.0).abs() < 1e-9);
        assert!((figures.refused - 1.0 / 90.0).abs() < 1e-9);
        assert!((geometric_mean([1.0, 4.0].into_iter()) - 2.0).abs() < 1e-9);
    }
}
