//! Offline work with recorded requests: what would Foretide have predicted, had it seen them come?
//!
//! Reads tables and access logs ([`read`]), settles what each column means and refuses those that would leak the answer
//! ([`columns`], [`leak`]), makes requests of them ([`dataset`]), runs the pure library of `predictor`, and renders what
//! came of it as words, JSON and a page. Knows nothing of sockets, engines or stores; the command line is in `foretide`.

pub mod backtest;
pub mod card;
pub mod columns;
pub mod command;
pub mod dataset;
pub mod explain;
pub mod known;
pub mod leak;
mod logged;
mod page;
pub mod read;
pub mod request;
pub mod routed;
pub mod table;
pub mod training;
pub mod versions;
mod words;

use std::io;

use foretide_predictor::cost::backtest::BacktestError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkbenchError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// As the user named it.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// As the user named it.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// Columns are wrong: everything found, at once.
    #[error("{}", .0.join("\n"))]
    Columns(Vec<String>),
    /// Too much of the file cannot be used.
    #[error("{0}")]
    Rows(String),
    /// A configuration is wrong: everything found, at once.
    #[error("{0}")]
    Config(String),
    /// The library refused.
    #[error("{file}: {error}")]
    Backtest {
        /// As the user named it.
        file: String,
        /// Why.
        error: BacktestError,
    },
}

impl WorkbenchError {
    /// Whether the input is to blame rather than the machine.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Write { .. })
    }
}
