//! What was learned survives a restart, and a damaged file does not survive as truth.

use std::fs;

use foretide::store::learned::{LEARNED_FILE, load, save};
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::cost::reservoir::Sample;
use foretide_predictor::cost::table::KeyTable;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;

fn learned() -> LearnedCosts {
    let table = KeyTable::new(64);
    let query = CostQuery::new(RouteId(0), 7, 9);
    let at = Timestamp::from_us(1_000_000);
    table.observe(&query, 12_000.0, at);
    let row = Sample { at, query, features: table.features(&query, at), work_us: 12_000.0 };
    LearnedCosts { table: table.snapshot(), rows: vec![row; 3], model: None, gates: Vec::new() }
}

#[test]
fn what_was_saved_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("made/on/demand");
    let (nothing, notices) = load(&inside);
    assert!(nothing.is_none() && notices.is_empty(), "a first start is nothing to talk about");
    save(&inside, &learned()).unwrap();
    save(&inside, &learned()).unwrap();
    let (loaded, notices) = load(&inside);
    assert_eq!(notices, []);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.rows, learned().rows);
    assert_eq!(loaded.table, learned().table);
}

#[test]
fn a_damaged_file_is_set_aside_by_name() {
    let directory = tempfile::tempdir().unwrap();
    save(directory.path(), &learned()).unwrap();
    let path = directory.path().join(LEARNED_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let (nothing, notices) = load(directory.path());
    assert!(nothing.is_none());
    assert_eq!(notices.len(), 1);
    assert!(!path.exists());
    let aside = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    assert!(notices[0].0.contains(aside.to_str().unwrap()), "{}", notices[0]);
    assert_eq!(fs::read(aside).unwrap(), bytes);

    save(directory.path(), &learned()).unwrap();
    assert!(load(directory.path()).0.is_some());
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_left() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join(LEARNED_FILE)).unwrap();
    let (nothing, notices) = load(directory.path());
    assert!(nothing.is_none());
    assert_eq!(notices.len(), 1);
    assert!(save(directory.path(), &learned()).is_err());
}
