//! A model's card in words: what it was made from, how good it is against what anybody would try first.

use std::fmt::Write as _;

use foretide_loadtest::replay::moment;
use foretide_predictor::cost::model::ModelCard;

/// The card as a few lines.
pub fn words(card: &ModelCard) -> String {
    let mut text = format!(
        "model {} of {}: {} trees of depth {}, from {} rows\n",
        card.version,
        when(card.trained_at_us),
        card.trees,
        card.depth,
        card.rows
    );
    let _ = writeln!(text, "on the newest tenth, which it did not learn from:");
    let against = |rmse: f64| if rmse > 0.0 { 100.0 * (1.0 - card.log_rmse / rmse) } else { 0.0 };
    let _ = writeln!(text, "  log-RMSE {:.3}, off by a factor of {:.2}", card.log_rmse, card.log_rmse.exp());
    for (name, rmse) in [("key mean", card.key_mean_log_rmse), ("route mean", card.route_mean_log_rmse)] {
        let _ = writeln!(text, "  {name} {rmse:.3}: the model is {:+.1} % better", against(rmse));
    }
    let _ =
        write!(text, "  calibration: {:.1} % of the truths inside the 90 % interval", 100.0 * card.coverage);
    text
}

/// A moment for people, in UTC.
pub fn when(us: u64) -> String {
    let us = i64::try_from(us).unwrap_or(i64::MAX);
    moment::written(us).unwrap_or_else(|| "an unknown time".into())
}
