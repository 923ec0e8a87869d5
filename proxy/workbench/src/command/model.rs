//! `foretide model`: which model serves, which served before, and what was decided.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use foretide_conf::settings::Settings;
use foretide_predictor::cost::model::{CostModel, ModelCard};
use serde::Serialize;

use crate::command::{admin, ended, now, settings};
use crate::versions::{self, Decision};
use crate::{card, words};

/// Arguments of `model`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The last eight models that served are kept in the state_dir. A promoted model serves at once if Foretide runs and its admin
listener answers, else from its next start on; training goes on, and a challenger that beats it takes over.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Models kept, with their scores, and the last decisions.
    List(Where),
    /// The card of one.
    Show {
        /// Version, or a file that `foretide train` wrote; without one, the serving model.
        model: Option<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Put a kept version, or a file that `foretide train` wrote, to service.
    Promote {
        /// Version or file.
        model: String,
        #[command(flatten)]
        place: Where,
    },
    /// Put the version before the serving one to service.
    Rollback(Where),
}

/// Where the models are.
#[derive(Debug, clap::Args)]
struct Where {
    /// Configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "foretide.toml")]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `model list --json` prints.
#[derive(Serialize)]
struct Listed {
    serving: Option<u64>,
    promoted: Option<u64>,
    models: Vec<ModelCard>,
    decisions: Vec<Decision>,
}

/// Does it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    ended(match args.what {
        What::List(place) => list(&place),
        What::Show { model, place } => show(model.as_deref(), &place),
        What::Promote { model, place } => {
            let settings = settings(&place.config)?;
            let chosen = chosen(&model, &settings.server.state_dir)?;
            let is_kept = model.parse::<u64>().is_ok();
            let chosen = if is_kept { chosen } else { newest(chosen, &settings)? };
            promote(&chosen, &settings, "promoted")
        }
        What::Rollback(place) => rollback(&place),
    })
}

fn list(place: &Where) -> anyhow::Result<()> {
    let settings = settings(&place.config)?;
    let dir = &settings.server.state_dir;
    let mut models = Vec::new();
    for version in versions::kept(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        match versions::model_in(&versions::path_of(dir, version)) {
            Ok(model) => models.push(model.card().clone()),
            Err(error) => eprintln!("version {version} cannot be read: {error}"),
        }
    }
    let serving = serving(&settings);
    let promoted = versions::promoted(dir).ok().flatten().map(|model| model.card().clone());
    for card in serving.iter().chain(&promoted) {
        if !models.iter().any(|known| is_same(known, card)) {
            models.push(card.clone());
        }
    }
    let decisions = versions::decisions(dir);
    if place.json {
        let version = |card: Option<ModelCard>| card.map(|card| card.version);
        let (serving, promoted) = (version(serving), version(promoted));
        println!("{}", serde_json::to_string(&Listed { serving, promoted, models, decisions })?);
        return Ok(());
    }
    if models.is_empty() {
        println!("no model yet: running means answer until the first training wins");
    } else {
        print!("{}", table(&models, serving.as_ref(), promoted.as_ref()));
    }
    for decision in &decisions {
        let which = decision.version.map_or(String::new(), |version| format!("  model {version}:"));
        println!("{}{which} {}", card::when(decision.at_us), decision.what);
    }
    Ok(())
}

/// Whether two cards are of one model. Not all they say: a running process says its card as JSON, which rounds.
fn is_same(one: &ModelCard, other: &ModelCard) -> bool {
    (one.version, one.trained_at_us) == (other.version, other.trained_at_us)
}

fn table(models: &[ModelCard], serving: Option<&ModelCard>, promoted: Option<&ModelCard>) -> String {
    let heads = ["version", "trained", "rows", "log-RMSE", "key mean", "route mean", "covered", ""];
    let row = |card: &ModelCard| {
        let state = if promoted.is_some_and(|promoted| is_same(promoted, card)) {
            "promoted, serves from the next start on"
        } else if serving.is_some_and(|serving| is_same(serving, card)) {
            "serving"
        } else {
            ""
        };
        vec![
            card.version.to_string(),
            card::when(card.trained_at_us),
            card.rows.to_string(),
            format!("{:.3}", card.log_rmse),
            format!("{:.3}", card.key_mean_log_rmse),
            format!("{:.3}", card.route_mean_log_rmse),
            format!("{:.3}", card.coverage),
            state.to_owned(),
        ]
    };
    words::aligned(&heads, &models.iter().map(row).collect::<Vec<_>>())
}

