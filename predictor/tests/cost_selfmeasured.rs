//! Real measured CPU costs of a small web application, predicted one by one as they come: predict, then learn.

use std::path::Path;

use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::cost::query::{CostBasis, CostQuery};
use foretide_predictor::cost::reservoir::{Reservoir, Sample};
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::cost::trainer::{TrainSettings, train};
use foretide_predictor::hash;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;

/// Enough to learn from, few enough for unoptimised trees.
const ROWS: usize = 9_000;
/// Scored from here on.
const LEARN: usize = 5_000;
/// A new model after so many rows.
const RETRAIN: usize = 5_000;

/// Numeric columns, as a route of this application would name them.
const NUMBERS: [&str; 9] = ["limit", "frm", "to", "h", "w", "n", "body_len", "body", "id"];

fn column(headers: &csv::StringRecord, name: &str) -> usize {
    headers.iter().position(|header| header == name).unwrap_or_else(|| panic!("no column {name}"))
}

fn requests(file: std::fs::File) -> Vec<(CostQuery, f64)> {
    let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let headers = reader.headers().unwrap().clone();
    let at = |name: &str| column(&headers, name);
    let (route, tenant, gz, q, cost) = (at("route"), at("tenant"), at("gz"), at("q"), at("cpu_us"));
    let numbers = NUMBERS.map(at);
    let parse = |record: csv::StringRecord| {
        let key = |column: usize| hash::bytes(record[column].as_bytes());
        let mut query = CostQuery::new(RouteId(0), key(route), key(tenant));
        for (slot, column) in numbers.into_iter().enumerate() {
            query.numbers[slot] = record[column].parse().unwrap();
        }
        query.categories[0] = key(gz);
        query.categories[1] = if record[q].is_empty() { 0 } else { key(q) };
        (query, record[cost].parse().unwrap())
    };
    reader.records().take(ROWS).map(|record| parse(record.unwrap())).collect()
}

#[test]
fn the_model_beats_the_running_means_on_real_costs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cost/selfmeasured_cpu.csv.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        assert!(std::env::var_os("CI").is_none(), "CI needs {}", path.display());
        println!("skipped: {} is not there", path.display());
        return;
    };
    let settings =
        TrainSettings { trees: 24, depth: 6, learning_rate: 0.2, min_rows: 1_000, max_rows: 5_000, seed: 1 };
    let table = KeyTable::new(4_096);
    let mut reservoir = Reservoir::new(6_000, 3);
    let mut model: Option<CostModel> = None;
    let (mut answered, mut key_mean, mut route_mean, mut covered, mut scored) =
        (0.0, 0.0, 0.0, 0usize, 0usize);
    let (mut predicted_us, mut actual_us, mut by_model) = (0.0, 0.0, 0usize);
    for (i, (query, work_us)) in requests(file).into_iter().enumerate() {
        let now = Timestamp::from_us(i as u64 * 10_000);
        let prediction = predict(&table, model.as_ref(), &query, now);
        if i >= LEARN {
            by_model += usize::from(prediction.estimate.basis == CostBasis::Model);
            let log_answer = prediction.log_mean;
            let log_cost = work_us.ln();
            answered += (log_answer - log_cost).powi(2);
            key_mean += (f64::from(prediction.features.key_mean_log()) - log_cost).powi(2);
            route_mean += (f64::from(prediction.features.route_mean_log()) - log_cost).powi(2);
            covered += usize::from(prediction.estimate.work_us.covers(work_us));
            predicted_us += prediction.estimate.work_us.mean();
            actual_us += work_us;
            scored += 1;
        }
        let measured = Measured { work_us, bytes: None, censored: false };
        table.complete(&query, &prediction, &measured, now);
        reservoir.push(Sample { at: now, query, features: prediction.features, work_us });
        if (i + 1) % RETRAIN == 0 && i + 1 < ROWS {
            match train(&reservoir.rows(), &settings, model.as_ref(), i as u64, now) {
                Ok(better) => model = Some(better),
                Err(error) => println!("row {i}: {error}"),
            }
        }
    }
    let rmse = |squares: f64| (squares / scored as f64).sqrt();
    let (answered, key_mean, route_mean) = (rmse(answered), rmse(key_mean), rmse(route_mean));
    let coverage = covered as f64 / scored as f64;
    let ratio = predicted_us / actual_us;
    println!(
        "{scored} rows scored: log-RMSE model {answered:.3}, key mean {key_mean:.3}, route mean {route_mean:.3}; \
         coverage {coverage:.3}; sum ratio {ratio:.3}"
    );
    assert!(by_model > scored * 7 / 10, "the model answered {by_model} times");
    assert!(answered < key_mean * 0.97 && answered < route_mean * 0.9);
    assert!((0.87..=0.93).contains(&coverage));
    assert!((0.8..=1.2).contains(&ratio));
}
