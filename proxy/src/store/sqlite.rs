//! The history's file: one table, one row per closed step and series.
//!
//! SQLite because operators can look into it with a tool they have. WAL with `synchronous=NORMAL`: a power cut may take
//! the last rows, never the file; a forecast does not miss a minute.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foretide_control::io::LoadSample;
use foretide_predictor::time::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::Notice;
use super::aside::{set_aside, with_suffix};

/// Name of the file in the state directory.
pub(super) const HISTORY_FILE: &str = "history.sqlite";

/// Layout of the table, kept in SQLite's `user_version`; a file with another one is set aside.
const LAYOUT: i64 = 1;

const PAGE_BYTES: u64 = 4096;

/// Rows in one transaction: about six pages, a millisecond of work.
pub(super) const MAX_BATCH: usize = 256;

/// The least allowed size: below it a batch would not fit into a fifth.
const MIN_PAGES: u64 = 40;

/// An open history file.
#[derive(Debug)]
pub(super) struct HistoryFile {
    connection: Connection,
}

impl HistoryFile {
    /// Opens or makes the file; a damaged one, or one of another layout, is set aside first. `check`: read all of it
    /// for damage (about a second a gigabyte).
    pub(super) fn open(
        directory: &Path,
        max_bytes: u64,
        check: bool,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, rusqlite::Error> {
        let path = directory.join(HISTORY_FILE);
        match Self::open_once(&path, max_bytes, check) {
            Err(error) if is_damage(&error) => {
                notices.push(put_away(&path, &error));
                Self::open_once(&path, max_bytes, false)
            }
            result => result,
        }
    }

    fn open_once(path: &Path, max_bytes: u64, check: bool) -> Result<Self, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_millis(250))?;
        let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 && layout != LAYOUT {
            return Err(damage(format!("layout {layout}, this build reads {LAYOUT}")));
        }
        if check {
            let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(damage(verdict));
            }
        }
        connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
        let pages = (max_bytes / PAGE_BYTES).max(MIN_PAGES);
        connection.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))?;
        connection.execute_batch(&format!(
            "PRAGMA synchronous=NORMAL;
             CREATE TABLE IF NOT EXISTS load (
                 at_us INTEGER NOT NULL,       -- start of the step, Unix microseconds
                 pool TEXT NOT NULL,
                 instance TEXT NOT NULL,       -- address; empty: the whole pool
                 work_rate REAL NOT NULL,      -- seconds of service per second
                 request_rate REAL NOT NULL,   -- per second
                 in_flight REAL NOT NULL,      -- mean number
                 PRIMARY KEY (at_us, pool, instance)
             ) WITHOUT ROWID;
             PRAGMA user_version={LAYOUT};"
        ))?;
        Ok(Self { connection })
    }

    /// Writes rows, at most [`MAX_BATCH`], in one transaction: all or none. A row for a step already there replaces it.
    /// When the file has reached its allowed size, the oldest quarter of the time held makes room.
    pub(super) fn insert(&mut self, rows: &[LoadSample]) -> Result<(), rusqlite::Error> {
        match self.insert_once(rows) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DiskFull) && self.is_at_its_limit()? =>
            {
                self.forget_oldest_quarter()?;
                self.insert_once(rows)
            }
            result => result,
        }
    }

    fn insert_once(&mut self, rows: &[LoadSample]) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        {
            let mut statement =
                transaction.prepare_cached("INSERT OR REPLACE INTO load VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            for row in rows {
                let instance = row.instance.as_deref().unwrap_or("");
                statement.execute(params![
                    to_sql(row.at),
                    row.pool,
                    instance,
                    row.work_rate,
                    row.request_rate,
                    row.in_flight
                ])?;
            }
        }
        transaction.commit()
    }

    /// Forgets what is older.
    pub(super) fn prune(&mut self, before: Timestamp) -> Result<(), rusqlite::Error> {
        self.connection.execute("DELETE FROM load WHERE at_us < ?1", params![to_sql(before)]).map(drop)
    }

    /// Tells our limit from a full disk, for which SQLite has one word. A batch needs fewer pages than the last fifth
    /// of any allowed size has.
    fn is_at_its_limit(&self) -> Result<bool, rusqlite::Error> {
        let number = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let used = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
        Ok(used * 5 >= number("PRAGMA max_page_count")? * 4)
    }

    fn forget_oldest_quarter(&mut self) -> Result<(), rusqlite::Error> {
        let border = "SELECT min(at_us) + (max(at_us) - min(at_us)) / 4 FROM load";
        self.connection.execute(&format!("DELETE FROM load WHERE at_us < ({border})"), []).map(drop)
    }

    /// Rows from `since` on, oldest first.
    pub(super) fn read(&self, since: Timestamp) -> Result<Vec<LoadSample>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT at_us, pool, instance, work_rate, request_rate, in_flight
             FROM load WHERE at_us >= ?1 ORDER BY at_us, pool, instance",
        )?;
        let rows = statement.query_map(params![to_sql(since)], |row| {
            let instance: String = row.get(2)?;
            Ok(LoadSample {
                at: Timestamp::from_us(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0)),
                pool: row.get(1)?,
                instance: (!instance.is_empty()).then_some(instance),
                work_rate: row.get(3)?,
                request_rate: row.get(4)?,
                in_flight: row.get(5)?,
            })
        })?;
        rows.collect()
    }
}

/// Whether the file itself is bad, so that trying again cannot help.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn damage(words: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(words))
}

/// Sets the file aside with its write-ahead log: a log left behind would be replayed into the clean file.
fn put_away(path: &Path, error: &rusqlite::Error) -> Notice {
    let moved: std::io::Result<PathBuf> = set_aside(path).inspect(|name| {
        for suffix in ["-wal", "-shm"] {
            let companion = with_suffix(path, suffix);
            if companion.exists() {
                // Under the new name the damaged database stays whole for those who look into it.
                let _ = std::fs::rename(companion, with_suffix(name, suffix));
            }
        }
    });
    Notice(match moved {
        Ok(name) => {
            format!("history cannot be used ({error}): set aside as {}; starting a clean one", name.display())
        }
        Err(failed) => {
            format!("history in {} cannot be used ({error}) nor be set aside ({failed})", path.display())
        }
    })
}

fn to_sql(at: Timestamp) -> i64 {
    i64::try_from(at.as_us()).unwrap_or(i64::MAX)
}
