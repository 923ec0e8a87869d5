//! The served model: flattened trees, immutable (contract; body to come).
use crate::cost::table::Features;
use serde::{Deserialize, Serialize};

/// Flat boosted trees with corrections and interval, as served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostModel {}

/// What a model was made from and how good it is; for people and for `/api/v1/models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Counts up with every model that was ever put to service.
    pub version: u64,
    /// When it was trained, microseconds since the epoch.
    pub trained_at_us: u64,
    /// Rows it learned from.
    pub rows: usize,
    /// Trees, and their depth.
    pub trees: usize,
    /// Depth of each tree.
    pub depth: usize,
    /// log-RMSE on the newest tenth, which it did not learn from.
    pub log_rmse: f64,
    /// log-RMSE of the per-key running mean on the same rows.
    pub key_mean_log_rmse: f64,
    /// log-RMSE of the route mean on the same rows.
    pub route_mean_log_rmse: f64,
    /// Share of those rows inside the 90 % interval.
    pub coverage: f64,
    /// Largest difference between the flattened trees and smartcore's own answers on those rows, in log cost.
    pub flattening_error: f64,
}

impl CostModel {
    /// The trees' raw answer: natural log of work in microseconds. Never panics, may be NaN if the model is broken.
    pub fn log_work(&self, _features: &Features) -> f32 {
        todo!()
    }
    /// Its card.
    pub fn card(&self) -> &ModelCard {
        todo!()
    }
    /// A model that answers NaN to everything, for fault drills.
    pub fn broken_for_drills() -> Self {
        todo!()
    }
}
