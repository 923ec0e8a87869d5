//! From a table to requests in order of arrival, as the library takes them.
//!
//! Times: a number (seconds, milli-, micro- or nanoseconds, told by its size), RFC 3339, `YYYY-MM-DD HH:MM:SS.fraction`,
//! or the access log's. Rows without a time come one a millisecond, in the order of the file. A cost is known at the end
//! of its request, or on arrival where no end is named, and later still by the label delay.
//!
//! The library knows costs as microseconds between 0.01 and an hour. Costs in other units are scaled by a power of ten
//! when those of the learning part do not lie well inside; scores are ratios and logs, and do not notice.

use std::path::Path;
use std::time::Duration;

use foretide_loadtest::replay::moment;
use foretide_predictor::cost::backtest::BacktestRow;
use foretide_predictor::cost::backtest::columns::{ColumnKinds, QueryColumns};
use foretide_predictor::time::Timestamp;

use crate::WorkbenchError;
use crate::columns::{ColumnNames, Columns, settle};
use crate::read::{Format, read};
use crate::table::{BadRows, Table};

/// Between rows without a time.
const ROW_STEP_US: u64 = 1_000;
/// A larger share of bad rows means that the file is not what was said.
const MOST_BAD: f64 = 0.1;
/// Costs of the learning part that need no scaling.
const GOOD_COSTS: std::ops::RangeInclusive<f64> = 0.1..=1e9;
/// Where scaling puts their geometric mean.
const SCALED_MEAN: f64 = 1e4;

/// What to read and what it means.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file.
    pub file: std::path::PathBuf,
    /// How it is written; `None`: as its first line shows.
    pub format: Option<Format>,
    /// Good rows to read at most.
    pub rows: Option<usize>,
    /// Columns.
    pub names: ColumnNames,
    /// From the end of a request until its cost is known.
    pub label_delay: Duration,
    /// Share of the rows that only teaches.
    pub learn_share: f64,
}

/// Requests in order of arrival, and how they were made.
#[derive(Debug)]
pub struct Dataset {
    /// The file as the user named it.
    pub file: String,
    /// How it was written.
    pub format: Format,
    /// The requests; costs times `scale`.
    pub rows: Vec<BacktestRow>,
    /// 0-based row of each in the file.
    pub rows_in_file: Vec<u64>,
    /// Factor on costs.
    pub scale: f64,
    /// What became of the columns.
    pub columns: ColumnFacts,
    /// Rows that could not be used.
    pub bad: BadRows,
    /// Requests that failed.
    pub failed: usize,
    /// Good rows for which there was no room.
    pub not_kept: usize,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// What became of the columns, by name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ColumnFacts {
    /// What is predicted.
    pub target: String,
    /// What is asked.
    pub route: Vec<String>,
    /// Who asks.
    pub source: Option<String>,
    /// Parameters used as numbers.
    pub numbers: Vec<String>,
    /// Parameters used as categories.
    pub categories: Vec<String>,
    /// When requests came; `None`: one a millisecond.
    pub time: Option<String>,
    /// When their costs were known; `None`: on arrival.
    pub end: Option<String>,
    /// Columns that were not used.
    pub unused: Vec<String>,
}

/// One usable row before its query is made.
struct Timed {
    row: usize,
    arrival_us: u64,
    known_us: u64,
    cost: f64,
}

