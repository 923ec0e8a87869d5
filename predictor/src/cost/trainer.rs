//! Training: smartcore's gradient boosting, checked and flattened (contract; body to come).
use crate::cost::model::CostModel;
use crate::cost::reservoir::Sample;
use crate::time::Timestamp;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSettings {
    /// Boosting rounds.
    pub trees: usize,
    /// Depth of each tree.
    pub depth: usize,
    /// Shrinkage per round.
    pub learning_rate: f64,
    /// Fewest rows worth training on.
    pub min_rows: usize,
    /// Newest rows used at most.
    pub max_rows: usize,
    /// Seed of row subsampling.
    pub seed: u64,
}

/// Why there is no new model. The old one, or the running means, go on serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Not enough rows yet.
    #[error("{have} rows, {need} needed")]
    TooFewRows {
        /// Rows at hand.
        have: usize,
        /// Rows needed.
        need: usize,
    },
    /// The library refused or panicked.
    #[error("training failed: {0}")]
    Library(String),
    /// Flattened trees and the library disagree.
    #[error("flattened trees differ from the library's answers by {difference} in log cost")]
    Flattening {
        /// Largest difference found.
        difference: f64,
    },
    /// Worse than the running means on the newest tenth.
    #[error("not better than {rival}: log-RMSE {candidate:.3} against {best:.3}")]
    NotBetter {
        /// Whom it lost to.
        rival: &'static str,
        /// The candidate's log-RMSE.
        candidate: f64,
        /// The rival's.
        best: f64,
    },
}

/// Trains on rows in order of arrival. Slow (up to seconds): never call it on a request's path. Pure: the same rows
/// and settings give the same model. `champion`: the serving model, which a new one must not be worse than.
pub fn train(
    _rows: &[Sample],
    _settings: &TrainSettings,
    _champion: Option<&CostModel>,
    _version: u64,
    _now: Timestamp,
) -> Result<CostModel, TrainError> {
    todo!()
}
