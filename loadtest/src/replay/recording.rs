//! Reads a recording of load, plain or gzipped: a series of load over time, or an access log.
//!
//! What it is shows in its first line: a CSV header with `ds,y` or `time,rate`, a `{` (JSON lines), or else a log in
//! the common or combined format. Rows that cannot be read are counted, the first few kept with line and reason, and
//! left out; a recording of nothing but bad rows is the caller's to refuse.
//!
//! Bounded: rows kept, and the length of a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::access_log::{self, LoggedRequest};
use super::series::{self, SeriesColumns, SeriesPoint};

/// Rows kept: a month of seconds, 200 MB at worst. Later ones are counted as not kept.
pub const MOST_ROWS: usize = 2_500_000;

/// A longer line is a bad row.
const LONGEST_LINE: u64 = 64 * 1_024;

/// Bad rows kept with their reasons.
const BAD_ROWS_KEPT: usize = 5;

/// Which good rows to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// Rows to leave out at the start.
    pub from: usize,
    /// Rows to keep at most; `None`: all.
    pub rows: Option<usize>,
}

/// What was recorded, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// Load over time.
    Series(Vec<SeriesPoint>),
    /// Single requests.
    Requests(Vec<LoggedRequest>),
}

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// 1-based line.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// A recording and what was wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The good rows.
    pub recorded: Recorded,
    /// The first bad rows.
    pub bad_rows: Vec<BadRow>,
    /// How many were bad.
    pub bad_row_count: u64,
    /// Good rows beyond [`MOST_ROWS`].
    pub not_kept: u64,
}

/// Reads a file; `.gz` is seen by its content, not its name.
///
/// # Errors
/// The file cannot be read or its compression is broken.
pub fn read_file(path: &Path, range: RowRange) -> io::Result<Recording> {
    read(open(path)?, range)
}

/// Opens a file to be read as text; `.gz` is seen by its content, not its name.
///
/// # Errors
/// The file cannot be read.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let zipped = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if zipped { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
}

/// Reads a recording.
///
/// # Errors
/// The reader's own.
pub fn read(input: impl BufRead, range: RowRange) -> io::Result<Recording> {
    let mut rows = Rows::new(range);
    each_line(input, |number, line| {
        match line {
            Ok(text) => rows.take(number, text),
            Err(reason) => rows.bad(number, reason),
        }
        if rows.full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(rows.recording)
}

/// Hands over each line that is not blank, trimmed, with its 1-based number, until the end or a break; in place of a
/// line that is too long or not UTF-8, the reason. Memory is bounded by the longest line allowed.
///
/// # Errors
/// The reader's own.
pub fn each_line(
    mut input: impl BufRead,
    mut take: impl FnMut(u64, Result<&str, String>) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let given = if read as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            Err(format!("longer than {LONGEST_LINE} bytes"))
        } else {
            std::str::from_utf8(&line).map(str::trim).map_err(|_| "not UTF-8".into())
        };
        if given != Ok("") && take(number, given).is_break() {
            break;
        }
    }
    Ok(())
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (length, ended) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(length);
        if ended {
            return Ok(());
        }
    }
}

/// How a row is written.
enum Format {
    Series(SeriesColumns),
    Json,
    Common,
}

enum Row {
    Point(SeriesPoint),
    Request(LoggedRequest),
}

struct Rows {
    format: Option<Format>,
    range: RowRange,
    good: usize,
    last_us: i64,
    recording: Recording,
}

impl Rows {
    fn new(range: RowRange) -> Self {
        let recorded = Recorded::Requests(Vec::new());
        let recording = Recording { recorded, bad_rows: Vec::new(), bad_row_count: 0, not_kept: 0 };
        Self { format: None, range, good: 0, last_us: i64::MIN, recording }
    }

    fn full(&self) -> bool {
        self.range.rows.is_some_and(|rows| self.good >= self.range.from.saturating_add(rows))
    }