/// Reads a file and makes requests of it.
///
/// # Errors
/// The file cannot be read, columns are wrong, or too many rows are.
pub fn load(source: &Source) -> Result<Dataset, WorkbenchError> {
    let (mut table, format) = read(&source.file, source.format, source.rows)?;
    let learn_rows = (table.rows() as f64 * source.learn_share.clamp(0.0, 1.0)) as usize;
    let settled = settle(&table, format, &source.names, learn_rows)?;
    let mut bad = std::mem::take(&mut table.bad);
    let mut timed = timed(&table, &settled.columns, source.label_delay, &mut bad);
    refuse_if_mostly_bad(&source.file, &bad, timed.len())?;
    timed.sort_by_key(|row| row.arrival_us);
    let learned = &timed[..(timed.len() as f64 * source.learn_share.clamp(0.0, 1.0)) as usize];
    let (scale, kinds) = (scale_of(learned), kinds_of(&table, &settled.columns, learned));
    let rows = timed.iter().map(|row| request(&table, &settled.columns, &kinds, row, scale)).collect();
    let mut warnings = settled.warnings;
    warnings.extend(timing_warning(&settled.columns, source.label_delay));
    Ok(Dataset {
        file: source.file.display().to_string(),
        format,
        rows,
        rows_in_file: timed.iter().map(|row| table.row_in_file(row.row)).collect(),
        scale,
        columns: facts(&table, &settled.columns, &kinds),
        bad,
        failed: table.failed,
        not_kept: table.not_kept,
        warnings,
    })
}

fn timed(table: &Table, columns: &Columns, delay: Duration, bad: &mut BadRows) -> Vec<Timed> {
    let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
    let moment = |column: usize, row: usize| {
        let text = table.cell(column, row);
        let us = moment::parse(text).and_then(|us| u64::try_from(us).ok());
        us.ok_or_else(|| format!("{} {text:?} is no moment", table.name(column)))
    };
    let timed = |row: usize| {
        let text = table.cell(columns.target, row);
        let cost = text.parse::<f64>().ok().filter(|cost| cost.is_finite());
        let cost = cost.ok_or_else(|| format!("{} {text:?} is no number", table.name(columns.target)))?;
        let arrival_us = match columns.time {
            Some(column) => moment(column, row)?,
            None => row as u64 * ROW_STEP_US,
        };
        let end_us = columns.end.map_or(Ok(arrival_us), |column| moment(column, row))?;
        Ok(Timed { row, arrival_us, known_us: end_us.max(arrival_us).saturating_add(delay_us), cost })
    };
    let mut good = Vec::with_capacity(table.rows());
    for row in 0..table.rows() {
        match timed(row) {
            Ok(timed) => good.push(timed),
            Err(reason) => bad.add(table.line(row), reason),
        }
    }
    good
}

/// Too many bad rows: the file is not what was said.
pub(crate) fn refuse_if_mostly_bad(file: &Path, bad: &BadRows, good: usize) -> Result<(), WorkbenchError> {
    if bad.count as f64 <= MOST_BAD * (bad.count + good) as f64 {
        return Ok(());
    }
    let first: Vec<String> = bad.first.iter().map(|(line, why)| format!("  line {line}: {why}")).collect();
    Err(WorkbenchError::Rows(format!(
        "{}: {} of {} rows cannot be used:\n{}\nName the right --target, --time and --end, or the right --format; or \
         clean the file so that at most a tenth is bad.",
        file.display(),
        bad.count,
        bad.count + good,
        first.join("\n")
    )))
}

/// A power of ten by which costs become what the library knows.
fn scale_of(learned: &[Timed]) -> f64 {
    let costs = || learned.iter().map(|row| row.cost).filter(|cost| *cost > 0.0);
    if costs().all(|cost| GOOD_COSTS.contains(&cost)) {
        return 1.0;
    }
    let mean_log = costs().map(f64::log10).sum::<f64>() / costs().count().max(1) as f64;
    10f64.powf((SCALED_MEAN.log10() - mean_log).round())
}

fn kinds_of(table: &Table, columns: &Columns, learned: &[Timed]) -> QueryColumns {
    let mut kinds = ColumnKinds::new(columns.params.len());
    for row in learned {
        kinds.look(columns.params.iter().map(|&column| table.cell(column, row.row)));
    }
    kinds.decide()
}

fn request(table: &Table, columns: &Columns, kinds: &QueryColumns, row: &Timed, scale: f64) -> BacktestRow {
    let cell = |column: usize| table.cell(column, row.row);
    let route: Vec<&str> = columns.route.iter().map(|&column| cell(column)).collect();
    let source = columns.source.map_or("", cell);
    let values = columns.params.iter().map(|&column| cell(column));
    BacktestRow {
        arrival: Timestamp::from_us(row.arrival_us),
        label_known_at: Timestamp::from_us(row.known_us),
        query: kinds.query(&route.join(" "), source, values),
        cost: row.cost * scale,
    }
}

