//! The reference our trainer is tested against: smartcore's gradient boosting, on ln cost only.
//!
//! smartcore is a maintained, tested library with an exact search for splits. It has one head and squared error, takes
//! seconds where histograms take tens of milliseconds, panics on NaN (so rows are checked first and panics are caught),
//! and learns a NaN from a NaN target without a word. Its trees are flattened and must give its own answers.

use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use crate::cost::features::{FEATURES, Features};
use crate::cost::flatten::flatten;
use crate::cost::forest::{Forest, LOG, MAX_DEPTH};
use crate::cost::model::CostModel;
use crate::cost::reservoir::Sample;
use crate::cost::trainer::{Fitted, TrainError, TrainSettings, train_with};
use crate::time::Timestamp;

/// Share of the rows behind each tree, as in our own trainer.
const SUBSAMPLE: f64 = 0.5;
/// Fewest rows in a leaf.
const MIN_LEAF_ROWS: usize = 5;
/// Flattened answers differ from the library's by rounding to f32 only; more is a mistake.
const FLATTENING_TOLERANCE: f64 = 1e-3;
/// Rows on which flattened trees and library are compared.
const COMPARED: usize = 500;

type Regressor = XGRegressor<f32, f64, DenseMatrix<f32>, Vec<f64>>;

/// Trains with smartcore, judged as [`crate::cost::trainer::train`] judges; its classes are the keys' own.
pub fn train_reference(
    rows: &[Sample],
    settings: &TrainSettings,
    version: u64,
    now: Timestamp,
) -> Result<CostModel, TrainError> {
    let fit = |features: &[&Features], logs: &[f32], _| {
        Ok(Fitted { forest: fit(features, logs, settings)?, all_heads: false })
    };
    train_with(&fit, rows, settings, [f64::MAX; 3], None, (version, now))
}

fn fit(features: &[&Features], logs: &[f32], settings: &TrainSettings) -> Result<Forest, TrainError> {
    let depth = settings.depth.clamp(1, MAX_DEPTH);
    let from_anchor = |(features, &log): (&&Features, &f32)| f64::from(log - features.anchor_log());
    let targets: Vec<f64> = features.iter().zip(logs).map(from_anchor).collect();
    let base = targets.iter().sum::<f64>() / targets.len() as f64;
    let parameters = XGRegressorParameters::default()
        .with_n_estimators(settings.trees)
        .with_max_depth(depth as u16)
        .with_learning_rate(settings.learning_rate)
        .with_min_child_weight(MIN_LEAF_ROWS)
        .with_base_score(base)
        .with_subsample(SUBSAMPLE)
        .with_seed(settings.seed);
    let failed = |failed: smartcore::error::Failed| TrainError::Failed(failed.to_string());
    let regressor: Regressor = XGRegressor::fit(&matrix(features)?, &targets, parameters).map_err(failed)?;
    let forest = flatten(&regressor, base, settings.learning_rate, depth).map_err(TrainError::Failed)?;

    let compared = &features[..features.len().min(COMPARED)];
    let answers = regressor.predict(&matrix(compared)?).map_err(failed)?;
    let differences = compared.iter().zip(&answers).map(|(row, &theirs)| {
        let difference = f64::from(forest.sums(row)[LOG]) - f64::from(theirs);
        if difference.is_nan() { f64::INFINITY } else { difference.abs() }
    });
    let difference = differences.fold(0.0, f64::max);
    if difference > FLATTENING_TOLERANCE {
        return Err(TrainError::Flattening { difference });
    }
    Ok(forest)
}

/// Features by column, as the library's search runs over one column at a time.
fn matrix(rows: &[&Features]) -> Result<DenseMatrix<f32>, TrainError> {
    let columns = (0..FEATURES).flat_map(|column| rows.iter().map(move |row| row.0[column]));
    DenseMatrix::new(rows.len(), FEATURES, columns.collect(), true)
        .map_err(|failed| TrainError::Failed(failed.to_string()))
}
