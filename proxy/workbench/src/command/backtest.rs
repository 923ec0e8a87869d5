//! `foretide backtest`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::command::data::{self, Columns};
use crate::command::ended;
use crate::dataset::{self, Dataset};
use crate::{WorkbenchError, backtest};
use anyhow::Context as _;
use clap::Subcommand;
use foretide_predictor::cost::backtest::BacktestSettings;

/// Arguments of `backtest`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What requests cost, from a table or an access log.
    Cost(Box<CostArgs>),
}

/// Arguments of `backtest cost`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each request is predicted from what was known when it came; its cost is learned only when it was known (--end,
--label-delay). The first part of the rows teaches, the rest is scored as it comes and goes on teaching. The target, the
end and whatever is made from them are refused as features. Beside the model stand the answers to beat: running means.

An access log says itself what its columns mean:
  foretide backtest cost --data access.log.gz --report cost.html
A table must be told:
  foretide backtest cost --data spans.csv.gz --target dur_us --route svc,op --source caller_svc --params caller_op \\
      --time start_ns --end end_ns --json --predictions predictions.csv")]
pub struct CostArgs {
    /// Table or access log, plain or gzipped.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// Share of the rows that only teaches.
    #[arg(long, default_value_t = 0.6, value_parser = share)]
    learn_share: f64,
    /// Write tables and charts as one HTML page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the figures as one JSON object; words go to standard error then.
    #[arg(long)]
    json: bool,
    /// Write each scored prediction: row,actual,mean,log_mean,lo90,hi90,class,actual_class. Rows count from 0.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.05..=0.95).contains(&share) => Ok(share),
        _ => Err("write a share from 0.05 to 0.95".into()),
    }
}

/// Runs it. Exit code 2 if data or columns are wrong.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let What::Cost(args) = args.what;
    ended(cost(*args))
}

fn cost(args: CostArgs) -> anyhow::Result<()> {
    let reading = data::bar(0, "reading");
    let set = dataset::load(&args.columns.source(args.data, args.learn_share))?;
    reading.finish_and_clear();
    let run = scored(&set, args.learn_share, args.predictions.as_deref())?;
    // Whoever asks for JSON pipes it on: words must not be in its way.
    let say = |words: &str| if args.json { eprintln!("{words}") } else { println!("{words}") };
    say(&run.words(&set));
    if let Some(report) = &args.report {
        std::fs::write(report, run.page(&set))
            .with_context(|| format!("cannot write {}", report.display()))?;
        say(&format!("report: {}", report.display()));
    }
    if args.json {
        println!("{}", run.json(&set));
    }
    Ok(())
}

fn scored(
    set: &Dataset,
    learn_share: f64,
    predictions: Option<&std::path::Path>,
) -> Result<backtest::Backtested, WorkbenchError> {
    let bar = data::bar(set.rows.len(), "learning, then scoring");
    let settings = BacktestSettings { learn_share, ..BacktestSettings::default() };
    let run = backtest::run(set, &settings, predictions, |row| bar.set_position(row as u64));
    bar.finish_and_clear();
    run
}
