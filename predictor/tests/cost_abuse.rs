//! Someone who invents consumers, lies about costs or sends nonsense: memory stays, other keys keep their answers.

use foretide_predictor::cost::codec::{self, LearnedCosts};
use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::query::{CostBasis, CostQuery};
use foretide_predictor::cost::table::KeyTable;
use foretide_predictor::hash;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;

const CELLS: usize = 4_096;

fn query(route: u64, consumer: u64, size: f32) -> CostQuery {
    let mut query = CostQuery::new(RouteId(route as u16), route, consumer);
    query.numbers[0] = size;
    query
}

#[test]
fn a_million_consumers_leave_memory_and_other_answers_as_they_were() {
    let table = KeyTable::new(CELLS);
    let at = |i: u64| Timestamp::from_us(i * 100);
    for i in 0..2_000u64 {
        table.observe(&query(1, 1, 10.0), 200.0, at(i));
        table.observe(&query(2, 2, 5_000.0), 9_000.0, at(i));
    }
    let regular = predict(&table, None, &query(1, 1, 10.0), at(2_000)).estimate;
    for i in 0..1_000_000u64 {
        // Each with a parameter of its own, and a hundred times as expensive as honest requests.
        table.observe(&query(3, hash::mix(i), (i % 100_000) as f32), 20_000.0, at(2_000 + i));
        if i % 100 == 0 {
            table.observe(&query(1, 1, 10.0), 200.0, at(2_000 + i));
        }
    }
    assert!(table.occupied() <= CELLS);
    let state = LearnedCosts { table: table.snapshot(), rows: Vec::new(), model: None, gates: Vec::new() };
    let most = (64 + 4 * 32) * CELLS;
    assert!(codec::encode(&state).len() < most, "a cell is 64 bytes and has four exact requests of 32");
    for (asked, work) in [(query(1, 1, 10.0), 200.0), (query(2, 2, 5_000.0), 9_000.0)] {
        let answer = predict(&table, None, &asked, at(1_002_000)).estimate;
        assert_eq!(answer.basis, CostBasis::KeyMean);
        assert!((answer.work_us.mean() / work - 1.0).abs() < 0.01, "{answer:?}");
    }
    let after = predict(&table, None, &query(1, 1, 10.0), at(1_002_000)).estimate;
    assert!(after.work_us.mean() == regular.work_us.mean());
}

#[test]
fn a_liar_moves_its_own_answers_and_hardly_those_of_others() {
    let table = KeyTable::new(CELLS);
    let (honest, liar) = (query(1, 1, 10.0), query(1, 66, 10_000.0));
    for i in 0..5_000u64 {
        table.observe(&honest, 200.0, Timestamp::from_us(i));
        if i % 10 == 0 {
            table.observe(&liar, f64::MAX, Timestamp::from_us(i));
            table.observe(&liar, f64::INFINITY, Timestamp::from_us(i));
            table.observe(&liar, f64::NAN, Timestamp::from_us(i));
            table.observe(&liar, -5.0, Timestamp::from_us(i));
        }
    }
    let answer = predict(&table, None, &honest, Timestamp::ZERO).estimate;
    assert!((answer.work_us.mean() / 200.0 - 1.0).abs() < 0.01, "{answer:?}");
    let own = predict(&table, None, &liar, Timestamp::ZERO).estimate;
    assert!(own.work_us.mean() <= 3.6e9 * 1.001, "labels are clamped to an hour: {own:?}");
}

#[test]
fn readers_beside_the_writer_always_get_finite_answers() {
    let table = KeyTable::new(64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..200_000u64 {
                table.observe(
                    &query(i % 3, hash::mix(i) % 500, (i % 1_000) as f32),
                    1.0 + (i % 7_000) as f64,
                    Timestamp::from_us(i),
                );
            }
        });
        for reader in 0..2u64 {
            let table = &table;
            scope.spawn(move || {
                for i in 0..50_000u64 {
                    let answer = predict(
                        table,
                        None,
                        &query(i % 4, hash::mix(i + reader) % 500, 3.0),
                        Timestamp::from_us(i),
                    );
                    assert!(answer.features.0.iter().all(|feature| feature.is_finite()));
                    assert!(answer.estimate.work_us.low() > 0.0 && answer.estimate.work_us.high() < 1e13);
                }
            });
        }
    });
}
