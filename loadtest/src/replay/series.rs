//! Load over time as CSV: `unique_id,ds,y` (load per step) or `time,rate` (load per second), columns in any order,
//! further ones ignored.

use csv::{ReaderBuilder, StringRecord};

use super::moment;

/// Load from one moment to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesPoint {
    /// Start, Unix microseconds.
    pub at_us: i64,
    /// Load in the unit that [`SeriesPoint::per_second`] says; finite, at least 0.
    pub load: f64,
    /// True: a rate per second. False: a count per step.
    pub per_second: bool,
}

/// Where in a row to find what.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SeriesColumns {
    time: usize,
    load: usize,
    per_second: bool,
    name: Option<usize>,
    /// Name of the first row's series; only this one is replayed.
    series: Option<String>,
}

impl SeriesColumns {
    /// Columns of a header line; `None`: not the header of a series.
    pub(super) fn of_header(line: &str) -> Option<Self> {
        let header = fields(line)?;
        let column = |names: &[&str]| {
            header.iter().position(|field| names.contains(&field.trim().to_ascii_lowercase().as_str()))
        };
        let time = column(&["ds", "time", "timestamp", "ts"])?;
        let (load, per_second) = match column(&["rate", "rate_per_s"]) {
            Some(rate) => (rate, true),
            None => (column(&["y", "count", "requests"])?, false),
        };
        Some(Self { time, load, per_second, name: column(&["unique_id"]), series: None })
    }
}

/// Reads a row; the error is a reason to be shown.
pub(super) fn parse_row(columns: &mut SeriesColumns, line: &str) -> Result<SeriesPoint, String> {
    let row = fields(line).ok_or("not CSV")?;
    let field =
        |column: usize| row.get(column).map(str::trim).ok_or_else(|| format!("no column {}", column + 1));
    let time = field(columns.time)?;
    let at_us = moment::parse(time).ok_or_else(|| format!("no moment: {time:?}"))?;
    let load = field(columns.load)?;
    let number = load.parse().ok().filter(|load: &f64| load.is_finite() && *load >= 0.0);
    let number = number.ok_or_else(|| format!("no load: {load:?}"))?;
    if let Some(name) = columns.name {
        let name = field(name)?;
        match &columns.series {
            Some(series) if series != name => return Err(format!("another series: {name:?}")),
            Some(_) => {}
            None => columns.series = Some(name.into()),
        }
    }
    Ok(SeriesPoint { at_us, load: number, per_second: columns.per_second })
}

fn fields(line: &str) -> Option<StringRecord> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    reader.records().next()?.ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_of_series_are_told_from_logs() {
        assert!(SeriesColumns::of_header("unique_id,ds,y").is_some_and(|columns| !columns.per_second));
        assert!(
            SeriesColumns::of_header("Rate, Time")
                .is_some_and(|columns| columns.per_second && columns.load == 0)
        );
        for line in
            ["", "{\"time\":1}", "1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1", "a,b"]
        {
            assert_eq!(SeriesColumns::of_header(line), None, "{line}");
        }
    }

    #[test]
    fn only_the_first_series_is_read() {
        let mut columns = SeriesColumns::of_header("unique_id,ds,y").unwrap();
        assert!(parse_row(&mut columns, "a,2024-01-01 00:00:00,1").is_ok());
        assert!(parse_row(&mut columns, "b,2024-01-01 00:01:00,1").unwrap_err().contains("another series"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(at_s in 1_i64..4_000_000_000, load in 0.0..1e9_f64) {
            let mut columns = SeriesColumns::of_header("time,rate").unwrap();
            let point = parse_row(&mut columns, &format!("{at_s},{load}")).unwrap();
            prop_assert_eq!(point, SeriesPoint { at_us: at_s * 1_000_000, load, per_second: true });
        }

        #[test]
        fn no_row_panics_and_no_load_is_negative(line in "\\PC{0,60}", commas in "[0-9a-z:,. \"+-]{0,40}") {
            for line in [line, commas] {
                let mut columns = SeriesColumns::of_header("ds,y").unwrap();
                if let Ok(point) = parse_row(&mut columns, &line) {
                    prop_assert!(point.load >= 0.0 && point.load.is_finite());
                }
            }
        }
    }
}
