//! Prequential backtest: what would have been predicted, had Foretide seen these requests come?
//!
//! Requests are taken in order of arrival. On arrival a request is predicted from what is known at that moment; its cost
//! is learned only when its label is known (`label_known_at <= now`), in the order in which labels become known. The
//! first part of the rows only teaches; the rest is scored as it comes and goes on teaching. Nothing that happens after
//! an arrival can reach its prediction, and nothing about the scored part decides how to train.
//!
//! Class borders are moving percentiles in production. So that scores can be checked by anybody, here they are frozen
//! where the learning part ends: 50th, 80th and 95th percentile of the labels known by then.

pub mod columns;
pub mod references;
pub mod scores;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cost::backtest::references::{ClassReference, ReferenceAnswers, ReferenceScores, References};
use crate::cost::backtest::scores::{Answer, ScoreSums, Scores};
use crate::cost::estimator::{CostPrediction, predict};
use crate::cost::model::{CostModel, ModelCard};
use crate::cost::query::{CostBasis, CostClass, CostQuery};
use crate::cost::reservoir::{Reservoir, Sample};
use crate::cost::table::{KeyTable, Measured};
use crate::cost::trainer::{TrainSettings, train_for_classes};
use crate::time::Timestamp;

/// One finished request of the past.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BacktestRow {
    /// When it came.
    pub arrival: Timestamp,
    /// When its cost was known: its end, or later.
    pub label_known_at: Timestamp,
    /// What was asked.
    pub query: CostQuery,
    /// What it cost, in any unit; rows whose cost is not finite or not positive are left out and counted.
    pub cost: f64,
}

/// How to run.
#[derive(Clone, Debug, PartialEq)]
pub struct BacktestSettings {
    /// Share of the rows that only teaches.
    pub learn_share: f64,
    /// Capacity of the table of key statistics.
    pub key_cells: usize,
    /// Capacity of the training sample.
    pub reservoir_rows: usize,
    /// Labels between trainings, at least.
    pub retrain_rows: usize,
    /// Time between trainings, at least.
    pub retrain_every: Duration,
    /// How to train.
    pub train: TrainSettings,
}

/// A scored prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredRow {
    /// Index into the rows given.
    pub row: usize,
    /// What it cost.
    pub actual: f64,
    /// The answer.
    pub answer: Answer,
    /// Class of the actual cost.
    pub actual_class: CostClass,
    /// What the answer rested on.
    pub basis: CostBasis,
}

/// Result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BacktestReport {
    /// Rows used.
    pub rows: usize,
    /// Of these, only learned from.
    pub learn_rows: usize,
    /// Rows left out: cost not finite or not positive.
    pub unusable_rows: usize,
    /// Frozen 50th, 80th and 95th percentile of cost.
    pub class_borders: [f64; 3],
    /// Trainings that put a model to service, over the whole run.
    pub trained: usize,
    /// Trainings whose model was not good enough to serve.
    pub refused: usize,
    /// Share of scored rows answered by the model rather than by running means.
    pub model_share: f64,
    /// Ours.
    pub ours: Scores,
    /// Those to beat.
    pub references: Vec<ReferenceScores>,
    /// Class histograms to beat.
    pub class_references: Vec<ClassReference>,
    /// Card of the last serving model.
    pub model: Option<ModelCard>,
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BacktestError {
    /// Not enough rows to learn from and to score.
    #[error("{have} usable rows, at least {need} needed")]
    TooFewRows {
        /// Usable rows.
        have: usize,
        /// Needed.
        need: usize,
    },
    /// Rows must come in order of arrival.
    #[error("row {row} arrives before the row above it")]
    Order {
        /// Index of the offending row.
        row: usize,
    },
}

/// Fewest usable rows that are worth a run.
const LEAST_ROWS: usize = 100;

impl Default for BacktestSettings {
    fn default() -> Self {
        Self {
            learn_share: 0.6,
            key_cells: 16_384,
            reservoir_rows: 20_000,
            retrain_rows: 1_000,
            retrain_every: Duration::ZERO,
            train: TrainSettings {
                trees: 50,
                depth: 6,
                learning_rate: 0.2,
                min_rows: 200,
                max_rows: 20_000,
                seed: 1,
            },
        }
    }
}

/// Runs over `rows` in order of arrival; `on_scored` gets every scored prediction as it is scored.
pub fn backtest(
    rows: &[BacktestRow],
    settings: &BacktestSettings,
    mut on_scored: impl FnMut(&ScoredRow),
) -> Result<BacktestReport, BacktestError> {
    if let Some(row) = (1..rows.len()).find(|&row| rows[row].arrival < rows[row - 1].arrival) {
        return Err(BacktestError::Order { row });
    }
    let usable = |row: &BacktestRow| row.cost.is_finite() && row.cost > 0.0;
    let have = rows.iter().filter(|row| usable(row)).count();
    if have < LEAST_ROWS {
        return Err(BacktestError::TooFewRows { have, need: LEAST_ROWS });
    }
    let learn_rows = (have as f64 * settings.learn_share.clamp(0.0, 1.0)) as usize;
    let mut run = Run::new(settings);
    for (taken, (index, row)) in rows.iter().enumerate().filter(|(_, row)| usable(row)).enumerate() {
        run.learn_until(row.arrival, rows);
        if taken == learn_rows {
            run.freeze_classes(row.arrival);
        }
        run.arrive(index, row, taken >= learn_rows, &mut on_scored);
    }
    Ok(run.report(have, learn_rows, rows.len() - have))
}

/// A request whose label is not known yet.
struct Pending {
    prediction: CostPrediction,
    references: ReferenceAnswers,
}

