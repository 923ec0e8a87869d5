//! Training offline: on recorded requests, or on the rows that a running Foretide has kept.
//!
//! Recorded requests are learned in order of time, as live: features as they were on arrival, costs from the moment they
//! were known. The model then has to beat the running means on the newest tenth, which it did not learn from; one that
//! does not is not written, since the means would answer better.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use foretide_predictor::cost::backtest::{BacktestRow, BacktestSettings};
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_predictor::cost::estimator::{CostPrediction, predict};
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::cost::reservoir::{Reservoir, Sample};
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::cost::trainer::{TrainError, TrainSettings, train};
use foretide_predictor::time::Timestamp;

/// Learns all rows (in order of arrival) and trains a model on them; its version and `now` go onto its card. `progress` gets
/// the number of the row.
///
/// # Errors
/// Too few rows, or the model is not better than the running means.
pub fn from_rows(
    rows: &[BacktestRow],
    settings: &BacktestSettings,
    (version, now): (u64, Timestamp),
    mut progress: impl FnMut(usize),
) -> Result<LearnedCosts, TrainError> {
    let mut pass = Pass {
        table: KeyTable::new(settings.key_cells),
        reservoir: Reservoir::new(settings.reservoir_rows, settings.train.seed),
        due: BinaryHeap::new(),
        pending: BTreeMap::new(),
    };
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.cost.is_finite() && row.cost > 0.0) {
        pass.learn_until(row.arrival, rows);
        let query = CostQuery { in_flight: pass.due.len() as f32, ..row.query };
        pass.pending.insert(index, (query, predict(&pass.table, None, &query, row.arrival)));
        pass.due.push(Reverse((row.label_known_at.max(row.arrival), index)));
        progress(index);
    }
    pass.learn_until(Timestamp::from_us(u64::MAX), rows);
    let samples = pass.reservoir.rows();
    let model = train(&samples, &settings.train, None, version, now)?;
    Ok(LearnedCosts { table: pass.table.snapshot(), rows: samples, model: Some(model), gates: Vec::new() })
}

/// Trains anew on the rows of a learned state. The new model's version follows that of the serving one.
///
/// # Errors
/// Too few rows, or the model is not better than the running means.
pub fn from_history(
    learned: LearnedCosts,
    settings: &TrainSettings,
    now: Timestamp,
) -> Result<LearnedCosts, TrainError> {
    let serving = learned.model.as_ref().map_or(0, |model| model.card().version);
    let model = train(&learned.rows, settings, None, serving + 1, now)?;
    Ok(LearnedCosts { model: Some(model), ..learned })
}

/// A pass over recorded requests.
struct Pass {
    table: KeyTable,
    reservoir: Reservoir,
    /// Labels to come: when, and of which row.
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Beside `due`, by row: what was seen on arrival.
    pending: BTreeMap<usize, (CostQuery, CostPrediction)>,
}

impl Pass {
    fn learn_until(&mut self, now: Timestamp, rows: &[BacktestRow]) {
        while let Some(&Reverse((at, index))) = self.due.peek().filter(|due| due.0.0 <= now) {
            self.due.pop();
            let Some((query, seen)) = self.pending.remove(&index) else { continue };
            let row = &rows[index];
            let measured = Measured { work_us: row.cost, bytes: None, censored: false };
            self.table.complete(&query, &seen, &measured, at);
            let sample = Sample { at: row.arrival, query, features: seen.features, work_us: row.cost };
            self.reservoir.push(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_predictor::id::RouteId;

    /// Cost is the number, squared, times the tenant's factor: keys by powers of two know less than trees on the number.
    fn rows() -> Vec<BacktestRow> {
        let row = |i: u64| {
            let number = 10.0 + (i * 7919 % 997) as f32;
            let mut query = CostQuery::new(RouteId(0), 1, i % 5);
            query.numbers[0] = number;
            let cost = f64::from(number).powi(2) * (1.0 + (i % 5) as f64);
            let arrival = Timestamp::from_us(1_000_000 + i * 1_000);
            BacktestRow { arrival, label_known_at: Timestamp::from_us(arrival.as_us() + 5_000), query, cost }
        };
        (0..1_500).map(row).collect()
    }

    fn settings() -> BacktestSettings {
        let mut settings = BacktestSettings::default();
        settings.train.trees = 15;
        settings
    }

    #[test]
    fn a_model_learns_what_means_do_not_know_and_can_be_trained_again() {
        let mut seen = 0;
        let learned = from_rows(&rows(), &settings(), (1, Timestamp::from_us(5)), |row| seen = row).unwrap();
        let card = learned.model.as_ref().unwrap().card().clone();
        assert_eq!((seen, card.version, learned.rows.len()), (1_499, 1, 1_500));
        assert!(card.log_rmse < card.key_mean_log_rmse, "{card:?}");
        let again = from_history(learned, &settings().train, Timestamp::from_us(9)).unwrap();
        assert_eq!(again.model.unwrap().card().version, 2);
    }

    #[test]
    fn what_cannot_be_learned_is_refused() {
        assert!(matches!(
            from_rows(&rows()[..60], &settings(), (1, Timestamp::ZERO), |_| {}),
            Err(TrainError::TooFewRows { .. })
        ));
    }
}
