//! Models in the state directory: the last few that served, the one that an operator has promoted, what was decided.
//!
//! `models/VERSION.bin` holds a model that served, in the format of the learned state; the oldest go when there are more
//! than eight. `models/promoted.bin` is put there by an operator, whole (written beside and renamed), and taken away
//! by the process that puts it to service: at once if asked, else at its next start. `models/decisions.jsonl` says which
//! challengers took over and which were refused, and why. Losing any of these costs a choice, never the service.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use foretide_predictor::cost::codec::{self, LearnedCosts};
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::cost::table::KeyTable;
use serde::{Deserialize, Serialize};

/// Name of the learned state in the state directory.
pub const LEARNED_FILE: &str = "learned.bin";
/// Models kept: a day of hourly mistakes can be taken back, and they stay below a few megabytes.
const KEPT: usize = 8;
/// Decisions kept.
const DECISIONS_KEPT: usize = 64;
/// A larger file is not ours: a full sample and key table are tens of megabytes.
pub const MAX_BYTES: u64 = 1 << 30;

const FOLDER: &str = "models";
const PROMOTED: &str = "promoted.bin";
const DECISIONS: &str = "decisions.jsonl";

/// What was decided about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When, microseconds since the epoch.
    pub at_us: u64,
    /// About which; `None`: a challenger that got no number.
    pub version: Option<u64>,
    /// What, in words.
    pub what: String,
}

/// Reads a file of learned state or of a model.
///
/// # Errors
/// It cannot be read, or is not whole.
pub fn read(path: &Path) -> io::Result<LearnedCosts> {
    let length = fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes")));
    }
    codec::decode(&fs::read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Writes `bytes` as `directory/name` so that a reader, also one after a crash, sees all of it or none of it.
///
/// # Errors
/// It cannot be written; an old file is then still whole.
pub fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, directory.join(name))) {
        // A half-written file (the disk is full, say) only takes up the space that is missing.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// Keeps a model that serves, and forgets the oldest.
///
/// # Errors
/// It cannot be written.
pub fn keep(state_dir: &Path, model: &CostModel) -> io::Result<()> {
    put(state_dir, &format!("{}.bin", model.card().version), model)?;
    let versions = kept(state_dir)?;
    for version in &versions[..versions.len().saturating_sub(KEPT)] {
        fs::remove_file(path_of(state_dir, *version))?;
    }
    Ok(())
}

/// Versions kept, oldest first.
///
/// # Errors
/// The folder cannot be read; that there is none is no error.
pub fn kept(state_dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(state_dir.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut versions = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        versions.extend(name.to_str().and_then(|name| name.strip_suffix(".bin")?.parse::<u64>().ok()));
    }
    versions.sort_unstable();
    Ok(versions)
}

/// File of a kept version.
pub fn path_of(state_dir: &Path, version: u64) -> PathBuf {
    state_dir.join(FOLDER).join(format!("{version}.bin"))
}

/// The model in a file.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn model_in(path: &Path) -> io::Result<CostModel> {
    let none = || io::Error::new(io::ErrorKind::InvalidData, "there is no model in it");
    read(path)?.model.ok_or_else(none)
}

/// Lays a model where the process will take it from.
///
/// # Errors
/// It cannot be written; nothing has changed then.
pub fn promote(state_dir: &Path, model: &CostModel) -> io::Result<()> {
    put(state_dir, PROMOTED, model)
}

