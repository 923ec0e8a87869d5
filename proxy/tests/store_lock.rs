//! One process per state directory.

use foretide::store::StoreError;
use foretide::store::lock::StateLock;

#[test]
fn a_second_holder_is_refused_with_the_first_ones_name_until_it_lets_go() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("made/on/demand");
    let first = StateLock::take(&inside).unwrap();
    let error = StateLock::take(&inside).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    StateLock::take(&inside).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = StateLock::take(&file.join("state")).unwrap_err();
    assert!(error.to_string().contains("file/state"), "{error}");
}
