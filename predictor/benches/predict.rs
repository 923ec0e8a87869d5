//! Cost of the answer: nanoseconds per prediction and per observation, and how much slower smartcore's own predict is.
//!
//! `cargo bench -p foretide-predictor --bench predict`. The figures are of one thread on this machine; the ratio is
//! what carries over to others.

use std::hint::black_box;
use std::time::Instant;

use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::features::FEATURES;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::cost::reservoir::Sample;
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::cost::trainer::{TrainSettings, train};
use foretide_predictor::hash;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

const TREES: usize = 50;
const DEPTH: usize = 6;
/// Of the library's trees, which are not symmetric: about as accurate.
const THEIR_DEPTH: usize = 4;

fn request(i: u64) -> (CostQuery, f64) {
    let (tenant, route) = (hash::mix(i) % 100, hash::mix(i ^ 77) % 8);
    let mut query = CostQuery::new(RouteId(route as u16), route + 1, tenant + 1);
    query.numbers[0] = (hash::mix(i ^ 99) % 10_000) as f32;
    query.numbers[1] = (tenant % 7) as f32;
    query.categories[0] = 1 + hash::mix(i ^ 5) % 3;
    let jitter = 1.0 + (hash::mix(i ^ 3) % 100) as f64 / 200.0;
    (query, (20.0 + f64::from(query.numbers[0]) * (route + 1) as f64 * 0.1) * jitter)
}

/// Nanoseconds per call in the quickest of many short batches: on a busy machine the others measure the neighbours.
fn nanoseconds<T>(items: &[T], mut call: impl FnMut(&T)) -> f64 {
    let mut quickest = f64::INFINITY;
    for _ in 0..20 {
        for batch in items.chunks_exact(100) {
            let start = Instant::now();
            batch.iter().for_each(&mut call);
            quickest = quickest.min(start.elapsed().as_nanos() as f64 / batch.len() as f64);
        }
    }
    quickest
}

/// Nanoseconds in which smartcore predicts one of these rows.
fn library_ns(rows: &[Sample]) -> f64 {
    let cells = rows.iter().flat_map(|row| row.features.0).collect();
    let x = DenseMatrix::new(rows.len(), FEATURES, cells, false).expect("rows x features");
    let y: Vec<f64> = rows.iter().map(|row| row.work_us.ln()).collect();
    let parameters = XGRegressorParameters::default()
        .with_n_estimators(TREES)
        .with_max_depth(THEIR_DEPTH as u16)
        .with_learning_rate(0.2)
        .with_subsample(0.3);
    let library = XGRegressor::fit(&x, &y, parameters).expect("the workload can be learned");
    let singles: Vec<DenseMatrix<f32>> = rows[..500]
        .iter()
        .map(|row| DenseMatrix::new(1, FEATURES, row.features.0.to_vec(), false).expect("one row"))
        .collect();
    nanoseconds(&singles, |row| {
        black_box(library.predict(black_box(row)).expect("one row"));
    })
}

fn main() {
    let table = KeyTable::new(4_096);
    let requests: Vec<_> = (0..6_000).map(request).collect();
    let mut rows = Vec::new();
    for (i, &(query, work_us)) in requests.iter().enumerate() {
        let at = Timestamp::from_us(i as u64 * 1_000);
        rows.push(Sample { at, query, features: table.features(&query, at), work_us });
        table.observe(&query, work_us, at);
    }
    let settings = TrainSettings {
        trees: TREES,
        depth: DEPTH,
        learning_rate: 0.2,
        min_rows: 500,
        max_rows: 6_000,
        seed: 1,
    };
    let model = train(&rows, &settings, None, 1, Timestamp::ZERO).expect("the workload can be learned");

    let now = Timestamp::from_us(6_000_000);
    let answer = nanoseconds(&requests, |(query, _)| {
        black_box(predict(&table, Some(&model), black_box(query), now));
    });
    let answered: Vec<_> = requests
        .iter()
        .map(|(query, work_us)| (*query, predict(&table, Some(&model), query, now), *work_us))
        .collect();
    let features = nanoseconds(&requests, |(query, _)| {
        black_box(table.features(black_box(query), now));
    });
    let trees = nanoseconds(&rows, |row| {
        black_box(model.log_work(black_box(&row.features)));
    });
    let observe = nanoseconds(&requests, |(query, work_us)| table.observe(black_box(query), *work_us, now));

    let complete = nanoseconds(&answered, |(query, prediction, work_us)| {
        let measured = Measured { work_us: *work_us, bytes: None, censored: false };
        black_box(table.complete(black_box(query), prediction, &measured, now));
    });
    let full: Vec<Sample> = (0..20_000).map(|i| rows[i % rows.len()]).collect();
    let training = TrainSettings { max_rows: full.len(), ..settings };
    let retrain_ms = |depth: usize| {
        let spans = (0..5).map(|_| {
            let start = Instant::now();
            black_box(train(&full, &TrainSettings { depth, ..training }, None, 1, Timestamp::ZERO).ok());
            start.elapsed().as_secs_f64() * 1e3
        });
        spans.fold(f64::INFINITY, f64::min)
    };
    let [retrain, shallow] = [DEPTH, THEIR_DEPTH].map(retrain_ms);

    let theirs = library_ns(&rows);
    println!("predict (table, {TREES} trees of depth {DEPTH}, interval, class): {answer:.0} ns");
    println!("  of which features {features:.0} ns, trees {trees:.0} ns");
    println!("learn a cost: {observe:.0} ns, with its prediction judged: {complete:.0} ns");
    println!(
        "train {} rows of {FEATURES} features, {TREES} trees of depth {DEPTH}: {retrain:.0} ms, of depth {THEIR_DEPTH}: {shallow:.0} ms",
        full.len()
    );
    println!("smartcore's predict of one row: {theirs:.0} ns, {:.1} times our trees", theirs / trees);
}
