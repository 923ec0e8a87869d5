//! The command line: one file per command, `--help` that teaches.

pub mod demo;
pub mod healthcheck;
pub mod init;
pub mod logs;
pub mod producer;
pub mod replay;
pub mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use foretide_workbench::command::{backtest, explain, model, simulate, train, validate};

/// A reverse proxy that knows what a request will cost before it forwards it, and what load is coming before it
/// arrives.
#[derive(Debug, Parser)]
#[command(name = "foretide", version, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  foretide demo                      watch it learn costs and start instances before a crowd arrives
  foretide init                      write foretide.toml, small and commented, that runs as it is
  foretide validate foretide.toml    every mistake at once, with what to write instead
  foretide run --config foretide.toml
  foretide simulate campaign         the same controller in virtual time, policies side by side
  foretide backtest cost --data access.log.gz --report cost.html
                                     what it would have known about your own requests

While it runs, open the admin address in a browser, or ask:
  curl -s http://127.0.0.1:9900/api/v1/decisions";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy with a configuration file.
    Run(run::Args),
    /// Show the whole of it on this machine: producers, traffic, proxy, dashboard, and an honest comparison.
    Demo(demo::Args),
    /// Write a small commented configuration that runs as it is.
    Init(init::Args),
    /// Check a configuration; every finding at once. Exit code 2 if it cannot run.
    Validate(validate::Args),
    /// Run a scenario through the same controller and selectors in virtual time, policies side by side.
    Simulate(simulate::Args),
    /// Run the sample producer alone: an HTTP service whose requests do real work of very different cost.
    Producer(producer::Args),
    /// Drive an address with a recorded shape: load over time (CSV) or an access log; open loop.
    Replay(replay::Args),
    /// What would Foretide have predicted, had it seen these requests come? Scores on your own table or access log.
    Backtest(backtest::Args),
    /// Train a cost model offline: on a table, an access log, or what a Foretide has learned; writes it with its card.
    Train(train::Args),
    /// Which cost model serves, which served before; put one to service, or take the last step back.
    Model(model::Args),
    /// Why is a request predicted to cost what it is? Which features moved the prediction, from the saved state.
    Explain(explain::Args),
    /// Ask a running Foretide whether it is ready; for containers. Exit code 1 if it is not.
    Healthcheck(healthcheck::Args),
}

/// Runs a command to its exit code; errors are shown with their whole chain.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Producer(args) => producer::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Backtest(args) => backtest::run(args),
        Command::Train(args) => train::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Model(args) => model::run(args),
        Command::Healthcheck(args) => healthcheck::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Reads durations like `250ms`, `30s`, `5m`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 30s or 5m"))
}
