//! The binary `foretide`.

use clap::Parser as _;
use foretide::cli::Cli;

/// The default allocator costs Pingora 13 % of its CPU; this one gives most of it back (see ARCHITECTURE.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    foretide::cli::run(Cli::parse())
}
