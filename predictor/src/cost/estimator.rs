//! From a query to an estimate, with fallbacks (contract; body to come).
use crate::cost::model::CostModel;
use crate::cost::query::{CostEstimate, CostQuery};
use crate::cost::table::{Features, KeyTable};
use crate::time::Timestamp;

/// An estimate with the features it was made from; keep them with the label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostPrediction {
    /// Features on arrival.
    pub features: Features,
    /// The answer.
    pub estimate: CostEstimate,
    /// True when a model was there but its answer was unusable (NaN, infinite, absurd).
    pub model_failed: bool,
}

/// Predicts the work of a request. Takes no lock, allocates nothing, cannot fail: a missing or broken model falls back
/// to the running means of `table`, and those to a prior.
pub fn predict(
    _table: &KeyTable,
    _model: Option<&CostModel>,
    _query: &CostQuery,
    _now: Timestamp,
) -> CostPrediction {
    todo!()
}