/// State of a run.
struct Run<'a> {
    settings: &'a BacktestSettings,
    table: KeyTable,
    reservoir: Reservoir,
    model: Option<CostModel>,
    /// Labels to come: when, and of which row.
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Beside `due`, by row.
    pending: BTreeMap<usize, Pending>,
    /// Labels known in the learning part.
    known: Vec<f64>,
    /// Borders of the classes once frozen.
    borders: Option<[f64; 3]>,
    references: References,
    ours: ScoreSums,
    by_model: usize,
    labels_since: usize,
    last_training: Timestamp,
    version: u64,
    trained: usize,
    refused: usize,
}

impl<'a> Run<'a> {
    fn new(settings: &'a BacktestSettings) -> Self {
        Self {
            settings,
            table: KeyTable::new(settings.key_cells),
            reservoir: Reservoir::new(settings.reservoir_rows, settings.train.seed),
            model: None,
            due: BinaryHeap::new(),
            pending: BTreeMap::new(),
            known: Vec::new(),
            borders: None,
            references: References::new(),
            ours: ScoreSums::default(),
            by_model: 0,
            labels_since: 0,
            last_training: Timestamp::ZERO,
            version: 0,
            trained: 0,
            refused: 0,
        }
    }

    /// Learns every label that is known at `now`.
    fn learn_until(&mut self, now: Timestamp, rows: &[BacktestRow]) {
        while let Some(&Reverse((at, row))) = self.due.peek().filter(|due| due.0.0 <= now) {
            self.due.pop();
            if let Some(pending) = self.pending.remove(&row) {
                self.learn(at, &rows[row], &pending);
            }
        }
        let rested = now.since(self.last_training) >= self.settings.retrain_every;
        if rested && self.labels_since >= self.settings.retrain_rows.max(1) {
            self.train(now);
        }
    }

    fn learn(&mut self, at: Timestamp, row: &BacktestRow, pending: &Pending) {
        let measured = Measured { work_us: row.cost, bytes: None, censored: false };
        self.table.complete(&row.query, &pending.prediction, &measured, at);
        let features = pending.prediction.features;
        self.reservoir.push(Sample { at: row.arrival, query: row.query, features, work_us: row.cost });
        let class = self.class_of(row.cost);
        self.references.learn(&row.query, &pending.references, row.cost, class);
        self.labels_since += 1;
        if self.borders.is_none() {
            self.known.push(row.cost);
        }
    }

    fn train(&mut self, now: Timestamp) {
        self.labels_since = 0;
        self.last_training = now;
        self.version += 1;
        let rows = self.reservoir.rows();
        let borders = self.table.class_borders_us();
        let stamp = (self.version, now);
        match train_for_classes(&rows, &self.settings.train, borders, self.model.as_ref(), stamp) {
            Ok(model) => {
                self.model = Some(model);
                self.trained += 1;
            }
            Err(_) => self.refused += 1,
        }
    }

    /// The learning part ends.
    fn freeze_classes(&mut self, now: Timestamp) {
        self.known.sort_unstable_by(f64::total_cmp);
        let last = self.known.len().saturating_sub(1);
        let quantile = |share: f64| self.known.get((last as f64 * share) as usize).copied().unwrap_or(0.0);
        let borders = [0.50, 0.80, 0.95].map(quantile);
        self.table.pin_class_borders(borders);
        self.borders = Some(borders);
        self.known = Vec::new();
        self.train(now);
    }

    fn class_of(&self, cost: f64) -> CostClass {
        match self.borders {
            Some(borders) => CostClass::between(borders, cost),
            None => self.table.class_of(cost),
        }
    }

    fn arrive(
        &mut self,
        index: usize,
        row: &BacktestRow,
        scored: bool,
        on_scored: &mut impl FnMut(&ScoredRow),
    ) {
        let query = CostQuery { in_flight: self.due.len() as f32, ..row.query };
        let prediction = predict(&self.table, self.model.as_ref(), &query, row.arrival);
        let references = self.references.answer(&row.query);
        if scored {
            let line = self.scored_row(index, row, &prediction);
            self.ours.add(&line.answer, line.actual, line.actual_class);
            self.by_model += usize::from(line.basis == CostBasis::Model);
            let borders = self.borders.unwrap_or_else(|| self.table.class_borders_us());
            self.references.score(&references, row.cost, |cost| CostClass::between(borders, cost));
            on_scored(&line);
        }
        self.pending.insert(index, Pending { prediction, references });
        self.due.push(Reverse((row.label_known_at.max(row.arrival), index)));
    }

    fn scored_row(&self, index: usize, row: &BacktestRow, prediction: &CostPrediction) -> ScoredRow {
        let work = prediction.estimate.work_us;
        let answer = Answer {
            mean: work.mean(),
            log_mean: prediction.log_mean,
            lo90: work.low(),
            hi90: work.high(),
            class: prediction.estimate.class,
        };
        let actual_class = self.class_of(row.cost);
        ScoredRow { row: index, actual: row.cost, answer, actual_class, basis: prediction.estimate.basis }
    }

    fn report(self, rows: usize, learn_rows: usize, unusable_rows: usize) -> BacktestReport {
        let ours = self.ours.scores();
        BacktestReport {
            rows,
            learn_rows,
            unusable_rows,
            class_borders: self.borders.unwrap_or_else(|| self.table.class_borders_us()),
            trained: self.trained,
            refused: self.refused,
            model_share: self.by_model as f64 / ours.rows.max(1) as f64,
            ours,
            references: self.references.scores(),
            class_references: self.references.class_scores(),
            model: self.model.map(|model| model.card().clone()),
        }
    }
}
