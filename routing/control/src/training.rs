//! Which cost model serves, and when the next one is trained.
//!
//! A run starts when `retrain_every` has passed since the last start *and* `retrain_rows` new rows have come in; one at
//! a time, off the tick. A model whose live answers are nonsense is taken out of service: the running means answer
//! anyway, but the failure costs time on each request and would hide for ever.
//! States: no model → serving → (failed: no model) → serving; beside each: at rest or training.
use crate::io::TrainJob;
use crate::learning::Learning;
use foretide_predictor::cost::model::{CostModel, Explanation};
use foretide_predictor::cost::query::CostBasis;
use foretide_predictor::cost::trainer::TrainSettings;
use foretide_predictor::hash;
use foretide_predictor::time::Timestamp;
use foretide_routing::observe::Observation;
use foretide_routing::settings::LearningSettings;
use std::sync::Arc;
use std::time::Duration;

/// Unusable answers after which a model is taken out ...
const FAILURES: u64 = 50;
/// ... if they are at least one in this many of its answers.
const ONE_IN: u64 = 10;
/// Fewer rows than this train nothing that beats running means.
const MIN_ROWS: usize = 200;
/// Shrinkage: with fifty trees 0.2 is as good as smaller steps or better, on the learning parts of the four sets.
const LEARNING_RATE: f64 = 0.2;
/// A run without an answer for this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(300);

/// The serving model and its successor.
#[derive(Debug, Default)]
pub(crate) struct Training {
    /// What serves; `None`: running means.
    pub(crate) model: Option<Arc<CostModel>>,
    /// Why the last run brought no model, or why one was taken out.
    pub(crate) last_error: Option<String>,
    version: u64,
    training_since: Option<Timestamp>,
    last_start: Option<Timestamp>,
    accepted_at_start: u64,
    /// First generation with this model: older decisions say nothing about it.
    since_generation: u64,
    answers: u64,
    failures: u64,
}

impl Training {
    /// Puts a model to service from `generation` on, or takes the serving one out.
    pub(crate) fn serve(&mut self, model: Option<CostModel>, generation: u64) {
        if let Some(model) = &model {
            self.version = self.version.max(model.card().version);
        }
        self.model = model.map(Arc::new);
        self.since_generation = generation;
        self.answers = 0;
        self.failures = 0;
    }

    /// A run ended; true: there is a new model, in service from `generation` on.
    pub(crate) fn trained(&mut self, result: Result<Box<CostModel>, String>, generation: u64) -> bool {
        self.training_since = None;
        match result {
            Ok(model) => {
                self.serve(Some(*model), generation);
                self.last_error = None;
                true
            }
            Err(why) => {
                self.last_error = Some(why);
                false
            }
        }
    }

    /// Which features moved a prediction of the serving model; `None`: another model made it, or none.
    pub(crate) fn explain(&self, seen: &Observation) -> Option<Explanation> {
        let prediction = &seen.prediction;
        let made_it = prediction.estimate.basis == CostBasis::Model
            && seen.decision.generation >= self.since_generation;
        self.model.as_ref().filter(|_| made_it).map(|model| model.explain(&prediction.features))
    }

    /// Counts an answer of the serving model; true: it was taken out of service.
    pub(crate) fn judge(&mut self, seen: &Observation) -> bool {
        if self.model.is_none() || seen.decision.generation < self.since_generation {
            return false;
        }
        let prediction = &seen.prediction;
        if prediction.model_failed {
            self.failures += 1;
        }
        if prediction.model_failed || prediction.estimate.basis == CostBasis::Model {
            self.answers += 1;
        }
        let failed = self.failures >= FAILURES && self.failures * ONE_IN >= self.answers;
        if failed {
            self.last_error = Some(format!(
                "model {} gave {} unusable answers in {} and was taken out of service",
                self.version, self.failures, self.answers
            ));
            self.model = None;
        }
        failed
    }

    /// The next run, if it is time for one.
    pub(crate) fn next_job(
        &mut self,
        learning: &Learning,
        settings: &LearningSettings,
        seed: u64,
        now: Timestamp,
    ) -> Option<TrainJob> {
        if self.training_since.is_some_and(|since| now.since(since) < LOST_AFTER) || !settings.cost_model {
            return None;
        }
        let accepted = learning.reservoir.accepted();
        let rested = self.last_start.is_none_or(|at| now.since(at) >= settings.retrain_every);
        let fresh = accepted.saturating_sub(self.accepted_at_start) >= settings.retrain_rows as u64;
        if !rested || !fresh || learning.reservoir.len() < MIN_ROWS {
            return None;
        }
        self.training_since = Some(now);
        self.last_start = Some(now);
        self.accepted_at_start = accepted;
        self.version += 1;
        let settings = TrainSettings {
            trees: settings.trees,
            depth: settings.depth,
            learning_rate: LEARNING_RATE,
            min_rows: MIN_ROWS,
            max_rows: settings.reservoir_rows,
            seed: hash::pair(seed, self.version),
        };
        let rows = learning.reservoir.rows();
        let class_borders_us = learning.costs.class_borders_us();
        let champion = self.model.clone();
        Some(TrainJob { rows, settings, class_borders_us, champion, version: self.version, now })
    }
}
