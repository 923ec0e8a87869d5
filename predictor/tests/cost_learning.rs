//! Learning from nothing: two routes, two tenants, costs that depend on a parameter, the route and the tenant.

use foretide_predictor::cost::codec::{self, LearnedCosts};
use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::cost::query::{CostBasis, CostQuery};
use foretide_predictor::cost::reservoir::{Reservoir, Sample};
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::cost::trainer::{TrainError, TrainSettings, train};
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Normal};
use rand_pcg::Pcg64;

const SETTINGS: TrainSettings =
    TrainSettings { trees: 24, depth: 6, learning_rate: 0.2, min_rows: 500, max_rows: 3_000, seed: 1 };

/// A request and its true cost. Route 1 costs in proportion to its size and more for tenant 2; route 2 is flat.
fn draw(rng: &mut Pcg64) -> (CostQuery, f64) {
    let noise = Normal::new(0.0f64, 0.25).unwrap();
    let tenant = rng.random_range(1..=2u64);
    let route = rng.random_range(1..=2u64);
    let mut query = CostQuery::new(RouteId(route as u16), route, tenant);
    let mut work: f64 = 400.0;
    if route == 1 {
        let size = rng.random_range(100.0..20_000.0f32);
        query.numbers[0] = size;
        work = 50.0 + f64::from(size) * 0.5 * if tenant == 2 { 3.0 } else { 1.0 };
    }
    (query, work * noise.sample(rng).exp())
}

/// Runs requests one by one: predict, then learn. Gives the sums of squared log errors of answer and route mean.
fn run(
    table: &KeyTable,
    reservoir: &mut Reservoir,
    model: Option<&CostModel>,
    rng: &mut Pcg64,
    n: u64,
) -> Score {
    let mut score = Score::default();
    for i in 0..n {
        let now = Timestamp::from_us(reservoir.accepted() * 1_000 + i);
        let (query, work_us) = draw(rng);
        let prediction = predict(table, model, &query, now);
        score.model_answers += usize::from(prediction.estimate.basis == CostBasis::Model);
        score.answered += (prediction.estimate.work_us.mean().ln() - work_us.ln()).powi(2);
        score.route += (f64::from(prediction.features.route_mean_log()) - work_us.ln()).powi(2);
        score.predicted_us += prediction.estimate.work_us.mean();
        score.actual_us += work_us;
        score.covered += f64::from(u8::from(prediction.estimate.work_us.covers(work_us))) / n as f64;
        let measured = Measured { work_us, bytes: None, censored: false };
        table.complete(&query, &prediction, &measured, now);
        reservoir.push(Sample { at: now, query, features: prediction.features, work_us });
    }
    score
}

#[derive(Debug, Default)]
struct Score {
    answered: f64,
    route: f64,
    model_answers: usize,
    predicted_us: f64,
    actual_us: f64,
    covered: f64,
}

#[test]
fn a_trained_model_beats_the_route_mean_and_is_calibrated() {
    let mut rng = Pcg64::seed_from_u64(11);
    let table = KeyTable::new(4_096);
    let mut reservoir = Reservoir::new(4_000, 5);
    run(&table, &mut reservoir, None, &mut rng, 4_000);
    let model = train(&reservoir.rows(), &SETTINGS, None, 1, Timestamp::ZERO).unwrap();
    assert!(model.card().log_rmse < model.card().key_mean_log_rmse, "{:?}", model.card());

    let score = run(&table, &mut reservoir, Some(&model), &mut rng, 3_000);
    // On the flat route a mean is as good as anything and may answer.
    assert!(score.model_answers >= 1_400, "{}", score.model_answers);
    // Noise alone is 0.25; size and tenant spread the costs of route 1 far more.
    let (answered, route) = ((score.answered / 3_000.0).sqrt(), (score.route / 3_000.0).sqrt());
    assert!(answered < 0.35 && route > 0.6, "answered {answered}, route mean {route}");
    let ratio = score.predicted_us / score.actual_us;
    assert!((0.93..1.07).contains(&ratio), "sum ratio {ratio}");
    assert!((0.87..0.93).contains(&score.covered), "coverage {}", score.covered);
}