fn show(model: Option<&str>, place: &Where) -> anyhow::Result<()> {
    let settings = settings(&place.config)?;
    let card = match model {
        Some(model) => chosen(model, &settings.server.state_dir)?.card().clone(),
        None => serving(&settings).context("no model serves: running means answer")?,
    };
    if place.json {
        println!("{}", serde_json::to_string(&card)?);
    } else {
        println!("{}", card::words(&card));
    }
    Ok(())
}

/// Card of the model in service: as the running process says, else as it was saved last.
fn serving(settings: &Settings) -> Option<ModelCard> {
    let asked = settings.admin.address.and_then(|address| admin::ask(address, "GET", "/api/v1/models").ok());
    if let Some((200, answer)) = asked {
        return serde_json::from_value(answer["cost"]["card"].clone()).ok();
    }
    let saved = versions::model_in(&settings.server.state_dir.join(versions::LEARNED_FILE));
    saved.ok().map(|model| model.card().clone())
}

/// A model by version or by file.
fn chosen(model: &str, state_dir: &Path) -> anyhow::Result<CostModel> {
    let path = match model.parse() {
        Ok(version) => versions::path_of(state_dir, version),
        Err(_) => PathBuf::from(model),
    };
    let there = versions::kept(state_dir).unwrap_or_default().iter().map(u64::to_string).collect::<Vec<_>>();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    versions::model_in(&path).with_context(|| {
        format!("model {model} cannot be read from {}; versions kept: {there}", path.display())
    })
}

/// A model from a file, with a number above all that are kept or serve, so that one can come back to those.
fn newest(model: CostModel, settings: &Settings) -> anyhow::Result<CostModel> {
    let kept = versions::kept(&settings.server.state_dir)?.last().copied();
    let taken = kept.max(serving(settings).map(|card| card.version)).unwrap_or(0);
    let version = model.card().version.max(taken + 1);
    Ok(model.numbered(version))
}

fn rollback(place: &Where) -> anyhow::Result<()> {
    let settings = settings(&place.config)?;
    let dir = &settings.server.state_dir;
    // One that waits for the next start is what would serve.
    let waiting = versions::promoted(dir).ok().flatten().map(|model| model.card().clone());
    let latest = waiting.or_else(|| serving(&settings)).map_or(u64::MAX, |card| card.version);
    let Some(before) = versions::kept(dir)?.into_iter().rev().find(|version| *version < latest) else {
        bail!("no version before the serving one is kept in {}", dir.display());
    };
    let model = versions::model_in(&versions::path_of(dir, before))?;
    promote(&model, &settings, "rolled back to")
}

/// Lays the model where the process takes it from, and asks a running one to take it now.
fn promote(model: &CostModel, settings: &Settings, what: &str) -> anyhow::Result<()> {
    let (dir, version) = (&settings.server.state_dir, model.card().version);
    let put = versions::promote(dir, model).and_then(|()| versions::keep(dir, model));
    put.with_context(|| format!("cannot write to {}", dir.display()))?;
    let at_once = settings.admin.address.map(|address| (address, ask_to_take(address)));
    let effect = match &at_once {
        Some((address, Ok(()))) => format!("in service now, says {address}"),
        Some((address, Err(why))) => format!("takes effect at the next start ({address}: {why})"),
        None => "takes effect at the next start (the admin listener is off)".to_owned(),
    };
    println!("{what} model {version}: {effect}");
    let note =
        Decision { at_us: now().as_us(), version: Some(version), what: format!("{what} by an operator") };
    versions::decided(dir, &note).with_context(|| format!("cannot note it in {}", dir.display()))
}

fn ask_to_take(address: SocketAddr) -> Result<(), String> {
    match admin::ask(address, "POST", "/api/v1/models/promote") {
        Ok((200, _)) => Ok(()),
        Ok((status, answer)) => Err(format!("answers {status}: {answer}")),
        Err(error) => Err(error.to_string()),
    }
}
