//! `foretide simulate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use foretide_conf::scenario::{self, Scenario};
use foretide_conf::{finding, shipped};
use foretide_loadtest::sim::contest::{self, Standing};
use serde_json::json;

use crate::command::BAD_INPUT;
use crate::command::suite::{self, Suite, Wanted};

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The same seed gives the same digest on every machine; another seed gives another. Shipped scenarios: campaign, unequal,
crash (`foretide simulate campaign --show` prints one to start from).")]
pub struct Args {
    /// Scenario file, or the name of a shipped one.
    #[arg(required_unless_present = "suite")]
    scenario: Option<String>,
    /// Run a table of targets instead of a scenario.
    #[arg(long, value_enum, conflicts_with_all = ["scenario", "seed", "show"])]
    suite: Option<Suite>,
    /// Requests of each of a suite's runs.
    #[arg(long, value_name = "COUNT", requires = "suite", default_value_t = 200_000,
          value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    requests: u32,
    /// Seed instead of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the scenario's text instead of running it.
    #[arg(long)]
    show: bool,
    /// Write tables and scaling decisions as one HTML page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the result as JSON, or write it to this file.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,
}

/// Runs the scenario for each contender.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(scenario) = &args.scenario else {
        let (requests, Args { json, report, .. }) = (args.requests as usize, args);
        return suite::run(&Wanted { requests, json, report });
    };
    let (name, text) = read(scenario)?;
    if args.show {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut scenario = match scenario::parse(&name, &text, |path: &Path| std::fs::read_to_string(path)) {
        Ok((scenario, warnings)) => {
            eprint!("{}", finding::render(&warnings, &text));
            scenario
        }
        Err(findings) => {
            eprint!("{}", finding::render(&findings, &text));
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    eprintln!("scenario {}, seed {}", scenario.name, scenario.seed);
    let standings = contest::run_all(&scenario, |contender| eprintln!("running {contender} …"))?;
    if let Some(report) = &args.report {
        std::fs::write(report, contest::page(&scenario, &standings))
            .with_context(|| format!("cannot write {}", report.display()))?;
    }
    show(&scenario, &standings, args.json.as_ref())?;
    let sound = standings.iter().all(|standing| standing.violations.is_empty());
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(scenario: &str) -> anyhow::Result<(String, String)> {
    if let Some((name, text)) = shipped::SCENARIOS.iter().find(|(name, _)| *name == scenario) {
        return Ok(((*name).to_owned(), (*text).to_owned()));
    }
    let names = shipped::SCENARIOS.map(|(name, _)| name).join(", ");
    let text = std::fs::read_to_string(scenario)
        .with_context(|| format!("cannot read {scenario}; shipped scenarios are {names}"))?;
    Ok((scenario.to_owned(), text))
}

fn show(scenario: &Scenario, standings: &[Standing], json: Option<&Option<PathBuf>>) -> anyhow::Result<()> {
    if let Some(file) = json {
        let result = json!({ "scenario": scenario.name, "seed": scenario.seed, "contenders": standings });
        let Some(file) = file else {
            println!("{}", serde_json::to_string(&result)?);
            return Ok(());
        };
        std::fs::write(file, serde_json::to_string(&result)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    for standing in standings {
        println!("\n{} (digest {})", standing.name, standing.digest);
        for (at, words) in &standing.scaling {
            println!("  {at:>7.1} s  {words}");
        }
        for violation in &standing.violations {
            println!("  BROKEN: {violation}");
        }
    }
    let rows: Vec<_> = standings.iter().map(|s| contest::row(&s.name, &s.figures)).collect();
    println!("\n{}", contest::text_table(&rows));
    Ok(())
}
