//! The history on a real disk: what is written comes back, and a disk that fails costs rows, not the proxy.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use foretide::store::history::{History, HistoryLimits, HistoryStats};
use foretide_control::io::LoadSample;
use foretide_predictor::time::Timestamp;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn sample(minute: u64, instance: Option<&str>) -> LoadSample {
    LoadSample {
        at: Timestamp::from_us(minute * 60_000_000),
        pool: "shop".to_owned(),
        instance: instance.map(str::to_owned),
        work_rate: minute as f64 / 8.0,
        request_rate: 3.0,
        in_flight: 0.5,
    }
}

fn quick() -> HistoryLimits {
    HistoryLimits { retry_every: Duration::from_millis(20), ..HistoryLimits::default() }
}

/// Waits for the writer's thread; how long is of no interest, only that it happens.
fn until(history: &History, wanted: impl Fn(HistoryStats) -> bool) -> HistoryStats {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !wanted(history.stats()) {
        assert!(Instant::now() < deadline, "still {:?}", history.stats());
        std::thread::park_timeout(Duration::from_millis(5));
    }
    history.stats()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn rows_come_back_after_a_restart_in_order_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let rows = vec![sample(1, None), sample(1, Some("127.0.0.1:9001")), sample(2, None)];
    let (history, notices) = History::open(directory.path(), WEEK).unwrap();
    assert_eq!(notices, []);
    history.append(rows.clone());
    // The last step again, as after a restart within it.
    history.append(vec![sample(2, None)]);
    drop(history);

    let (history, notices) = History::open(directory.path(), WEEK).unwrap();
    assert_eq!(notices, []);
    assert_eq!(history.read_since(Timestamp::ZERO), rows);
    assert_eq!(history.read_since(Timestamp::from_us(60_000_001)), rows[2..]);
}

#[test]
fn rows_older_than_keep_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let (history, _) = History::open(directory.path(), Duration::from_secs(600)).unwrap();
    for minute in 0..300 {
        // More batches than the queue holds: wait for each.
        history.append(vec![sample(minute, None)]);
        until(&history, |stats| stats.written == minute + 1);
    }
    let rows = history.read_since(Timestamp::ZERO);
    assert_eq!(rows.last(), Some(&sample(299, None)));
    assert!(rows.len() >= 10, "kept only {}", rows.len());
    assert!(rows.len() < 100, "kept {}", rows.len());
}

#[test]
fn a_file_that_is_no_database_is_set_aside_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let rubbish = "this is not a database, and long enough to be read as the header of one. ".repeat(100);
    fs::write(directory.path().join("history.sqlite"), &rubbish).unwrap();
    let (history, notices) = History::open(directory.path(), WEEK).unwrap();
    history.append(vec![sample(1, None)]);
    assert_eq!(history.read_since(Timestamp::ZERO), [sample(1, None)]);

    let aside =
        names(directory.path()).into_iter().find(|name| name.starts_with("history.sqlite.broken-")).unwrap();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].0.contains(&aside), "{}", notices[0]);
    assert_eq!(fs::read_to_string(directory.path().join(aside)).unwrap(), rubbish);
}

#[test]
fn a_database_with_overwritten_pages_is_set_aside_with_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.sqlite");
    let (history, _) = History::open(directory.path(), WEEK).unwrap();
    history.append((0..2_000).map(|minute| sample(minute, None)).collect());
    drop(history);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    fs::write(directory.path().join("history.sqlite-wal"), "stale").unwrap();

    let (history, notices) = History::open(directory.path(), WEEK).unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(history.read_since(Timestamp::ZERO), []);
    history.append(vec![sample(1, None)]);
    assert_eq!(history.read_since(Timestamp::ZERO), [sample(1, None)]);
    assert!(!history.stats().degraded);
}

#[test]
fn without_a_usable_file_rows_wait_in_memory_and_are_saved_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    // A directory in the file's place cannot be opened by anyone, not even root.
    let in_the_way = directory.path().join("history.sqlite");
    fs::create_dir(&in_the_way).unwrap();
    fs::write(in_the_way.join("x"), "").unwrap();
    let (history, notices) = History::open_with(directory.path(), WEEK, quick()).unwrap();
    assert_eq!(notices.len(), 1);
    assert!(history.stats().degraded);
    history.append(vec![sample(1, None), sample(2, None)]);
    assert_eq!(history.read_since(Timestamp::ZERO), [sample(1, None), sample(2, None)]);

    fs::remove_dir_all(&in_the_way).unwrap();
    let stats = until(&history, |stats| !stats.degraded);
    assert_eq!((stats.written, stats.dropped), (2, 0));
    history.append(vec![sample(3, None)]);
    assert_eq!(history.read_since(Timestamp::ZERO).len(), 3);
    let said = history.take_notices();
    assert!(said.iter().any(|notice| notice.0.contains("written again")), "{said:?}");
}

#[test]
fn the_ring_is_bounded_and_keeps_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("history.sqlite")).unwrap();
    let limits = HistoryLimits { ring_rows: 10, ..quick() };
    let (history, _) = History::open_with(directory.path(), WEEK, limits).unwrap();
    history.append((0..25).map(|minute| sample(minute, None)).collect());
    let rows = history.read_since(Timestamp::ZERO);
    assert_eq!(rows.len(), 10);
    assert_eq!(rows[0], sample(15, None));
    assert_eq!(history.stats().dropped, 15);
}

#[test]
fn a_full_file_makes_room_by_forgetting_the_oldest() {
    let directory = tempfile::tempdir().unwrap();
    let limits = HistoryLimits { file_bytes: 200_000, ..quick() };
    let (history, _) = History::open_with(directory.path(), WEEK, limits).unwrap();
    for batch in 0..100 {
        history.append((0..200).map(|row| sample(batch * 200 + row, Some("127.0.0.1:9001"))).collect());
        history.read_since(Timestamp::from_us(u64::MAX));
    }
    until(&history, |stats| !stats.degraded);
    let rows = history.read_since(Timestamp::ZERO);
    assert_eq!(rows.last(), Some(&sample(19_999, Some("127.0.0.1:9001"))));
    assert_eq!(history.stats().dropped, 0, "none was lost on the way in");
    assert!(rows.len() < 20_000 && rows.len() > 200, "{} rows", rows.len());
    let size = fs::metadata(directory.path().join("history.sqlite")).unwrap().len();
    assert!(size <= 204_800, "{size} bytes");
}

#[test]
fn numbers_that_are_none_are_refused_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (history, _) = History::open(directory.path(), WEEK).unwrap();
    history.append(vec![LoadSample { work_rate: f64::NAN, ..sample(1, None) }, sample(2, None)]);
    assert_eq!(history.read_since(Timestamp::ZERO), [sample(2, None)]);
    assert_eq!(history.stats().dropped, 1);
}
