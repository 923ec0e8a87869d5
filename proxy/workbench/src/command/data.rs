//! Arguments that name recorded requests and what their columns mean; shared by `backtest` and `train`.

use std::path::PathBuf;
use std::time::Duration;

use crate::columns::ColumnNames;
use crate::dataset::Source;
use crate::read;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::command::duration;

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Format {
    /// As its first line shows.
    #[default]
    Auto,
    /// Comma-separated with a header.
    Csv,
    /// Access log of nginx or Apache, with $request_time or %D at its end.
    Combined,
    /// A JSON object a line: Foretide's own log, or others'.
    Json,
    /// Envoy's default text format, also Istio's.
    Envoy,
}

/// Columns and how to read them.
#[derive(Debug, Default, clap::Args)]
pub struct Columns {
    /// How the file is written; it may be gzipped.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Column to predict. Logs: their duration.
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// Columns that say what is asked. Logs: method and path with numbers and identifiers taken out.
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    route: Vec<String>,
    /// Column that says who asks. Logs: the consumer, user or client.
    #[arg(long, value_name = "COL")]
    source: Option<String>,
    /// Columns of what the request carries, known on arrival. Logs: numbers in the query, bytes received.
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    params: Vec<String>,
    /// Column with the time of arrival: seconds, ms, µs or ns since 1970, RFC 3339, or `2023-11-16 18:17:03.97996`.
    /// Without one, rows come one a millisecond in the order of the file.
    #[arg(long, value_name = "COL")]
    time: Option<String>,
    /// Column with the time of the end. A cost counts from then on, never before.
    #[arg(long, value_name = "COL")]
    end: Option<String>,
    /// From the end (or the arrival, without --end) until a cost is known, e.g. 5s.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    label_delay: Duration,
    /// Columns that are known on arrival although their values look like the target's.
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    known_on_arrival: Vec<String>,
    /// Use only so many rows from the start of the file.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
}

impl Columns {
    /// How the file is written; `None`: as its first line shows.
    pub fn format(&self) -> Option<read::Format> {
        match self.format {
            Format::Auto => None,
            Format::Csv => Some(read::Format::Csv),
            Format::Combined => Some(read::Format::Combined),
            Format::Json => Some(read::Format::Json),
            Format::Envoy => Some(read::Format::Envoy),
        }
    }

    /// Good rows to read at most.
    pub fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// Flags given that say what columns mean.
    pub fn named(&self) -> Vec<&'static str> {
        let given = [
            ("--target", self.target.is_some()),
            ("--route", !self.route.is_empty()),
            ("--source", self.source.is_some()),
            ("--params", !self.params.is_empty()),
            ("--time", self.time.is_some()),
            ("--end", self.end.is_some()),
            ("--label-delay", !self.label_delay.is_zero()),
            ("--known-on-arrival", !self.known_on_arrival.is_empty()),
        ];
        given.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect()
    }

    /// What to read from a file.
    pub fn source(self, file: PathBuf, learn_share: f64) -> Source {
        let format = self.format();
        let names = ColumnNames {
            target: self.target,
            route: self.route,
            source: self.source,
            params: self.params,
            time: self.time,
            end: self.end,
            trust: self.known_on_arrival,
        };
        Source { file, format, rows: self.rows, names, label_delay: self.label_delay, learn_share }
    }
}

/// A bar on a terminal; nothing elsewhere.
pub fn bar(rows: usize, message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(rows as u64).with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
