//! A model's card in words: what it was made from, how good it is against what anybody would try first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use foretide_loadtest::replay::moment;
use foretide_predictor::cost::model::{CostModel, ModelCard};
use foretide_predictor::cost::reservoir::Sample;
use serde::Serialize;

/// Rows that say what a model looks at, evenly taken from its sample.
const WEIGHED_ROWS: usize = 500;
/// Features named in words; the rest is in the card's file.
const NAMED: usize = 5;

/// How much a feature moves predictions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weight {
    /// Name of the feature.
    pub feature: &'static str,
    /// Mean factor on cost, up or down, over rows of the sample; 1 is none.
    pub factor: f64,
}

/// The card as a few lines.
pub fn words(card: &ModelCard) -> String {
    let mut text = format!(
        "model {} of {}: {} trees of depth {}, from {} rows\nof requests from {} to {}\n",
        card.version,
        when(card.trained_at_us),
        card.trees,
        card.depth,
        card.rows,
        when(card.rows_from_us),
        when(card.rows_to_us)
    );
    let _ = writeln!(
        text,
        "on the newest tenth, from which it learned only how far to believe its trees (×{:.2}):",
        card.trees_hold
    );
    let against = |rmse: f64| if rmse > 0.0 { 100.0 * (1.0 - card.log_rmse / rmse) } else { 0.0 };
    let _ = writeln!(text, "  log-RMSE {:.3}, off by a factor of {:.2}", card.log_rmse, card.log_rmse.exp());
    for (name, rmse) in [("key mean", card.key_mean_log_rmse), ("route mean", card.route_mean_log_rmse)] {
        let _ = writeln!(text, "  {name} {rmse:.3}: the model is {:+.1} % better", against(rmse));
    }
    let _ = writeln!(
        text,
        "  class right: {:.1} %; by the keys' own histogram {:.1} %",
        100.0 * card.class_accuracy,
        100.0 * card.key_class_accuracy
    );
    let _ = writeln!(text, "  sum of expected over sum of actual costs: {:.3}", card.sum_ratio);
    let _ =
        write!(text, "  calibration: {:.1} % of the truths inside the 90 % interval", 100.0 * card.coverage);
    text
}

/// What a model looks at, the most moving feature first; features that move nothing are left out.
pub fn weights(model: &CostModel, sample: &[Sample]) -> Vec<Weight> {
    let step = sample.len().div_ceil(WEIGHED_ROWS).max(1);
    let rows: Vec<&Sample> = sample.iter().step_by(step).collect();
    let mut effects: BTreeMap<&'static str, f64> = BTreeMap::new();
    for part in rows.iter().flat_map(|row| model.explain(&row.features).contributions) {
        *effects.entry(part.feature).or_default() += part.effect.abs() / rows.len() as f64;
    }
    let weight = |(feature, effect): (_, f64)| Weight { feature, factor: effect.exp() };
    let mut weights: Vec<Weight> = effects.into_iter().map(weight).collect();
    weights.sort_by(|a, b| b.factor.total_cmp(&a.factor));
    weights
}

/// The first few of [`weights`] in words.
pub fn looks_at(weights: &[Weight]) -> String {
    let named = weights.iter().take(NAMED).map(|weight| format!("{} ×{:.2}", weight.feature, weight.factor));
    format!("  looks at: {} (mean factor up or down)", named.collect::<Vec<_>>().join(", "))
}

/// A moment for people, in UTC.
pub fn when(us: u64) -> String {
    let us = i64::try_from(us).unwrap_or(i64::MAX);
    moment::written(us).unwrap_or_else(|| "an unknown time".into())
}
