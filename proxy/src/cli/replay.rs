//! `foretide replay`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use foretide_loadtest::replay::path_template::PathTemplate;
use foretide_loadtest::replay::plan::Scale;
use foretide_loadtest::replay::recording::RowRange;
use foretide_loadtest::replay::{self, ReplayPlan, ReplaySettings};
use foretide_loadtest::traffic::tally::{TrafficProgress, TrafficSummary};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use crate::cli::duration;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Open loop: requests are sent when their time has come, whether earlier ones were answered or not, and latency counts from
that time. Recordings may be gzipped. Example: World Cup traffic, an hour a minute, at most 50 requests a second:
  foretide replay wc98_1m.csv.gz --target http://127.0.0.1:8080 --from 90000 --rows 120 --speed 60 --peak-rate 50")]
pub struct Args {
    /// Load over time (CSV with columns ds,y or time,rate) or an access log (combined, JSON lines).
    file: PathBuf,
    /// Where to: http://host:port. Loopback only, unless --allow-remote.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    target: String,
    /// Recorded seconds per second.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Share of the recorded requests to send.
    #[arg(long, default_value_t = 1.0, conflicts_with = "peak_rate")]
    scale: f64,
    /// Scale so that the busiest moment has this many requests a second.
    #[arg(long)]
    peak_rate: Option<f64>,
    /// Good rows to leave out at the start.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Good rows to send at most.
    #[arg(long)]
    rows: Option<usize>,
    /// Path to ask where the recording has none, e.g. /search?rows={100..5000}; several take turns at random.
    #[arg(long = "path", value_name = "PATH", value_parser = PathTemplate::parse)]
    paths: Vec<PathTemplate>,
    /// Send methods other than GET and HEAD too.
    #[arg(long)]
    any_method: bool,
    /// Allow a target that is not this machine. Only if you may load it.
    #[arg(long)]
    allow_remote: bool,
    /// A slower request is over its objective.
    #[arg(long, value_parser = duration, default_value = "250ms")]
    objective: Duration,
    /// Seed of arrivals within a row, paths and thinning.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Replays. Exit code 1 if no request got an answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let json = args.json;
    let settings = settings(args);
    let plan = replay::prepare(&settings)?;
    eprintln!("{}", describe(&plan, settings.seed));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let summary = runtime.block_on(async {
        let (progress, seen) = watch::channel(TrafficProgress::default());
        let shown = tokio::spawn(show_progress(seen));
        let summary = replay::replay(plan, &settings, progress).await;
        shown.abort();
        summary
    })?;
    if json {
        println!("{}", json_of(&summary));
    } else {
        println!("{}", words_of(&summary));
    }
    let answered = summary.status_classes.iter().any(|&count| count > 0);
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn settings(args: Args) -> ReplaySettings {
    ReplaySettings {
        file: args.file,
        range: RowRange { from: args.from, rows: args.rows },
        target: args.target,
        allow_remote: args.allow_remote,
        speed: args.speed,
        scale: args.peak_rate.map_or(Scale::Ratio(args.scale), Scale::PeakRate),
        paths: args.paths,
        any_method: args.any_method,
        objective: args.objective,
        seed: args.seed,
    }
}

fn describe(plan: &ReplayPlan, seed: u64) -> String {
    let mut words = format!("{} rows, scale {:.4}, seed {seed}", plan.rows, plan.scale);
    if plan.other_methods > 0 {
        words += &format!("; {} left out for their method (--any-method sends them)", plan.other_methods);
    }
    if plan.bad_row_count > 0 {
        words += &format!("; {} bad rows:", plan.bad_row_count);
        for row in &plan.bad_rows {
            words += &format!("\n  line {}: {}", row.line, row.reason);
        }
    }
    words
}

async fn show_progress(mut seen: watch::Receiver<TrafficProgress>) {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}") {
        bar.set_style(style);
    }
    while seen.changed().await.is_ok() {
        let now = *seen.borrow_and_update();
        bar.set_message(format!("{} sent, {} in flight, {} errors", now.sent, now.in_flight, now.errors));
        bar.tick();
    }
}

fn words_of(summary: &TrafficSummary) -> String {
    let [_, ok, redirected, client, server] = summary.status_classes;
    format!(
        "{} sent: {ok} 2xx, {redirected} 3xx, {client} 4xx, {server} 5xx, {} without an answer ({} of them never sent: too \
         many in flight)\np50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms; {:.2} % over the objective",
        summary.sent,
        summary.errors,
        summary.dropped,
        summary.p50_ms,
        summary.p99_ms,
        summary.p999_ms,
        100.0 * summary.over_objective_ratio
    )
}

fn json_of(summary: &TrafficSummary) -> serde_json::Value {
    serde_json::json!({
        "sent": summary.sent,
        "status_classes": summary.status_classes,
        "errors": summary.errors,
        "dropped": summary.dropped,
        "p50_ms": summary.p50_ms,
        "p99_ms": summary.p99_ms,
        "p999_ms": summary.p999_ms,
        "over_objective_ratio": summary.over_objective_ratio,
    })
}
