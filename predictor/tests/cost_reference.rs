//! Our trainer against smartcore's on the same rows, and what a model says about its answers.

use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::cost::reference::reference_log_rmse;
use foretide_predictor::cost::reservoir::Sample;
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::cost::trainer::{TrainSettings, train};
use foretide_predictor::hash;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;

const SETTINGS: TrainSettings =
    TrainSettings { trees: 30, depth: 6, learning_rate: 0.2, min_rows: 500, max_rows: 5_000, seed: 1 };

/// Costs that depend on size, route and kind, with noise of a factor of about 1.3 either way.
fn request(i: u64) -> (CostQuery, f64) {
    let draw = |salt: u64| (hash::mix(i ^ salt << 32) >> 40) as f64 / (1u64 << 24) as f64;
    let route = hash::mix(i ^ 77) % 3;
    let mut query = CostQuery::new(RouteId(0), route + 1, hash::mix(i) % 20 + 1);
    query.numbers[0] = (draw(1) * 10_000.0) as f32;
    query.categories[0] = 1 + hash::mix(i ^ 5) % 3;
    let kind = query.categories[0] as f64;
    (query, (50.0 + f64::from(query.numbers[0]) * kind * (route + 1) as f64) * (draw(2) - draw(3)).exp())
}

fn learn(rows: u64) -> (KeyTable, Vec<Sample>) {
    let table = KeyTable::new(4_096);
    let sample = |i: u64| {
        let (query, work_us) = request(i);
        let at = Timestamp::from_us(i * 1_000);
        let features = table.features(&query, at);
        table.observe(&query, work_us, at);
        Sample { at, query, features, work_us }
    };
    let samples = (0..rows).map(sample).collect();
    (table, samples)
}

#[test]
fn ours_is_as_accurate_as_the_reference() {
    let (_, rows) = learn(4_000);
    let ours = train(&rows, &SETTINGS, None, 1, Timestamp::ZERO).unwrap();
    let (ours, theirs) = (ours.card().log_rmse, reference_log_rmse(&rows, &SETTINGS).unwrap());
    assert!(ours < theirs * 1.02, "log-RMSE {ours} against {theirs} of smartcore");
}

#[test]
fn contributions_add_up_to_the_answer() {
    let (table, rows) = learn(2_000);
    let model = train(&rows, &SETTINGS, None, 1, Timestamp::ZERO).unwrap();
    for i in 3_000..3_050 {
        let features = table.features(&request(i).0, Timestamp::ZERO);
        let explanation = model.explain(&features);
        assert!((explanation.log_work - f64::from(model.log_work(&features))).abs() < 1e-3);
        assert!(!explanation.contributions.is_empty());
    }
}

#[test]
fn a_liar_moves_others_by_a_bounded_amount() {
    // One request in ten of consumer 7: honest in one run, an hour for everything in the other.
    let answers = |lie: Option<f64>| -> Vec<f64> {
        let (table, _) = learn(3_000);
        for i in 0..3_000u64 {
            let (mut query, mut work_us) = request(20_000 + i);
            if i % 10 == 0 {
                query.consumer_key = 7;
                work_us = lie.unwrap_or(work_us);
            }
            let prediction = predict(&table, None, &query, Timestamp::ZERO);
            let measured = Measured { work_us, bytes: None, censored: false };
            table.complete(&query, &prediction, &measured, Timestamp::ZERO);
        }
        let others = (9_000..9_050).map(|i| request(i).0).filter(|query| query.consumer_key != 7);
        others.map(|query| predict(&table, None, &query, Timestamp::ZERO).estimate.work_us.mean()).collect()
    };
    for (honest, lied) in answers(None).iter().zip(answers(Some(3.6e9))) {
        let moved = lied / honest;
        assert!((0.3..20.0).contains(&moved), "moved by a factor of {moved}; the lie was one of 100,000");
    }
}

#[test]
fn what_was_cut_short_can_only_raise() {
    let (table, _) = learn(1_000);
    let (query, _) = request(5);
    let prediction = predict(&table, None, &query, Timestamp::ZERO);
    let mean = prediction.estimate.work_us.mean();
    let cut = |work_us: f64| {
        let measured = Measured { work_us, bytes: Some(1e3), censored: true };
        table.complete(&query, &prediction, &measured, Timestamp::ZERO)
    };
    assert!(!cut(mean * 0.1));
    assert!(!cut(0.0) && !cut(f64::NAN));
    assert_eq!(predict(&table, None, &query, Timestamp::ZERO).estimate, prediction.estimate);
    assert!(cut(mean * 3.0));
    assert!(predict(&table, None, &query, Timestamp::ZERO).log_mean > prediction.log_mean);
    assert_eq!(table.censored(), (1, 1));
    assert_eq!(table.expected_bytes(&query), None, "half a response says nothing about its size");
    let whole = Measured { work_us: mean, bytes: Some(2_000.0), censored: false };
    table.complete(&query, &prediction, &whole, Timestamp::ZERO);
    assert_eq!(table.expected_bytes(&query), Some(2_000.0));
}
