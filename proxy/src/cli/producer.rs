//! `foretide producer`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use foretide_loadtest::producer::pace::speed_by_port;
use foretide_loadtest::producer::{self, ProducerSettings};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::duration;

/// Arguments of `producer`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Ask it for / to see its endpoints. It serves loopback only.")]
pub struct Args {
    /// Port on 127.0.0.1.
    #[arg(long, default_value_t = 9100)]
    port: u16,
    /// Share of one core, 0.01 to 1, like a container's CPU limit. Of a list, the port picks one in turn.
    #[arg(long, value_delimiter = ',', default_value = "1.0")]
    speed: Vec<f64>,
    /// From the start until it is ready.
    #[arg(long, value_parser = duration, default_value = "1s")]
    cold_start: Duration,
    /// Seed of its data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Report with each answer how busy it is and what the request cost (header endpoint-load-metrics, ORCA).
    #[arg(long)]
    load_report: bool,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let address = SocketAddr::from(([127, 0, 0, 1], args.port));
    let speed = speed_by_port(&args.speed, args.port).clamp(0.01, 1.0);
    let Args { cold_start, seed, load_report, .. } = args;
    let settings = ProducerSettings { address, speed, cold_start, seed, load_report };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopped = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        producer::serve(settings, stopped)
            .await
            .with_context(|| format!("cannot serve on {address}; name another --port"))
    })?;
    Ok(ExitCode::SUCCESS)
}
