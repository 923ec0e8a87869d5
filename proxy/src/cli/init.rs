//! `foretide init`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use foretide_conf::shipped;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write; an existing one is never overwritten.
    #[arg(default_value = "foretide.toml")]
    file: PathBuf,
    /// Write every key with its default instead of the few that matter.
    #[arg(long)]
    full: bool,
}

/// Writes the file.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = if args.full { shipped::REFERENCE } else { shipped::INIT };
    let shown = args.file.display();
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&args.file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {shown}; name another file if that one exists"))?;
    println!("Wrote {shown}. Next: foretide run --config {shown}");
    Ok(ExitCode::SUCCESS)
}
