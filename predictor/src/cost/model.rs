//! The served model: flat trees for ln cost, corrections from ln cost to expected cost per route, interval.
//!
//! `expected work = smear(route) · exp(trees)`: the exponential of a mean of logs undercounts the total by 5–65 %;
//! Duan's smearing factor (JASA 1983), here as a ratio of sums per route, puts it right. Immutable: a new one replaces
//! it whole.

use serde::{Deserialize, Serialize};

use crate::cost::forest::Forest;
use crate::cost::table::Features;

/// Flat boosted trees with corrections and interval, as served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostModel {
    forest: Forest,
    /// Sorted by key.
    routes: Vec<(u64, Correction)>,
    /// For routes it never saw.
    overall: Correction,
    /// Half-width of the interval in spreads.
    scale: f32,
    card: ModelCard,
}

/// From the trees' answer to a cost, on one route.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Correction {
    /// Expected cost over exp(answer).
    pub smear: f32,
    /// Mean of |ln cost - answer|.
    pub spread: f32,
}

/// All corrections of a model.
#[derive(Clone, Debug)]
pub(crate) struct Corrections {
    /// Sorted by key.
    pub routes: Vec<(u64, Correction)>,
    pub overall: Correction,
    /// Half-width of the interval in spreads.
    pub scale: f32,
}

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
    pub(crate) fn new(forest: Forest, corrections: Corrections, card: ModelCard) -> Self {
        let Corrections { routes, overall, scale } = corrections;
        Self { forest, routes, overall, scale, card }
    }

    /// The trees' raw answer: natural log of work in microseconds. Never panics, may be NaN if the model is broken.
    pub fn log_work(&self, features: &Features) -> f32 {
        self.forest.sum(features)
    }

    /// Its card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// A model that answers NaN to everything, for fault drills.
    pub fn broken_for_drills() -> Self {
        Self {
            forest: Forest::not_a_number(),
            routes: Vec::new(),
            overall: Correction { smear: f32::NAN, spread: f32::NAN },
            scale: f32::NAN,
            card: ModelCard {
                version: 0,
                trained_at_us: 0,
                rows: 0,
                trees: 0,
                depth: 0,
                log_rmse: f64::INFINITY,
                key_mean_log_rmse: 0.0,
                route_mean_log_rmse: 0.0,
                coverage: 0.0,
                flattening_error: 0.0,
            },
        }
    }

    /// How to correct answers on a route.
    pub(crate) fn correction(&self, route_key: u64) -> Correction {
        match self.routes.binary_search_by_key(&route_key, |entry| entry.0) {
            Ok(at) => self.routes[at].1,
            Err(_) => self.overall,
        }
    }

    /// Half-width of the interval in spreads.
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// Whether it can be served; a state file may hold anything.
    pub(crate) fn is_sound(&self) -> bool {
        self.forest.is_sound() && self.routes.is_sorted_by_key(|entry| entry.0)
    }
}
