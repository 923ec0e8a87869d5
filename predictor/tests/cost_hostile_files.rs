//! State and model files that somebody has been at, their checksum made right again: what can be read can be used, and
//! whatever is in it, predictions stay finite and nothing panics.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p foretide-predictor --test cost_hostile_files` runs it for longer.

use std::sync::OnceLock;

use foretide_predictor::cost::backtest::BacktestSettings;
use foretide_predictor::cost::codec::{self, LearnedCosts};
use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::cost::reservoir::Sample;
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::cost::trainer::train;
use foretide_predictor::hash;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// Magic, version, checksum.
const HEADER: usize = 6 + 4 + 8;

fn query(i: u64) -> CostQuery {
    let mut query = CostQuery::new(RouteId(0), 1 + i % 2, i % 7);
    query.numbers[0] = (1 + i * 7919 % 97) as f32;
    query
}

/// A file with everything in it: statistics, rows, a model.
fn whole() -> &'static [u8] {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let table = KeyTable::new(256);
        let mut rows = Vec::new();
        for i in 0..400u64 {
            let (query, at) = (query(i), Timestamp::from_us(i * 1_000));
            let prediction = predict(&table, None, &query, at);
            let work_us = 10.0 * f64::from(query.numbers[0]).powf(1.5);
            table.complete(&query, &prediction, &Measured { work_us, bytes: Some(5.0), censored: false }, at);
            rows.push(Sample { at, query, features: prediction.features, work_us });
        }
        let mut settings = BacktestSettings::default().train;
        (settings.trees, settings.depth) = (4, 3);
        let model = train(&rows, &settings, None, 1, Timestamp::ZERO).expect("numbers say more than means");
        rows.truncate(40);
        codec::encode(&LearnedCosts { table: table.snapshot(), rows, model: Some(model), gates: Vec::new() })
    })
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= HEADER {
        let sum = xxh3_64(&bytes[HEADER..]).to_le_bytes();
        bytes[HEADER - 8..HEADER].copy_from_slice(&sum);
    }
    bytes
}

/// Everything that the product does with a file that can be read.
fn used(learned: &LearnedCosts) -> Result<(), TestCaseError> {
    let table = KeyTable::new(256);
    table.restore(&learned.table);
    for i in 0..20u64 {
        let now = Timestamp::from_us(hash::mix(i));
        let prediction = predict(&table, learned.model.as_ref(), &query(i), now);
        let work = prediction.estimate.work_us;
        prop_assert!(work.mean().is_finite() && work.mean() > 0.0, "{:?}", prediction.estimate);
        prop_assert!(work.low() > 0.0 && work.high().is_finite(), "{:?}", prediction.estimate);
        prop_assert!(prediction.features.0.iter().all(|feature| feature.is_finite()));
        let measured = Measured { work_us: 100.0 + i as f64, bytes: None, censored: i % 5 == 0 };
        table.complete(&query(i), &prediction, &measured, now);
    }
    if let Some(model) = &learned.model {
        let explanation = model.explain(&predict(&table, Some(model), &query(3), Timestamp::ZERO).features);
        prop_assert!(explanation.contributions.len() <= 60);
    }
    let rows: Vec<Sample> = learned.rows.iter().copied().cycle().take(120).collect();
    let mut settings = BacktestSettings::default().train;
    (settings.trees, settings.depth, settings.min_rows) = (2, 2, 50);
    // Whatever the rows hold: a model, or a reason.
    let _either = train(&rows, &settings, learned.model.as_ref(), 2, Timestamp::ZERO);
    codec::encode(&LearnedCosts { table: table.snapshot(), rows, model: None, gates: Vec::new() });
    Ok(())
}

/// Cuts, doubles, overwrites; bytes that are large numbers, NaNs and lengths among them.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![Just(0u8), Just(0xff), Just(0x7f), Just(0x80), any::<u8>()];
    let edit = (any::<prop::sample::Index>(), prop::collection::vec(bytes, 1..6), 0..6u8);
    prop::collection::vec(edit, 1..10).prop_map(|edits| {
        let mut file = whole().to_vec();
        for (at, bytes, what) in edits {
            let at = HEADER + at.index(file.len() - HEADER);
            match what {
                0 if at > HEADER => file.truncate(at),
                1 => drop(file.splice(at..at, bytes)),
                _ => file.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = new),
            }
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_noticed(file in damaged()) {
        prop_assert!(file == whole() || codec::decode(&file).is_err());
    }

    #[test]
    fn damage_with_the_right_checksum_does_no_harm(file in damaged()) {
        if let Ok(learned) = codec::decode(&sealed(file)) {
            used(&learned)?;
        }
    }

    /// Numbers alone are changed, so that most files can be read.
    #[test]
    fn forged_numbers_do_no_harm(places in prop::collection::vec(any::<prop::sample::Index>(), 1..40), to in 0..4usize) {
        let numbers = [f32::NAN, f32::INFINITY, -1e30, 1e38].map(f32::to_le_bytes);
        let mut file = whole().to_vec();
        for place in places {
            let at = HEADER + place.index(file.len() - HEADER - 4);
            file[at..at + 4].copy_from_slice(&numbers[to]);
        }
        if let Ok(learned) = codec::decode(&sealed(file)) {
            used(&learned)?;
        }
    }
}

#[test]
fn the_untouched_file_is_read_and_used() {
    let learned = codec::decode(whole()).expect("ours");
    assert!(learned.model.is_some() && learned.rows.len() == 40);
    used(&learned).expect("sound");
}
