//! The reference our trainer is tested against: smartcore's gradient boosting, on ln cost only.
//!
//! smartcore is a maintained, tested library with an exact search for splits. It has one head and squared error, takes
//! seconds where histograms take tens of milliseconds, panics on NaN (so rows are checked first and panics are caught),
//! and learns a NaN from a NaN target without a word.

use smartcore::error::Failed;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use crate::cost::anchor::Anchor;
use crate::cost::features::{FEATURES, Features};
use crate::cost::reservoir::Sample;
use crate::cost::trainer::{TrainError, TrainSettings, guarded, parts, winsorised};

/// Share of the rows behind each tree, as in our own trainer.
const SUBSAMPLE: f64 = 0.5;
/// Fewest rows in a leaf.
const MIN_LEAF_ROWS: usize = 5;

type Regressor = XGRegressor<f32, f64, DenseMatrix<f32>, Vec<f64>>;

/// log-RMSE on the newest tenth of the rows of what smartcore learns from the others, as
/// [`crate::cost::trainer::train`] has it in its card.
pub fn reference_log_rmse(rows: &[Sample], settings: &TrainSettings) -> Result<f64, TrainError> {
    let (learned, judged) = parts(rows, settings)?;
    let features: Vec<&Features> = learned.iter().map(|row| &row.features).collect();
    let logs = winsorised(&learned);
    let usual = Anchor::default();
    let from_anchor = |(features, &log): (&&Features, &f32)| f64::from(log - usual.log(features));
    let targets: Vec<f64> = features.iter().zip(&logs).map(from_anchor).collect();
    let asked: Vec<&Features> = judged.iter().map(|row| &row.features).collect();
    let answers = guarded(|| {
        let fitted = fit(&features, &targets, settings);
        let answers = fitted.and_then(|fitted| fitted.predict(&matrix(&asked)?));
        answers.map_err(|failed| TrainError::Failed(failed.to_string()))
    })?;
    let missed = |(row, &answer): (&&Sample, &f32)| {
        let answer = f64::from(usual.log(&row.features) + answer);
        (row.work_us.ln() - answer).powi(2)
    };
    Ok((judged.iter().zip(&answers).map(missed).sum::<f64>() / judged.len() as f64).sqrt())
}

fn fit(features: &[&Features], targets: &Vec<f64>, settings: &TrainSettings) -> Result<Regressor, Failed> {
    let parameters = XGRegressorParameters::default()
        .with_n_estimators(settings.trees)
        .with_max_depth(settings.depth as u16)
        .with_learning_rate(settings.learning_rate)
        .with_min_child_weight(MIN_LEAF_ROWS)
        .with_base_score(targets.iter().sum::<f64>() / targets.len() as f64)
        .with_subsample(SUBSAMPLE)
        .with_seed(settings.seed);
    XGRegressor::fit(&matrix(features)?, targets, parameters)
}

/// Features by column, as the library's search runs over one column at a time.
fn matrix(rows: &[&Features]) -> Result<DenseMatrix<f32>, Failed> {
    let columns = (0..FEATURES).flat_map(|column| rows.iter().map(move |row| row.0[column]));
    DenseMatrix::new(rows.len(), FEATURES, columns.collect(), true)
}
