//! From a file to a [`Table`]: CSV, or an access log in the combined, JSON or Envoy format, plain or gzipped.
//!
//! What it is shows in its first line: `{` begins JSON lines, `[` Envoy's format; a line with a `[time]` and a quoted
//! request is combined; everything else is CSV with a header. Rows that cannot be read are counted and left out.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use foretide_loadtest::replay::recording::{each_line, open};

use crate::WorkbenchError;
use crate::logged::{self, Logged, Parse, Record};
use crate::table::Table;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// Common or combined log format of Apache and nginx.
    Combined,
    /// A JSON object a line.
    Json,
    /// Envoy's (and Istio's) default text format.
    Envoy,
}

impl Format {
    /// Whether its columns are ours to name.
    pub fn is_log(self) -> bool {
        self != Self::Csv
    }

    /// How a line of it is read, if it is a log.
    pub(crate) fn parse(self) -> Option<Parse> {
        match self {
            Self::Csv => None,
            Self::Combined => Some(logged::combined),
            Self::Json => Some(logged::json),
            Self::Envoy => Some(logged::envoy),
        }
    }

    /// The one that a file is written in, by its first line.
    pub(crate) fn of_file(path: &Path) -> io::Result<Self> {
        first_line(path).map(|line| Self::of_line(&line))
    }

    fn of_line(line: &str) -> Self {
        match line.as_bytes().first() {
            Some(b'{') => Self::Json,
            Some(b'[') => Self::Envoy,
            _ if logged::combined(line).is_ok() => Self::Combined,
            _ => Self::Csv,
        }
    }
}

/// Reads a file; `format` `None`: as its first line shows; `most`: good rows to read at most.
///
/// # Errors
/// It cannot be read, or has no row.
pub fn read(
    path: &Path,
    format: Option<Format>,
    most: Option<usize>,
) -> Result<(Table, Format), WorkbenchError> {
    let file = path.display().to_string();
    let failed = |source| WorkbenchError::Read { file: file.clone(), source };
    let format = match format {
        Some(format) => format,
        None => Format::of_file(path).map_err(failed)?,
    };
    let most = most.unwrap_or(usize::MAX);
    let table = match format.parse() {
        Some(parse) => read_log(path, parse, most),
        None => read_csv(path, most),
    };
    let table = table.map_err(failed)?;
    if table.rows() == 0 {
        let why = table.bad.first.first().map(|(line, why)| format!("; line {line}: {why}"));
        let why = why.unwrap_or_default();
        return Err(WorkbenchError::Rows(format!(
            "{file} has no row that can be used as {format:?} ({} bad, {} failed requests{why})",
            table.bad.count, table.failed
        )));
    }
    Ok((table, format))
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut first = String::new();
    each_line(open(path)?, |_, line| {
        first = line.unwrap_or_default().to_owned();
        ControlFlow::Break(())
    })?;
    Ok(first)
}

fn read_csv(path: &Path, most: usize) -> io::Result<Table> {
    let mut reader = csv::ReaderBuilder::new().from_reader(open(path)?);
    let header = reader.headers().map_err(io::Error::from)?.clone();
    // A byte order mark would else be part of the first name.
    let mut table = Table::new(header.iter().map(|name| name.trim_start_matches('\u{feff}').trim()));
    let mut record = csv::StringRecord::new();
    for row in 0.. {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(true) if table.rows() >= most => break,
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                table.push((row, line), record.iter().map(str::trim));
            }
            Ok(false) => break,
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(error) => {
                let line = error.position().map_or(line, csv::Position::line);
                table.bad.add(line, bad_record(&error));
            }
        }
    }
    Ok(table)
}

fn bad_record(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".into(),
        _ => error.to_string(),
    }
}

fn read_log(path: &Path, parse: Parse, most: usize) -> io::Result<Table> {
    let mut table = Table::default();
    let mut row = 0;
    each_line(open(path)?, |line, text| {
        match text.and_then(parse).map(Record::fields) {
            Ok(Logged::Done(fields)) => table.push_fields((row, line), &fields),
            Ok(Logged::Failed) => table.failed += 1,
            Err(reason) => table.bad.add(line, reason),
        }
        row += 1;
        if table.rows() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn formats_are_told_by_their_first_line() {
        for (line, format) in [
            ("time,route,cost", Format::Csv),
            (r#"{"time":1,"path":"/"}"#, Format::Json),
            (r#"[2016-04-15T20:17:00.310Z] "GET / HTTP/1.1" 200 - 0 1 2 - "-" "-""#, Format::Envoy),
            (r#"10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 5"#, Format::Combined),
        ] {
            assert_eq!(Format::of_line(line), format, "{line}");
        }
    }

    #[test]
    fn bad_records_are_counted_with_their_line() {
        let file = written("\u{feff}a,b\n1,2\n3\n\"x\ny\",4\n5,6,7\n8,9\n");
        let (table, _) = read(file.path(), None, None).unwrap();
        assert_eq!(table.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((table.rows(), table.bad.count), (3, 2));
        assert_eq!(table.bad.first[0], (3, "1 fields, the header has 2".into()));
        assert_eq!(table.bad.first[1].0, 6);
        assert_eq!((table.cell(0, 1), table.line(1), table.row_in_file(1)), ("x\ny", 4, 2));
        assert_eq!(read(file.path(), None, Some(2)).unwrap().0.rows(), 2);
    }

    #[test]
    fn a_file_without_a_row_says_why() {
        let error = read(written("a,b\n1\n").path(), None, None).unwrap_err();
        assert!(error.to_string().contains("line 2: 1 fields"), "{error}");
        assert!(matches!(read(Path::new("/nowhere"), None, None), Err(WorkbenchError::Read { .. })));
    }
}