/// The promoted model that no process has taken yet.
///
/// # Errors
/// It is there and cannot be read.
pub fn promoted(state_dir: &Path) -> io::Result<Option<CostModel>> {
    match model_in(&state_dir.join(FOLDER).join(PROMOTED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Takes the promoted model, if there is one, so that it is put to service once.
///
/// # Errors
/// It is there and cannot be read or taken away; it stays.
pub fn take_promoted(state_dir: &Path) -> io::Result<Option<CostModel>> {
    let model = promoted(state_dir)?;
    if model.is_some() {
        fs::remove_file(state_dir.join(FOLDER).join(PROMOTED))?;
    }
    Ok(model)
}

/// Notes a decision; the oldest are forgotten.
///
/// # Errors
/// It cannot be written.
pub fn decided(state_dir: &Path, decision: &Decision) -> io::Result<()> {
    let folder = made(state_dir)?;
    let mut all = decisions(state_dir);
    all.push(decision.clone());
    let newest = &all[all.len().saturating_sub(DECISIONS_KEPT)..];
    let mut text = String::new();
    for decision in newest {
        text += &serde_json::to_string(decision)?;
        text.push('\n');
    }
    write_whole(&folder, DECISIONS, text.as_bytes())
}

/// Decisions noted, oldest first; lines that cannot be read are left out.
pub fn decisions(state_dir: &Path) -> Vec<Decision> {
    let text = fs::read_to_string(state_dir.join(FOLDER).join(DECISIONS)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn put(state_dir: &Path, name: &str, model: &CostModel) -> io::Result<()> {
    let alone = LearnedCosts {
        table: KeyTable::new(1).snapshot(),
        rows: Vec::new(),
        model: Some(model.clone()),
        gates: Vec::new(),
    };
    write_whole(&made(state_dir)?, name, &codec::encode(&alone))
}

fn made(state_dir: &Path) -> io::Result<PathBuf> {
    let folder = state_dir.join(FOLDER);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use foretide_predictor::cost::query::CostQuery;
    use foretide_predictor::cost::reservoir::Sample;
    use foretide_predictor::cost::trainer::train;
    use foretide_predictor::id::RouteId;
    use foretide_predictor::time::Timestamp;

    use super::*;

    fn model(version: u64) -> CostModel {
        let table = KeyTable::new(64);
        let sample = |i: u64| {
            let mut query = CostQuery::new(RouteId(0), 1, 1);
            query.numbers[0] = (1 + i * 7919 % 97) as f32;
            let (at, work_us) = (Timestamp::from_us(i * 1_000), 10.0 * f64::from(query.numbers[0]));
            let features = table.features(&query, at);
            table.observe(&query, work_us, at);
            Sample { at, query, features, work_us }
        };
        let rows: Vec<Sample> = (0..300).map(sample).collect();
        let mut settings = foretide_predictor::cost::backtest::BacktestSettings::default().train;
        (settings.trees, settings.depth) = (3, 3);
        train(&rows, &settings, None, version, Timestamp::from_us(version)).unwrap()
    }

    #[test]
    fn a_bounded_number_of_models_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(kept(directory.path()).unwrap(), [0; 0]);
        for version in 1..=KEPT as u64 + 2 {
            keep(directory.path(), &model(version)).unwrap();
        }
        assert_eq!(kept(directory.path()).unwrap(), (3..=KEPT as u64 + 2).collect::<Vec<_>>());
        let read = model_in(&path_of(directory.path(), 5)).unwrap();
        assert_eq!(read.card(), model(5).card());
    }

    #[test]
    fn a_promoted_model_is_taken_once_and_a_broken_one_stays() {
        let directory = tempfile::tempdir().unwrap();
        assert!(take_promoted(directory.path()).unwrap().is_none());
        promote(directory.path(), &model(7)).unwrap();
        assert_eq!(take_promoted(directory.path()).unwrap().unwrap().card().version, 7);
        assert!(take_promoted(directory.path()).unwrap().is_none());
        let path = directory.path().join(FOLDER).join(PROMOTED);
        fs::write(&path, b"rubbish").unwrap();
        take_promoted(directory.path()).unwrap_err();
        assert!(path.exists());
    }

    #[test]
    fn the_last_decisions_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        for at_us in 0..DECISIONS_KEPT as u64 + 5 {
            decided(directory.path(), &Decision { at_us, version: None, what: "refused".into() }).unwrap();
        }
        let decisions = decisions(directory.path());
        assert_eq!((decisions.len(), decisions[0].at_us), (DECISIONS_KEPT, 5));
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_whole_and_no_rubbish() {
        let directory = tempfile::tempdir().unwrap();
        write_whole(directory.path(), "state", b"old").unwrap();
        // A directory in the way of the temporary file makes the write fail, also for root.
        fs::create_dir(directory.path().join("state.new")).unwrap();
        write_whole(directory.path(), "state", b"new").unwrap_err();
        assert_eq!(fs::read(directory.path().join("state")).unwrap(), b"old");
        fs::remove_dir(directory.path().join("state.new")).unwrap();
        write_whole(directory.path(), "state", b"new").unwrap();
        assert_eq!(fs::read(directory.path().join("state")).unwrap(), b"new");
        assert!(!directory.path().join("state.new").exists());
    }
}
