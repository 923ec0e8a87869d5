//! `foretide demo`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use foretide_loadtest::producer::pace::Machine;

use crate::cli::duration;
use crate::cli::logs::{self, LogFormat};
use crate::demo;
use crate::demo::plan::DemoPlan;
use crate::demo::report;

/// Mean requests a second where the machine can carry them: the busiest hour needs all six instances.
const USUAL_RATE_PER_S: f64 = 24.0;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Length of the traffic, e.g. 30s or 5m; a day is a minute, or half of this if shorter.
    #[arg(long, value_parser = duration, default_value = "150s")]
    duration: Duration,
    /// For scripts: free ports instead of 8080 and 9900.
    #[arg(long)]
    headless: bool,
    /// Write charts and figures as one HTML page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the result as one JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// Mean requests a second [default: 24, less on a machine that is too slow for them].
    #[arg(long)]
    rate: Option<f64>,
    /// Seed of traffic and choices.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Where the proxy listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the dashboard is.
    #[arg(long, default_value = "127.0.0.1:9900")]
    admin: SocketAddr,
}

/// Runs it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    logs::start(LogFormat::Text, "warn");
    let metrics = foretide_admin::metrics::install(env!("CARGO_PKG_VERSION"))?;
    let state = StateDir::make()?;
    let port = |address: SocketAddr| if args.headless { SocketAddr::new(address.ip(), 0) } else { address };
    println!("Measuring how fast this machine is …");
    let machine = Machine::measured();
    let plan = DemoPlan {
        duration: args.duration,
        day: DemoPlan::day_of(args.duration),
        rate_per_s: args.rate.unwrap_or(USUAL_RATE_PER_S * machine.traffic_ratio),
        machine,
        seed: args.seed,
        listen: port(args.listen),
        admin: port(args.admin),
        state_dir: state.0.clone(),
        program: std::env::current_exe().context("cannot find this program's own file")?,
    };
    println!("seed {}", plan.seed);
    let outcome = demo::run(plan, metrics, &mut |line| println!("{line}"))?;
    if let Some(file) = &args.report {
        std::fs::write(file, report::page(&outcome))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("report: {}", file.display());
    }
    println!("{}", report::summary(&outcome));
    if args.json {
        println!("{}", report::json(&outcome));
    }
    Ok(ExitCode::SUCCESS)
}

/// State of one run, removed at its end.
struct StateDir(PathBuf);

impl StateDir {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("foretide-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // Left behind, it is a few kilobytes in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
