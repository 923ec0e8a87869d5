//! The served model: flat trees with one head for ln cost, one for expected cost, and three for the class.
//!
//! `exp` of a mean of logs undercounts the total by 5–65 %, so expected cost has a head of its own, and what bias
//! remains is taken off online, per route ([`crate::cost::routes`]). Immutable: a new model replaces it whole.

use serde::{Deserialize, Serialize};

use crate::cost::anchor::Anchor;
use crate::cost::features::{FEATURES, Features, NAMES};
use crate::cost::forest::{ABOVE, Forest, LOG, MEAN};

/// Flat boosted trees, as served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostModel {
    anchor: Anchor,
    forest: Forest,
    card: ModelCard,
}

/// What the trees say about one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelAnswer {
    /// Expected ln of work in microseconds.
    pub log: f32,
    /// ln of expected work.
    pub mean_log: f32,
    /// Probabilities of a cost above light, medium, heavy: as the heads say, not yet drawn into order.
    pub above: [f32; 3],
}

/// Which feature moved a prediction of ln cost, by how much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// ln work in microseconds that the model says before it looks at any feature.
    pub bias: f64,
    /// Feature, its value, and what it added; largest effect first, those without effect left out.
    pub contributions: Vec<Contribution>,
    /// Their sum: the model's answer, ln work in microseconds.
    pub log_work: f64,
}

/// One feature's part in a prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contribution {
    /// Name of the feature.
    pub feature: &'static str,
    /// Its value on arrival.
    pub value: f32,
    /// Added to ln work.
    pub effect: f64,
}

/// What a model was made from and how good it is; for people and for `/api/v1/models`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// How far what the trees add to the running means counts: as far as it held on the newest tenth; 1: as it was learned.
    pub trees_hold: f64,
    /// log-RMSE on the newest tenth, from which it learned nothing else.
    pub log_rmse: f64,
    /// log-RMSE of the per-key running mean on the same rows.
    pub key_mean_log_rmse: f64,
    /// log-RMSE of the route mean on the same rows.
    pub route_mean_log_rmse: f64,
    /// Share of those rows inside the 90 % interval.
    pub coverage: f64,
    /// Share of those rows whose class was right.
    pub class_accuracy: f64,
    /// The same of the keys' class histograms.
    pub key_class_accuracy: f64,
    /// Sum of expected over sum of actual cost on those rows.
    pub sum_ratio: f64,
    /// Class borders it was trained for, microseconds.
    pub class_borders_us: [f64; 3],
    /// Arrival of the oldest and the newest row, microseconds since the epoch.
    pub rows_from_us: u64,
    /// Of the newest.
    pub rows_to_us: u64,
}

impl CostModel {
    pub(crate) fn new(anchor: Anchor, forest: Forest, card: ModelCard) -> Self {
        Self { anchor, forest, card }
    }

    pub(crate) fn with_card(self, card: ModelCard) -> Self {
        Self { card, ..self }
    }

    /// All the trees say. Never panics, may be NaN if the model is broken.
    pub fn answer(&self, features: &Features) -> ModelAnswer {
        let features = self.anchor.among(features);
        let sums = self.forest.sums(&features);
        let anchor = features.anchor_log();
        ModelAnswer {
            log: anchor + sums[LOG],
            mean_log: anchor + sums[MEAN],
            above: [0, 1, 2].map(|border| sums[ABOVE + border]),
        }
    }

    /// The trees' raw answer: natural log of work in microseconds. Never panics, may be NaN if the model is broken.
    pub fn log_work(&self, features: &Features) -> f32 {
        self.answer(features).log
    }

    /// Which features moved the prediction of ln cost. The anchor (the mean of the request's own keys, from which
    /// the trees start) counts as the effect of that feature.
    pub fn explain(&self, features: &Features) -> Explanation {
        let features = &self.anchor.among(features);
        let (mut moved, mut bias) = self.forest.contributions(features, LOG);
        // The anchor is large; what it adds is its distance from the mean of its route.
        bias += features.route_mean_log();
        self.anchor.contributions(features).for_each(|(feature, effect)| moved[feature] += effect);
        let effect = |feature: usize| Contribution {
            feature: NAMES[feature],
            value: features.0[feature],
            effect: f64::from(moved[feature]),
        };
        let mut contributions: Vec<Contribution> =
            (0..FEATURES).map(effect).filter(|part| part.effect != 0.0).collect();
        contributions.sort_by(|a, b| b.effect.abs().total_cmp(&a.effect.abs()));
        Explanation {
            bias: f64::from(bias),
            log_work: f64::from(bias) + contributions.iter().map(|part| part.effect).sum::<f64>(),
            contributions,
        }
    }

    /// Its card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// The same under another number, for a collection in which its own is taken.
    #[must_use]
    pub fn numbered(self, version: u64) -> Self {
        Self { card: ModelCard { version, ..self.card }, ..self }
    }

    /// A model that answers NaN to everything, for fault drills.
    pub fn broken_for_drills() -> Self {
        let card = ModelCard { log_rmse: f64::INFINITY, ..ModelCard::default() };
        Self { anchor: Anchor::default(), forest: Forest::not_a_number(), card }
    }

    /// Whether it can be served; a state file may hold anything.
    pub(crate) fn is_sound(&self) -> bool {
        self.forest.is_sound() && self.anchor.is_sound()
    }
}
