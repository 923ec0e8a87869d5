//! `foretide backtest cost`: runs the library over a data set and keeps what the report needs.
//!
//! The library predicts each request from what was known when it came, learns its cost when that was known, and scores
//! the rows after the learning part as they come. Here: the predictions as CSV, the JSON object, points for the charts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use foretide_predictor::cost::backtest::scores::Scores;
use foretide_predictor::cost::backtest::{BacktestReport, BacktestSettings, ScoredRow, backtest};
use foretide_predictor::cost::query::CostClass;
use serde::Serialize;

use crate::WorkbenchError;
use crate::dataset::{ColumnFacts, Dataset};
use crate::{page, words};

/// What came of a run, in the unit of the data.
#[derive(Debug)]
pub struct Backtested {
    /// The library's report.
    pub report: BacktestReport,
    /// Scored predictions in order of arrival.
    pub(crate) points: Vec<Point>,
}

/// One scored prediction, as the charts need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) actual: f64,
    pub(crate) mean: f64,
    pub(crate) covered: bool,
}

/// Runs a data set. `predictions`: writes one row per scored prediction to this file. `progress` gets the number of the
/// row that is being scored; rows of the learning part are passed in silence.
///
/// # Errors
/// Too few rows, or the predictions cannot be written.
pub fn run(
    set: &Dataset,
    settings: &BacktestSettings,
    predictions: Option<&Path>,
    mut progress: impl FnMut(usize),
) -> Result<Backtested, WorkbenchError> {
    let mut written = Predictions::create(predictions)?;
    let mut points = Vec::new();
    let result = backtest(&set.rows, settings, |row| {
        points.push(Point {
            actual: row.actual / set.scale,
            mean: row.answer.mean / set.scale,
            covered: row.answer.lo90 <= row.actual && row.actual <= row.answer.hi90,
        });
        written.row(set, row);
        progress(row.row);
    });
    let mut report = result.map_err(|error| WorkbenchError::Backtest { file: set.file.clone(), error })?;
    report.class_borders = report.class_borders.map(|border| border / set.scale);
    written.finish()?;
    Ok(Backtested { report, points })
}

/// The file of predictions; the first failure is kept until the end.
struct Predictions {
    out: Option<(String, BufWriter<File>)>,
    failed: Option<io::Error>,
}

impl Predictions {
    fn create(path: Option<&Path>) -> Result<Self, WorkbenchError> {
        let Some(path) = path else { return Ok(Self { out: None, failed: None }) };
        let file = path.display().to_string();
        let out = File::create(path).and_then(|created| {
            let mut out = BufWriter::new(created);
            writeln!(out, "row,actual,mean,log_mean,lo90,hi90,class,actual_class")?;
            Ok(out)
        });
        match out {
            Ok(out) => Ok(Self { out: Some((file, out)), failed: None }),
            Err(source) => Err(WorkbenchError::Write { file, source }),
        }
    }

    fn row(&mut self, set: &Dataset, row: &ScoredRow) {
        let Some((_, out)) = self.out.as_mut().filter(|_| self.failed.is_none()) else { return };
        let (answer, scale) = (&row.answer, set.scale);
        let line = writeln!(
            out,
            "{},{},{},{},{},{},{},{}",
            set.rows_in_file[row.row],
            row.actual / scale,
            answer.mean / scale,
            answer.log_mean - scale.ln(),
            answer.lo90 / scale,
            answer.hi90 / scale,
            class_name(answer.class),
            class_name(row.actual_class)
        );
        self.failed = line.err();
    }

    fn finish(self) -> Result<(), WorkbenchError> {
        let Some((file, mut out)) = self.out else { return Ok(()) };
        let flushed = self.failed.map_or_else(|| out.flush(), Err);
        flushed.map_err(|source| WorkbenchError::Write { file, source })
    }
}

/// Name of a class, as everywhere in files and APIs.
pub(crate) fn class_name(class: CostClass) -> &'static str {
    match class {
        CostClass::Light => "light",
        CostClass::Medium => "medium",
        CostClass::Heavy => "heavy",
        CostClass::Huge => "huge",
    }
}

/// Figures of one predictor; `null` where there was nothing to measure.
#[derive(Serialize)]
struct Figures {
    log_rmse: Option<f64>,
    r2: Option<f64>,
    class_accuracy: Option<f64>,
    heavy_precision: Option<f64>,
    heavy_recall: Option<f64>,
    sum_ratio: Option<f64>,
    wape_100: Option<f64>,
    coverage: Option<f64>,
    worst_window_coverage: Option<f64>,
}

impl Figures {
    fn of(scores: &Scores) -> Self {
        Self {
            log_rmse: scores.log_rmse,
            r2: scores.r2_log,
            class_accuracy: scores.class_accuracy,
            heavy_precision: scores.heavy_precision,
            heavy_recall: scores.heavy_recall,
            sum_ratio: scores.sum_ratio,
            wape_100: scores.wape_100,
            coverage: scores.coverage,
            worst_window_coverage: scores.worst_coverage_500,
        }
    }
}

/// The JSON object, one per data set.
#[derive(Serialize)]
struct Json<'a> {
    data: &'a str,
    rows: usize,
    learn_rows: usize,
    scored_rows: usize,
    bad_rows: usize,
    unusable_rows: usize,
    failed_requests: usize,
    columns: &'a ColumnFacts,
    class_borders: [f64; 3],
    #[serde(flatten)]
    figures: Figures,
    references: BTreeMap<String, Figures>,
    class_references: BTreeMap<String, Option<f64>>,
    model_share: f64,
    models_trained: usize,
    models_refused: usize,
    warnings: &'a [String],
}

/// `shrunk route+source EWMA` as a key of JSON: `shrunk_route_source_ewma`.
fn key(name: &str) -> String {
    name.to_lowercase().replace(|letter: char| !letter.is_alphanumeric(), "_")
}

impl Backtested {
    /// One JSON object on one line.
    pub fn json(&self, set: &Dataset) -> String {
        let report = &self.report;
        let json = Json {
            data: &set.file,
            rows: report.rows,
            learn_rows: report.learn_rows,
            scored_rows: report.ours.rows,
            bad_rows: set.bad.count,
            unusable_rows: report.unusable_rows,
            failed_requests: set.failed,
            columns: &set.columns,
            class_borders: report.class_borders,
            figures: Figures::of(&report.ours),
            references: report
                .references
                .iter()
                .map(|reference| (key(&reference.name), Figures::of(&reference.scores)))
                .collect(),
            class_references: report
                .class_references
                .iter()
                .map(|reference| (key(&reference.name), reference.accuracy))
                .collect(),
            model_share: report.model_share,
            models_trained: report.trained,
            models_refused: report.refused,
            warnings: &set.warnings,
        };
        // Plain numbers and strings have no way to fail.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// For people: a table, and what it means.
    pub fn words(&self, set: &Dataset) -> String {
        words::backtest(set, &self.report)
    }

    /// A page of its own: the table, what it means, charts.
    pub fn page(&self, set: &Dataset) -> String {
        page::backtest(set, self)
    }
}
