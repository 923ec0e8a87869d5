//! `foretide train`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use foretide_predictor::cost::backtest::BacktestSettings;
use foretide_predictor::cost::codec::{self, LearnedCosts};
use foretide_predictor::cost::model::ModelCard;
use foretide_routing::settings::LearningSettings;
use serde::Serialize;

use crate::card::Weight;
use crate::command::data::{self, Columns};
use crate::command::{ended, now, settings};
use crate::dataset::{self, ColumnFacts};
use crate::routed::{self, Routed};
use crate::{WorkbenchError, card, training, versions};

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The model must beat the running means on the newest tenth of the rows, else none is written: the means answer better.
Beside the model its card is written, MODEL.card.json. To put it to service: foretide model promote MODEL --config FILE.

From an access log, as the routes of a configuration see its requests: keys are those of the running proxy.
  foretide train --from access.log.gz --config foretide.toml --out fresh.model
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
    /// Configuration whose state_dir holds the history (else foretide.toml), or whose routes a log's requests take.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
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
    #[serde(flatten)]
    made_of: &'a MadeOf,
    #[serde(flatten)]
    card: &'a ModelCard,
    /// What it looks at: mean factor on cost that each feature made on the rows of its sample, the largest first.
    features: Vec<Weight>,
}

/// Where the rows came from, beyond the file's name.
#[derive(Serialize)]
#[serde(untagged)]
enum MadeOf {
    /// A table by its columns; the factor from the data's unit to the model's microseconds.
    Columns { columns: ColumnFacts, cost_scale: f64 },
    /// A log by a configuration's routes.
    Routes {
        config: String,
        routes: BTreeMap<String, usize>,
        unrouted: usize,
        failed: usize,
        measured: usize,
    },
    /// What a Foretide had kept.
    History {},
}

/// Trains. Exit code 2 if data or columns are wrong, 1 if nothing better than running means comes of it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    ended(match &args.config {
        _ if args.from.as_os_str() == "history" => history(&args),
        Some(config) => log(&args, config),
        None => file(args),
    })
}

/// How the configuration has models trained.
fn as_configured(learning: &LearningSettings) -> BacktestSettings {
    let mut how = BacktestSettings::default();
    (how.key_cells, how.reservoir_rows) = (learning.key_cells, learning.reservoir_rows);
    (how.train.trees, how.train.depth) = (learning.trees, learning.depth);
    how.train.max_rows = learning.reservoir_rows;
    how
}

fn history(args: &Args) -> anyhow::Result<()> {
    let settings = settings(args.config.as_deref().unwrap_or(Path::new("foretide.toml")))?;
    let path = settings.server.state_dir.join(versions::LEARNED_FILE);
    let learned = versions::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let how = as_configured(&settings.routing.learning).train;
    if let Some(model) = &learned.model {
        println!("serving:\n{}\n", card::words(model.card()));
    }
    println!("training on {} rows of {}", learned.rows.len(), path.display());
    let bar = data::bar(0, "training");
    let trained = training::from_history(learned, &how, now()).context("no model was written")?;
    bar.finish_and_clear();
    write(&trained, args, path.display().to_string(), &MadeOf::History {})
}

/// An access log by the routes of a configuration.
fn log(args: &Args, config: &Path) -> anyhow::Result<()> {
    let named = args.columns.named();
    if !named.is_empty() {
        let flags = named.join(", ");
        return Err(WorkbenchError::Columns(vec![format!(
            "{flags}: with --config the routes say what is a consumer and a parameter; leave one of the two out"
        )])
        .into());
    }
    let settings = settings(config)?;
    let reading = data::bar(0, "reading");
    let found = routed::load(&args.from, args.columns.format(), args.columns.rows(), &settings.routing)?;
    reading.finish_and_clear();
    let bar = data::bar(found.rows.len(), "learning, then training");
    let version = versions::kept(&settings.server.state_dir)?.last().map_or(1, |newest| newest + 1);
    let how = as_configured(&settings.routing.learning);
    let learned =
        training::from_rows(&found.rows, &how, (version, now()), |row| bar.set_position(row as u64))
            .context("no model was written")?;
    bar.finish_and_clear();
    let Routed { rows, by_route, unrouted, failed, unnamed, measured, bad } = found;
    let names = settings.routing.routes.iter().map(|route| route.name.clone());
    let routes: BTreeMap<String, usize> = names.zip(by_route).filter(|(_, rows)| *rows > 0).collect();
    println!(
        "{} requests on {} routes; {unrouted} without a route, {failed} failed",
        rows.len(),
        routes.len()
    );
    for (count, what) in [
        (bad.count, "lines cannot be read"),
        (unnamed, "requests name no consumer that their route looks for: told by their address"),
        (
            rows.len() - measured,
            "costs are durations, waiting included; a log of Foretide's own has them without",
        ),
    ] {
        if count > 0 {
            println!("WARNING: {count} {what}");
        }
    }
    let config = config.display().to_string();
    let made_of = MadeOf::Routes { config, routes, unrouted, failed, measured };
    write(&learned, args, args.from.display().to_string(), &made_of)
}

fn file(mut args: Args) -> anyhow::Result<()> {
    let columns = std::mem::take(&mut args.columns);
    let reading = data::bar(0, "reading");
    let set = dataset::load(&columns.source(args.from.clone(), 1.0))?;
    reading.finish_and_clear();
    let bar = data::bar(set.rows.len(), "learning, then training");
    let learned = training::from_rows(&set.rows, &BacktestSettings::default(), (1, now()), |row| {
        bar.set_position(row as u64)
    })
    .context("no model was written")?;
    bar.finish_and_clear();
    for warning in &set.warnings {
        println!("WARNING: {warning}");
    }
    let made_of = MadeOf::Columns { columns: set.columns, cost_scale: set.scale };
    write(&learned, &args, set.file, &made_of)
}

fn write(learned: &LearnedCosts, args: &Args, data: String, made_of: &MadeOf) -> anyhow::Result<()> {
    let model = learned.model.as_ref().context("no model came of it")?;
    let bytes = codec::encode(learned);
    put(&args.out, &bytes)?;
    let json = Card { data, made_of, card: model.card(), features: card::weights(model, &learned.rows) };
    let mut beside = args.out.clone().into_os_string();
    beside.push(".card.json");
    put(Path::new(&beside), serde_json::to_string_pretty(&json)?.as_bytes())?;
    println!("{}\n{}", card::words(model.card()), card::looks_at(&json.features));
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
