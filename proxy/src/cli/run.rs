//! `foretide run`: the product itself.

use std::path::PathBuf;
use std::process::ExitCode;

use foretide_workbench::command::BAD_INPUT;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::reload::{ConfigFile, log_warnings};
use crate::app::{App, StartOptions};
use crate::cli::logs::{self, LogFormat};
use crate::engine::Shutdown;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Signals: SIGHUP reads the configuration again (so does saving the file); SIGTERM and SIGINT let requests in flight end,
then stop. State (history, learned costs, model) is kept in server.state_dir and is there again after a restart.")]
pub struct Args {
    /// Configuration file; `foretide init` writes one.
    #[arg(long, short, value_name = "FILE", default_value = "foretide.toml")]
    config: PathBuf,
    /// Shape of log lines on standard error.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Level: error, warn, info, debug, trace. RUST_LOG overrides it.
    #[arg(long, default_value = "info")]
    log_level: String,
}

/// Runs until told to stop.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    logs::start(args.log_format, &args.log_level);
    let metrics = foretide_admin::metrics::install(env!("CARGO_PKG_VERSION"))?;
    let config = ConfigFile::Path(args.config);
    let loaded = match config.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error:#}");
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    log_warnings(&loaded);
    let app = App::start(loaded.settings, StartOptions { config, metrics, tap: None })?;
    for address in &app.addresses {
        tracing::info!(%address, "listening");
    }
    if let Some(admin) = app.admin {
        tracing::info!("dashboard and API on http://{admin}/");
    }
    if let Some(agent) = app.agent_check {
        tracing::info!("agent checks on {agent}");
    }
    let watcher = app.reloader.watch();
    if let Err(error) = &watcher {
        tracing::warn!("{error:#}; SIGHUP and POST /api/v1/reload still work");
    }
    app.block_on(until_stopped(&app))?;
    tracing::info!("draining");
    drop(watcher);
    app.stop();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn until_stopped(app: &App) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut drain = app.drain_asked();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = drain.wait_for(|state| matches!(state, Shutdown::Drain)) => return Ok(()),
            _ = hangup.recv() => {
                let reloader = std::sync::Arc::clone(&app.reloader);
                // What came of it is logged there.
                tokio::task::spawn_blocking(move || drop(reloader.reload()));
            }
        }
    }
}