    fn take(&mut self, line: u64, text: &str) {
        let Some(format) = &mut self.format else {
            if let Some(columns) = SeriesColumns::of_header(text) {
                self.recording.recorded = Recorded::Series(Vec::new());
                self.format = Some(Format::Series(columns));
                return;
            }
            self.format = Some(if text.starts_with('{') { Format::Json } else { Format::Common });
            return self.take(line, text);
        };
        let row = match format {
            Format::Series(columns) => series::parse_row(columns, text).map(Row::Point),
            Format::Json => access_log::parse_json(text).map(Row::Request),
            Format::Common => access_log::parse_common(text).map(Row::Request),
        };
        match row {
            Ok(Row::Point(point)) if point.at_us <= self.last_us => {
                self.bad(line, "not later than the row before".into());
            }
            Ok(row) => self.keep(row),
            Err(reason) => self.bad(line, reason),
        }
    }

    fn keep(&mut self, row: Row) {
        self.good += 1;
        if let Row::Point(point) = &row {
            self.last_us = point.at_us;
        }
        if self.good <= self.range.from {
            return;
        }
        match (&mut self.recording.recorded, row) {
            (Recorded::Series(points), Row::Point(point)) if points.len() < MOST_ROWS => points.push(point),
            (Recorded::Requests(requests), Row::Request(request)) if requests.len() < MOST_ROWS => {
                requests.push(request);
            }
            _ => self.recording.not_kept += 1,
        }
    }

    fn bad(&mut self, line: u64, reason: String) {
        self.recording.bad_row_count += 1;
        if self.recording.bad_rows.len() < BAD_ROWS_KEPT {
            self.recording.bad_rows.push(BadRow { line, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ALL: RowRange = RowRange { from: 0, rows: None };

    fn points(recording: &Recording) -> Vec<f64> {
        match &recording.recorded {
            Recorded::Series(points) => points.iter().map(|point| point.load).collect(),
            Recorded::Requests(requests) => panic!("a series, not {requests:?}"),
        }
    }

    #[test]
    fn bad_rows_are_counted_with_their_lines_and_left_out() {
        let text = "unique_id,ds,y\nx,2024-01-01 00:00:00,1\nx,yesterday,2\n\nx,2024-01-01 00:01:00,-3\n\
                    x,2024-01-01 00:02:00,4\nx,2024-01-01 00:01:00,5\n\u{fffd},,\n";
        let recording = read(text.as_bytes(), ALL).unwrap();
        assert_eq!(points(&recording), [1.0, 4.0]);
        let lines: Vec<u64> = recording.bad_rows.iter().map(|row| row.line).collect();
        assert_eq!((lines, recording.bad_row_count), (vec![3, 5, 7, 8], 4));
        assert!(recording.bad_rows[0].reason.contains("yesterday"), "{:?}", recording.bad_rows);
    }

    #[test]
    fn a_range_counts_good_rows() {
        let text = "time,rate\n0,0\n10,1\nbad\n20,2\n30,3\n40,4\n";
        let recording = read(text.as_bytes(), RowRange { from: 1, rows: Some(3) }).unwrap();
        assert_eq!(points(&recording), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn endless_lines_and_other_bytes_are_bad_rows() {
        let mut text = b"{\"time\":1,\"path\":\"/\"}\n".to_vec();
        text.extend(vec![b'x'; 3 * LONGEST_LINE as usize]);
        text.extend(b"\n\xff\xfe\n{\"time\":2,\"path\":\"/b\"}");
        let recording = read(&text[..], ALL).unwrap();
        assert_eq!(recording.bad_rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3]);
        assert!(
            matches!(recording.recorded, Recorded::Requests(requests) if requests[1].path_and_query == "/b")
        );
    }

    #[test]
    fn gzip_is_seen_by_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(&file, flate2::Compression::fast());
        encoder.write_all(b"time,rate\n5,7.5\n").unwrap();
        encoder.finish().unwrap();
        assert_eq!(points(&read_file(file.path(), ALL).unwrap()), [7.5]);
    }
}
