//! The offline commands: one file each, with its arguments.

mod admin;
pub mod backtest;
pub mod data;
pub mod explain;
pub mod model;
pub mod simulate;
pub mod suite;
pub mod train;
pub mod validate;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foretide_conf::settings::Settings;
use foretide_conf::{finding, parse};
use foretide_predictor::time::Timestamp;

use crate::WorkbenchError;

/// Exit code for input that is wrong: configuration, scenario, arguments (clap uses the same).
pub const BAD_INPUT: u8 = 2;

/// Reads durations like `250ms`, `30s`, `5m`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 30s or 5m"))
}

/// Wrong input is said and ends with its own exit code; other errors are passed on.
fn ended(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    match result {
        Err(error) if error.downcast_ref::<WorkbenchError>().is_some_and(WorkbenchError::is_bad_input) => {
            eprintln!("{error}");
            Ok(ExitCode::from(BAD_INPUT))
        }
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

/// The settings of a configuration file.
fn settings(config: &Path) -> Result<Settings, WorkbenchError> {
    let name = config.display().to_string();
    let text = std::fs::read_to_string(config)
        .map_err(|source| WorkbenchError::Read { file: name.clone(), source })?;
    match parse::parse(&name, &text) {
        Ok((settings, _)) => Ok(settings),
        Err(findings) => Err(WorkbenchError::Config(finding::render(&findings, &text))),
    }
}

/// The wall clock, as the product keeps time.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_us(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
