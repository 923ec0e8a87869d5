//! How good predictions of cost were, over a run of scored requests.
//!
//! Everything is kept as sums, so a run of any length takes constant memory:
//! log-RMSE and R² of ln cost; accuracy of the four classes; precision and recall of the heavy ones (above the 80th
//! percentile) and of the huge ones (above the 95th); sum of predicted over sum of actual cost; WAPE over 100 requests,
//! `Σ|Σ predicted - Σ actual| / Σ actual` with the inner sums over 100 consecutive requests, which is what a load score
//! feels; share of truths inside the 90 % interval, overall and in the worst of all windows of 500 consecutive requests.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::cost::query::CostClass;

/// Requests per window of the WAPE.
const WAPE_WINDOW: usize = 100;
/// Requests per window of the worst coverage.
const COVERAGE_WINDOW: usize = 500;

/// One answer as it is scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Expected cost.
    pub mean: f64,
    /// Expected natural log of cost.
    pub log_mean: f64,
    /// Lower end of the 90 % interval of cost.
    pub lo90: f64,
    /// Upper end.
    pub hi90: f64,
    /// Predicted class.
    pub class: CostClass,
}

/// Measures over the scored rows; `None` where there was nothing to measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Rows scored.
    pub rows: usize,
    /// Root of the mean squared error of ln cost.
    pub log_rmse: Option<f64>,
    /// Share of the variance of ln cost that is explained.
    pub r2_log: Option<f64>,
    /// Share of rows whose class was right.
    pub class_accuracy: Option<f64>,
    /// Of the rows called heavy or huge, how many were.
    pub heavy_precision: Option<f64>,
    /// Of the heavy or huge rows, how many were called so.
    pub heavy_recall: Option<f64>,
    /// Of the rows called huge, how many were.
    pub huge_precision: Option<f64>,
    /// Of the huge rows, how many were called so.
    pub huge_recall: Option<f64>,
    /// Sum of predicted over sum of actual cost.
    pub sum_ratio: Option<f64>,
    /// Weighted absolute error of sums over 100 requests.
    pub wape_100: Option<f64>,
    /// Share of rows inside their 90 % interval.
    pub coverage: Option<f64>,
    /// The same in the worst window of 500 consecutive rows.
    pub worst_coverage_500: Option<f64>,
}

/// Collects [`Scores`].
#[derive(Clone, Debug, Default)]
pub struct ScoreSums {
    rows: usize,
    squared_error: f64,
    log_sum: f64,
    log_squares: f64,
    right_class: usize,
    heavy: Detection,
    huge: Detection,
    predicted: f64,
    actual: f64,
    window_rows: usize,
    window_error: f64,
    window_errors: f64,
    window_actual: f64,
    windows_actual: f64,
    covered: usize,
    recent: VecDeque<bool>,
    recent_covered: usize,
    worst_covered: Option<usize>,
}

/// Hits and misses of finding one kind of row.
#[derive(Clone, Copy, Debug, Default)]
struct Detection {
    called: usize,
    were: usize,
    both: usize,
}

impl Detection {
    fn add(&mut self, called: bool, was: bool) {
        self.called += usize::from(called);
        self.were += usize::from(was);
        self.both += usize::from(called && was);
    }

    fn precision(&self) -> Option<f64> {
        (self.called > 0).then(|| self.both as f64 / self.called as f64)
    }

    fn recall(&self) -> Option<f64> {
        (self.were > 0).then(|| self.both as f64 / self.were as f64)
    }
}

impl ScoreSums {
    /// Adds a row: what was answered, and what it cost (positive and finite).
    pub fn add(&mut self, answer: &Answer, actual: f64, actual_class: CostClass) {
        let log_actual = actual.ln();
        self.rows += 1;
        self.squared_error += (answer.log_mean - log_actual).powi(2);
        self.log_sum += log_actual;
        self.log_squares += log_actual * log_actual;
        self.right_class += usize::from(answer.class == actual_class);
        self.heavy.add(answer.class >= CostClass::Heavy, actual_class >= CostClass::Heavy);
        self.huge.add(answer.class == CostClass::Huge, actual_class == CostClass::Huge);
        self.predicted += answer.mean;
        self.actual += actual;
        self.add_to_window(answer.mean, actual);
        self.add_coverage(answer.lo90 <= actual && actual <= answer.hi90);
    }

