//! `foretide validate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use foretide_conf::finding::{self, Finding};
use foretide_conf::parse;

use crate::command::BAD_INPUT;

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file.
    file: PathBuf,
    /// Print findings as one JSON array.
    #[arg(long)]
    json: bool,
}

/// Checks and prints every finding.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let name = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {name}"))?;
    let (findings, code) = match parse::parse(&name, &text) {
        Ok((_, warnings)) => (warnings, ExitCode::SUCCESS),
        Err(findings) => (findings, ExitCode::from(BAD_INPUT)),
    };
    if args.json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        print(&name, &text, &findings);
    }
    Ok(code)
}

fn print(name: &str, text: &str, findings: &[Finding]) {
    if findings.is_empty() {
        println!("{name}: good");
    } else {
        print!("{}", finding::render(findings, text));
    }
}