fn timing_warning(columns: &Columns, delay: Duration) -> Option<String> {
    (columns.end.is_none() && delay.is_zero()).then(|| {
        "neither --end nor --label-delay: each cost counts as known when the next request comes, which is optimistic \
         where requests overlap"
            .into()
    })
}

fn facts(table: &Table, columns: &Columns, kinds: &QueryColumns) -> ColumnFacts {
    let name = |column: usize| table.name(column).to_owned();
    let of_kind = |number: bool| {
        let places = (0..columns.params.len()).filter(|&place| kinds.is_number(place) == number);
        places.map(|place| name(columns.params[place])).collect()
    };
    let singles = [columns.source, columns.time, columns.end, Some(columns.target)];
    let used = |column: &usize| {
        columns.route.contains(column) || columns.params.contains(column) || singles.contains(&Some(*column))
    };
    ColumnFacts {
        target: name(columns.target),
        route: columns.route.iter().copied().map(name).collect(),
        source: columns.source.map(name),
        numbers: of_kind(true),
        categories: of_kind(false),
        time: columns.time.map(name),
        end: columns.end.map(name),
        unused: (0..table.names().count()).filter(|column| !used(column)).map(name).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str, names: ColumnNames) -> (tempfile::NamedTempFile, Source) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let source = Source { file: file.path().to_owned(), names, learn_share: 0.6, ..Source::default() };
        (file, source)
    }

    fn names(time: Option<&str>, end: Option<&str>) -> ColumnNames {
        ColumnNames {
            target: Some("cost".into()),
            time: time.map(str::to_owned),
            end: end.map(str::to_owned),
            ..ColumnNames::default()
        }
    }

    #[test]
    fn rows_come_in_order_of_arrival_and_remember_their_place() {
        let text = "at,end,cost\n2023-11-16 18:17:05.0000000,2023-11-16 18:17:06,7\n\
                    2023-11-16 18:17:03.9799600,2023-11-16 18:17:04.5,3\n";
        let (_file, mut source) = source(text, names(Some("at"), Some("end")));
        source.label_delay = Duration::from_secs(1);
        let set = load(&source).unwrap();
        assert_eq!(set.rows_in_file, [1, 0]);
        assert_eq!(set.rows[0].cost, 3.0);
        assert_eq!(set.rows[0].arrival.as_us() % 60_000_000, 3_979_960);
        assert_eq!(set.rows[0].label_known_at.as_us() % 60_000_000, 5_500_000);
    }

    #[test]
    fn small_units_are_scaled_into_what_the_library_knows() {
        let rows: String = (0..100).map(|i| format!("0.00{}\n", i % 9 + 1)).collect();
        let (_file, source) = source(&format!("cost\n{rows}"), names(None, None));
        let set = load(&source).unwrap();
        assert!(set.scale >= 1e6, "{}", set.scale);
        assert!(set.rows.iter().all(|row| (100.0..1e6).contains(&row.cost)));
        assert_eq!(set.rows[1].arrival.as_us(), ROW_STEP_US);
    }

    #[test]
    fn a_few_bad_rows_are_said_and_many_are_an_error() {
        let good = "5\n".repeat(30);
        let (_file, some) = source(&format!("cost\n{good}x\nNaN\n"), names(None, None));
        let set = load(&some).unwrap();
        assert_eq!((set.rows.len(), set.bad.count), (30, 2));
        assert_eq!(set.bad.first[0], (32, "cost \"x\" is no number".into()));
        let (_file, many) = source(&format!("cost\n{good}x\nx\nx\nx\n"), names(None, None));
        let error = load(&many).unwrap_err().to_string();
        assert!(error.contains("4 of 34 rows") && error.contains("line 32"), "{error}");
    }
}
