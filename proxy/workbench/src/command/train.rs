//! `foretide train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use foretide_predictor::cost::backtest::BacktestSettings;
use foretide_predictor::cost::codec::{self, LearnedCosts};
use foretide_predictor::cost::model::ModelCard;
use serde::Serialize;

use crate::command::data::{self, Columns};
use crate::command::{ended, now, settings};
use crate::dataset::{self, ColumnFacts};
use crate::{WorkbenchError, card, training, versions};

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The model must beat the running means on the newest tenth of the rows, else none is written: the means answer better.
Beside the model its card is written, MODEL.card.json. To put it to service: foretide model promote MODEL --config FILE.

From a table, with the columns of `foretide backtest cost` (costs in microseconds, if the model is to be served):
  foretide train --from spans.csv.gz --target dur_us --route svc,op --source caller_svc --params caller_op \\
      --time start_ns --end end_ns --out spans.model
From what a Foretide has learned so far, kept in the state_dir of its configuration:
  foretide train --from history --config foretide.toml --out fresh.model")]
pub struct Args {
    /// Table or access log, or the word `history`.
    #[arg(long, value_name = "FILE|history")]
    from: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// Configuration whose state_dir holds the history.
    #[arg(long, short, value_name = "FILE", default_value = "foretide.toml")]
    config: PathBuf,
    /// Where to write the model.
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
    /// Print the card as one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// What a model is made of, for its card.
#[derive(Serialize)]
struct Card<'a> {
    data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<&'a ColumnFacts>,
    /// Factor from the data's unit to the model's microseconds.
    cost_scale: f64,
    #[serde(flatten)]
    card: &'a ModelCard,
}

/// Trains. Exit code 2 if data or columns are wrong, 1 if nothing better than running means comes of it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    ended(if args.from.as_os_str() == "history" { history(&args) } else { file(args) })
}

fn history(args: &Args) -> anyhow::Result<()> {
    let settings = settings(&args.config)?;
    let path = settings.server.state_dir.join(versions::LEARNED_FILE);
    let learned = versions::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let learning = &settings.routing.learning;
    let mut how = BacktestSettings::default().train;
    (how.trees, how.depth, how.max_rows) = (learning.trees, learning.depth, learning.reservoir_rows);
    if let Some(model) = &learned.model {
        println!("serving:\n{}\n", card::words(model.card()));
    }
    println!("training on {} rows of {}", learned.rows.len(), path.display());
    let bar = data::bar(0, "training");
    let trained = training::from_history(learned, &how, now()).context("no model was written")?;
    bar.finish_and_clear();
    write(&trained, args, path.display().to_string(), None)
}

fn file(mut args: Args) -> anyhow::Result<()> {
    let columns = std::mem::take(&mut args.columns);
    let reading = data::bar(0, "reading");
    let set = dataset::load(&columns.source(args.from.clone(), 1.0))?;
    reading.finish_and_clear();
    let bar = data::bar(set.rows.len(), "learning, then training");
    let learned = training::from_rows(&set.rows, &BacktestSettings::default(), now(), |row| {
        bar.set_position(row as u64)
    })
    .context("no model was written")?;
    bar.finish_and_clear();
    for warning in &set.warnings {
        println!("WARNING: {warning}");
    }
    write(&learned, &args, set.file.clone(), Some((&set.columns, set.scale)))
}

fn write(
    learned: &LearnedCosts,
    args: &Args,
    data: String,
    columns: Option<(&ColumnFacts, f64)>,
) -> anyhow::Result<()> {
    let model = learned.model.as_ref().context("no model came of it")?;
    let bytes = codec::encode(learned);
    put(&args.out, &bytes)?;
    let (columns, cost_scale) = columns.map_or((None, 1.0), |(columns, scale)| (Some(columns), scale));
    let json = Card { data, columns, cost_scale, card: model.card() };
    let mut beside = args.out.clone().into_os_string();
    beside.push(".card.json");
    put(Path::new(&beside), serde_json::to_string_pretty(&json)?.as_bytes())?;
    println!("{}", card::words(model.card()));
    println!("written: {} ({} bytes) and {}", args.out.display(), bytes.len(), Path::new(&beside).display());
    if args.json {
        println!("{}", serde_json::to_string(&json)?);
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), WorkbenchError> {
    std::fs::write(path, bytes)
        .map_err(|source| WorkbenchError::Write { file: path.display().to_string(), source })
}