    fn add_to_window(&mut self, mean: f64, actual: f64) {
        self.window_rows += 1;
        self.window_error += mean - actual;
        self.window_actual += actual;
        if self.window_rows == WAPE_WINDOW {
            self.window_errors += self.window_error.abs();
            self.windows_actual += self.window_actual;
            (self.window_rows, self.window_error, self.window_actual) = (0, 0.0, 0.0);
        }
    }

    fn add_coverage(&mut self, covered: bool) {
        self.covered += usize::from(covered);
        self.recent_covered += usize::from(covered);
        self.recent.push_back(covered);
        if self.recent.len() > COVERAGE_WINDOW && self.recent.pop_front() == Some(true) {
            self.recent_covered -= 1;
        }
        if self.recent.len() == COVERAGE_WINDOW {
            let worst = self.worst_covered.unwrap_or(COVERAGE_WINDOW);
            self.worst_covered = Some(worst.min(self.recent_covered));
        }
    }

    /// The measures so far.
    pub fn scores(&self) -> Scores {
        let rows = self.rows as f64;
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let variance = (self.log_squares - self.log_sum * self.log_sum / rows.max(1.0)).max(0.0);
        Scores {
            rows: self.rows,
            log_rmse: share(self.squared_error, rows).map(f64::sqrt),
            r2_log: share(self.squared_error, variance).map(|unexplained| 1.0 - unexplained),
            class_accuracy: share(self.right_class as f64, rows),
            heavy_precision: self.heavy.precision(),
            heavy_recall: self.heavy.recall(),
            huge_precision: self.huge.precision(),
            huge_recall: self.huge.recall(),
            sum_ratio: share(self.predicted, self.actual),
            wape_100: share(self.window_errors, self.windows_actual),
            coverage: share(self.covered as f64, rows),
            worst_coverage_500: self.worst_covered.map(|covered| covered as f64 / COVERAGE_WINDOW as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(mean: f64, class: CostClass) -> Answer {
        Answer { mean, log_mean: mean.ln(), lo90: mean / 2.0, hi90: mean * 2.0, class }
    }

    #[test]
    fn measures_of_a_run_that_can_be_reckoned_by_hand() {
        let mut sums = ScoreSums::default();
        for i in 0..1_000 {
            let (actual, class) =
                if i % 10 == 0 { (80.0, CostClass::Huge) } else { (10.0, CostClass::Light) };
            sums.add(&answer(20.0, CostClass::Light), actual, class);
        }
        let scores = sums.scores();
        let mean_square = 0.9 * 2f64.ln().powi(2) + 0.1 * 4f64.ln().powi(2);
        assert!((scores.log_rmse.unwrap() - mean_square.sqrt()).abs() < 1e-12);
        assert_eq!(scores.class_accuracy, Some(0.9));
        assert_eq!((scores.heavy_precision, scores.heavy_recall), (None, Some(0.0)));
        assert!((scores.sum_ratio.unwrap() - 20.0 / 17.0).abs() < 1e-12);
        assert!((scores.wape_100.unwrap() - 3.0 / 17.0).abs() < 1e-12);
        assert_eq!((scores.coverage, scores.worst_coverage_500), (Some(0.9), Some(0.9)));
        assert_eq!(ScoreSums::default().scores(), Scores::default());
    }

    #[test]
    fn the_worst_window_is_found_wherever_it_lies() {
        let mut sums = ScoreSums::default();
        for i in 0..3_000 {
            let actual = if (1_234..1_334).contains(&i) { 100.0 } else { 10.0 };
            sums.add(&answer(10.0, CostClass::Light), actual, CostClass::Light);
        }
        assert_eq!(sums.scores().worst_coverage_500, Some(0.8));
    }
}