#[test]
fn training_is_pure_and_refuses_what_is_no_better() {
    let mut rng = Pcg64::seed_from_u64(12);
    let table = KeyTable::new(1_024);
    let mut reservoir = Reservoir::new(2_000, 5);
    run(&table, &mut reservoir, None, &mut rng, 2_000);
    let rows = reservoir.rows();
    let settings = TrainSettings { trees: 8, ..SETTINGS };
    let strong = train(&rows, &SETTINGS, None, 3, Timestamp::ZERO).unwrap();
    let again = train(&rows, &SETTINGS, None, 3, Timestamp::ZERO).unwrap();
    assert_eq!(strong, again);
    assert_ne!(
        strong,
        train(&rows, &TrainSettings { seed: 2, ..SETTINGS }, None, 3, Timestamp::ZERO).unwrap()
    );

    let weak = TrainSettings { learning_rate: 0.001, ..settings };
    let refused = train(&rows, &weak, Some(&strong), 4, Timestamp::ZERO);
    assert!(matches!(refused, Err(TrainError::NotBetter { .. })), "{refused:?}");
    let too_few = train(&rows[..400], &settings, None, 1, Timestamp::ZERO);
    assert!(matches!(too_few, Err(TrainError::TooFewRows { have: 400, need: 500 })), "{too_few:?}");
    // A serving model that went wrong does not keep a sound one away.
    assert!(train(&rows, &SETTINGS, Some(&CostModel::broken_for_drills()), 5, Timestamp::ZERO).is_ok());
}

#[test]
fn poisoned_rows_are_left_out_of_training() {
    let mut rng = Pcg64::seed_from_u64(13);
    let table = KeyTable::new(1_024);
    let mut reservoir = Reservoir::new(1_500, 5);
    run(&table, &mut reservoir, None, &mut rng, 1_500);
    let clean = reservoir.rows();
    let mut poisoned = Vec::new();
    for (i, row) in clean.iter().enumerate() {
        let mut bad = *row;
        match i % 3 {
            0 => bad.work_us = f64::NAN,
            1 => bad.features.0[4] = f32::INFINITY,
            _ => bad.work_us = -1.0,
        }
        poisoned.extend([bad, *row]);
    }
    let from_clean = train(&clean, &SETTINGS, None, 1, Timestamp::ZERO).unwrap();
    assert_eq!(train(&poisoned, &SETTINGS, None, 1, Timestamp::ZERO).unwrap(), from_clean);
}

#[test]
fn a_restart_answers_as_before() {
    let mut rng = Pcg64::seed_from_u64(14);
    let table = KeyTable::new(1_024);
    let mut reservoir = Reservoir::new(1_500, 5);
    run(&table, &mut reservoir, None, &mut rng, 1_500);
    let model = train(&reservoir.rows(), &SETTINGS, None, 1, Timestamp::ZERO).unwrap();
    let state = LearnedCosts {
        table: table.snapshot(),
        rows: reservoir.rows(),
        model: Some(model),
        gates: Vec::new(),
    };
    let back = codec::decode(&codec::encode(&state)).unwrap();
    let restored = KeyTable::new(1_024);
    restored.restore(&back.table);
    assert_eq!(back.rows, state.rows);
    for _ in 0..200 {
        let (query, _) = draw(&mut rng);
        let before = predict(&table, state.model.as_ref(), &query, Timestamp::ZERO);
        let after = predict(&restored, back.model.as_ref(), &query, Timestamp::ZERO);
        assert_eq!((before.estimate, before.skill), (after.estimate, after.skill));
    }
}

#[test]
fn who_asks_for_expensive_things_is_not_held_expensive() {
    let table = KeyTable::new(4_096);
    let asked = |tenant: u64, report: u64| {
        let mut query = CostQuery::new(RouteId(1), 1, tenant);
        query.categories[0] = report;
        query
    };
    let work_us = |tenant: u64, report: u64| {
        100.0 * (if report == 2 { 50.0 } else { 1.0 }) * (if tenant == 3 { 2.0 } else { 1.0 })
    };
    for i in 0..4_000u64 {
        let at = Timestamp::from_us(i * 1_000);
        // Tenant 1 asks for dear ones only, tenant 3 for cheap ones, which cost it twice as much; 4 to 9 for all.
        let (tenant, report) = [(1, 2), (3, 1), (4 + i % 6, 1 + i / 6 % 2)][(i % 3) as usize];
        table.observe(&asked(tenant, report), work_us(tenant, report), at);
    }
    for (tenant, report) in [(1, 1), (3, 2)] {
        let log = predict(&table, None, &asked(tenant, report), Timestamp::from_us(4_000_000)).log_mean;
        let missed = log.exp() / work_us(tenant, report);
        // Two thirds of the cheap ones are tenant 3's, so cheap ones cost 1.6 times what they cost others.
        assert!((0.6..1.8).contains(&missed), "tenant {tenant}, report {report}: {missed}");
    }
}
