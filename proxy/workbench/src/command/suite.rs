//! `foretide simulate --suite steering`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use foretide_steering_lab::suite::cells::{Cells, Setting};
use foretide_steering_lab::suite::{self, Row, report, targets};

use crate::command::data;
use crate::words;

/// A table of targets that the simulator measures.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Suite {
    /// Selection, queueing and admission against the published policies.
    Steering,
}

/// What to run and where to put it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) requests: usize,
    /// Rows as JSON: a file, or standard output without one.
    pub(crate) json: Option<Option<PathBuf>>,
    pub(crate) report: Option<PathBuf>,
}

/// Runs the suite. A target that is missed is an answer, not a failure.
pub(crate) fn run(wanted: &Wanted) -> anyhow::Result<ExitCode> {
    eprintln!(
        "seeds {:?}, {} requests a run; constants found on {}",
        suite::SEEDS,
        wanted.requests,
        suite::TUNED_ON
    );
    let bar = data::bar(0, "simulating");
    let cells = Cells::run(&Setting::ALL, wanted.requests, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let rows = targets::rows(&cells, &Setting::ALL, wanted.requests);
    println!("{}", words::aligned(&Row::HEADS, &rows.iter().map(Row::cells).collect::<Vec<_>>()));
    let met = rows.iter().filter(|row| row.met).count();
    println!("{met} of {} targets met", rows.len());
    if let Some(file) = &wanted.report {
        std::fs::write(file, report::page(&cells, &rows))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    match &wanted.json {
        None => {}
        Some(None) => println!("{}", serde_json::to_string(&rows)?),
        Some(Some(file)) => std::fs::write(file, serde_json::to_string_pretty(&rows)?)
            .with_context(|| format!("cannot write {}", file.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}
