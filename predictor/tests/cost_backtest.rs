//! The backtest is causal: what is not known yet on arrival reaches no prediction.

use foretide_predictor::cost::backtest::{BacktestError, BacktestRow, BacktestSettings, ScoredRow, backtest};
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::cost::trainer::TrainSettings;
use foretide_predictor::hash;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;
use proptest::prelude::*;

const ROWS: usize = 1_500;

/// A request a millisecond; each label is known after a delay of its own.
fn rows() -> Vec<BacktestRow> {
    let row = |i: u64| {
        let mut query = CostQuery::new(RouteId(0), 1 + i % 2, 1 + hash::mix(i) % 5);
        query.numbers[0] = (hash::mix(i ^ 3) % 1_000) as f32;
        let noise = 0.8 + (hash::mix(i ^ 7) % 100) as f64 / 250.0;
        BacktestRow {
            arrival: Timestamp::from_us(i * 1_000),
            label_known_at: Timestamp::from_us(i * 1_000 + hash::mix(i ^ 1) % 40_000),
            query,
            cost: (20.0 + f64::from(query.numbers[0]) * query.route_key as f64) * noise,
        }
    };
    (0..ROWS as u64).map(row).collect()
}

fn settings() -> BacktestSettings {
    let train =
        TrainSettings { trees: 8, depth: 3, learning_rate: 0.3, min_rows: 200, max_rows: 2_000, seed: 1 };
    BacktestSettings { retrain_rows: 400, train, ..BacktestSettings::default() }
}

fn run(rows: &[BacktestRow]) -> (Vec<ScoredRow>, foretide_predictor::cost::backtest::BacktestReport) {
    let mut scored = Vec::new();
    let report = backtest(rows, &settings(), |row| scored.push(*row)).unwrap();
    (scored, report)
}

#[test]
fn what_can_be_learned_is_learned_and_beats_the_references() {
    let (scored, report) = run(&rows());
    assert_eq!((report.rows, report.learn_rows, scored.len()), (ROWS, 900, 600));
    assert!(report.trained > 0 && report.model.is_some(), "{report:?}");
    let ours = report.ours.log_rmse.unwrap();
    for reference in &report.references {
        assert!(ours < reference.scores.log_rmse.unwrap(), "{reference:?} beats {ours}");
    }
    assert_eq!(scored[0].row, 900);
}

#[test]
fn where_nothing_says_who_is_heavy_the_total_is_right_and_the_mean_is_as_good_as_any() {
    // A cache that does not answer one in ten, for consumers that are never seen again.
    let row = |i: u64| {
        let heavy = hash::mix(i ^ 11).is_multiple_of(10);
        let noise = 0.7 + (hash::mix(i ^ 7) % 100) as f64 / 150.0;
        BacktestRow {
            arrival: Timestamp::from_us(i * 1_000),
            label_known_at: Timestamp::from_us(i * 1_000),
            query: CostQuery::new(RouteId(0), 1, 1 + i),
            cost: noise * if heavy { 1_000.0 } else { 10.0 },
        }
    };
    let rows: Vec<BacktestRow> = (0..12_000).map(row).collect();
    let report = run(&rows).1;
    let total = report.ours.sum_ratio.unwrap();
    assert!((0.95..1.05).contains(&total), "{total}");
    let best = report.references.iter().filter_map(|reference| reference.scores.log_rmse);
    let (ours, best) = (report.ours.log_rmse.unwrap(), best.fold(f64::INFINITY, f64::min));
    assert!(ours < 1.01 * best, "{ours} against {best}");
}

#[test]
fn rare_time_outs_are_in_the_total() {
    // Three in a hundred run into a time-out, six hundred times what is usual: they are nine tenths of the total.
    let row = |i: u64| {
        let mut query = CostQuery::new(RouteId(0), 1, 1 + hash::mix(i ^ 5) % 40);
        query.numbers[0] = (1 + hash::mix(i ^ 3) % 100) as f32;
        let noise = 0.7 + (hash::mix(i ^ 7) % 100) as f64 / 150.0;
        let timed_out = hash::mix(i ^ 11) % 100 < 3;
        BacktestRow {
            arrival: Timestamp::from_us(i * 1_000),
            label_known_at: Timestamp::from_us(i * 1_000),
            query,
            cost: if timed_out { 3e7 } else { noise * 1e3 * f64::from(query.numbers[0]) },
        }
    };
    let rows: Vec<BacktestRow> = (0..12_000).map(row).collect();
    let total = run(&rows).1.ours.sum_ratio.unwrap();
    assert!((0.85..1.15).contains(&total), "{total}");
}

#[test]
fn time_outs_of_some_routes_do_not_make_the_certain_ones_dear() {
    // One in ten requests of three routes takes a thousand, else next to nothing; those of the fourth always do.
    let cost = |route: u64, i: u64| {
        if route == 3 || hash::mix(i ^ 11).is_multiple_of(10) { 1e6 } else { 1e3 * (1 << route) as f64 }
    };
    let row = |i: u64| {
        let route = hash::mix(i ^ 5) % 4;
        let mut query = CostQuery::new(RouteId(route as u16), 1 + route, 1);
        query.numbers[0] = (1 + hash::mix(i ^ 3) % 5) as f32;
        let at = Timestamp::from_us(i * 1_000);
        BacktestRow { arrival: at, label_known_at: at, query, cost: cost(route, i) }
    };
    let rows: Vec<BacktestRow> = (0..8_000).map(row).collect();
    let (scored, report) = run(&rows);
    let certain: Vec<f64> = scored
        .iter()
        .filter(|one| rows[one.row].query.route == RouteId(3))
        .map(|one| one.answer.mean)
        .collect();
    let mean = certain.iter().sum::<f64>() / certain.len() as f64 / 1e6;
    assert!((0.9..1.15).contains(&mean), "{mean}");
    let total = report.ours.sum_ratio.unwrap();
    assert!((0.85..1.15).contains(&total), "{total}");
}

#[test]
fn unusable_rows_and_disorder_are_said() {
    let mut rows = rows();
    rows[10].cost = f64::NAN;
    rows[20].cost = -1.0;
    assert_eq!(run(&rows).1.unusable_rows, 2);
    rows.swap(5, 6);
    assert!(matches!(backtest(&rows, &settings(), |_| {}), Err(BacktestError::Order { row: 6 })));
    assert!(matches!(
        backtest(&rows[100..150], &settings(), |_| {}),
        Err(BacktestError::TooFewRows { have: 50, .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn the_future_changes_no_prediction(at in 950usize..ROWS, factor in 2.0f64..50.0) {
        let before = rows();
        let mut after = before.clone();
        // Classes are compared by frozen borders, so only labels known after the learning part may change.
        let now = before[at].arrival;
        for row in after.iter_mut().filter(|row| row.label_known_at > now) {
            row.cost *= factor;
        }
        let (before, after) = (run(&before).0, run(&after).0);
        for (one, other) in before.iter().zip(&after).take_while(|(one, _)| one.row <= at) {
            prop_assert_eq!(one.answer, other.answer, "row {} of {}", one.row, at);
        }
    }
}
