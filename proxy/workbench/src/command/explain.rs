//! `foretide explain`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_predictor::cost::estimator::{CostPrediction, predict};
use foretide_predictor::cost::table::KeyTable;
use foretide_routing::extract::{CompiledRoutes, RequestFacts};
use serde_json::json;

use crate::command::{ended, now, settings};
use crate::explain::{cost, table};
use crate::request;
use crate::{WorkbenchError, versions};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Predicts with what was saved last in the state_dir (every 30 s while Foretide runs). A decision that was really made carries
its explanation in /api/v1/decisions/ID.
  foretide explain --config foretide.toml --request 'GET /search?rows=2000' --header 'x-tenant: acme'")]
pub struct Args {
    /// Configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "foretide.toml")]
    config: PathBuf,
    /// The request, e.g. 'GET /search?rows=20'.
    #[arg(long, value_name = "REQUEST")]
    request: String,
    /// A header of it, name: value; may be given again.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Its JSON body, for routes that read fields of it.
    #[arg(long, value_name = "JSON")]
    body: Option<String>,
    /// The client's address, for routes that tell consumers by it.
    #[arg(long)]
    client: Option<IpAddr>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Explains. Exit code 2 if the request or the configuration is wrong, or no route takes the request.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    ended(explain(&args))
}

fn explain(args: &Args) -> anyhow::Result<()> {
    let settings = settings(&args.config)?;
    let request = request::parse(&args.request, &args.headers, args.client).map_err(WorkbenchError::Rows)?;
    let routes = CompiledRoutes::compile(&settings.routing);
    let mut facts = routes.extract(&request).ok_or_else(|| {
        WorkbenchError::Rows(format!("no route of {} takes this request", args.config.display()))
    })?;
    if let Some(body) = &args.body {
        routes.read_body(&mut facts, body.as_bytes());
    }
    let path = settings.server.state_dir.join(versions::LEARNED_FILE);
    let learned = versions::read(&path)
        .with_context(|| format!("nothing learned yet? {} cannot be read", path.display()))?;
    let costs = KeyTable::new(settings.routing.learning.key_cells);
    costs.restore(&learned.table);
    let model = learned.model.as_ref().filter(|_| settings.routing.learning.cost_model);
    let prediction = predict(&costs, model, &facts.query, now());
    let explanation = model.map(|model| model.explain(&prediction.features));
    if args.json {
        let estimate = &prediction.estimate;
        let route = &routes.route(facts.route).name;
        println!("{}", json!({ "route": route, "predicted": estimate, "explanation": explanation }));
        return Ok(());
    }
    println!("{}", head(&routes, &facts, &prediction, &learned));
    match &explanation {
        Some(explanation) => println!("\n{}", table(explanation, routes.route(facts.route))),
        None => println!("\nno model serves: running means answer, there is nothing more to explain"),
    }
    Ok(())
}

fn head(
    routes: &CompiledRoutes,
    facts: &RequestFacts,
    prediction: &CostPrediction,
    learned: &LearnedCosts,
) -> String {
    let (estimate, work) = (&prediction.estimate, &prediction.estimate.work_us);
    let version = learned
        .model
        .as_ref()
        .map_or("no model".to_owned(), |model| format!("model {}", model.card().version));
    let named = if facts.consumer_named { "named by the request" } else { "told by its address" };
    format!(
        "route {}, consumer {:016x} ({named}), {version}\nexpected {}, 90 % between {} and {}; class {:?}, answered by {:?}\n\
         the route's typical cost is {}",
        routes.route(facts.route).name,
        facts.query.consumer_key,
        cost(work.mean()),
        cost(work.low()),
        cost(work.high()),
        estimate.class,
        estimate.basis,
        cost(f64::from(prediction.features.route_mean_log()).exp()),
    )
}
