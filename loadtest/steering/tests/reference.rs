//! The laboratory against the independent figures of reactive policies in `../shared/score/steering`.
//!
//! Rows used: those whose own two seeds agree at p99 within [`STEADY`] (a tolerance means nothing where the reference
//! itself is uncertain by as much), of the policies named below, at 80 % load. `random` and `rr` overload the slow
//! instances and are unstable by nature; there is no `cq_fcfs` among our policies.
//!
//! `bimodal_rare` is left out: 200,000 of its requests last from 5 to 20 s, a few periods of disturbance, whose chance is all
//! they show.
//!
//! P2C and least request leave nothing to interpret and must agree, peak EWMA nearly nothing. Prequal and C3 do (how an instance
//! estimates its latency, what a service time is under processor sharing): ours must not be *weaker* at p99 than the
//! reference's, so that nobody is beaten who was made easy to beat.

use foretide_steering::score::Form;
use foretide_steering_lab::figures::Figures;
use foretide_steering_lab::policy::Policy;
use foretide_steering_lab::run::run;
use foretide_steering_lab::sizes::SIX;
use foretide_steering_lab::world::World;

/// Relative to the workspace's root.
const FILE: &str = "../shared/score/steering/reference.csv";
/// Ratio between the reference's two seeds, at most.
const STEADY: f64 = 1.03;
/// The reference's own numbers.
const REQUESTS: usize = 200_000;
const SEEDS: [u64; 6] = [31, 32, 33, 34, 35, 36];
/// Tolerances at the median and at p99 ...
const MEDIAN: f64 = 0.05;
const P99: f64 = 0.10;
/// ... and at both where the reference's runs are short: four workers an instance serve 200,000 requests in 20 s, which
/// is four periods of disturbance.
const SHORT: f64 = 0.15;
/// These must agree exactly ...
const EXACT: [(&str, Policy); 2] = [("p2c_lr", Policy::P2c), ("lr_full", Policy::LeastRequest)];
/// ... and this one nearly: when an average decays is left to whoever writes it.
const NEARLY: [(&str, Policy); 1] = [("p2c_peak_ewma", Policy::PeakEwma)];
/// These must not be weaker. The reference ran Prequal with a pool of ten.
const INTERPRETED: [(&str, Policy); 2] = [("prequal_hcl", Policy::Prequal(10)), ("c3", Policy::C3)];

#[derive(Debug)]
struct Expected {
    world: World,
    policy: Policy,
    name: String,
    p50_ms: f64,
    p99_ms: f64,
}

fn expected(policies: &[(&str, Policy)]) -> Vec<Expected> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FILE);
    let mut reader =
        csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let records = reader.records().map(|record| record.expect("a row"));
    records
        .filter_map(|row| {
            let number = |column: usize| row[column].parse::<f64>().expect("a number");
            let form = if &row[0] == "ps" { Form::ProcessorSharing } else { Form::WorkerPool };
            let sizes = SIX.iter().find(|(name, _)| *name == &row[1])?.1;
            let (name, policy) = *policies.iter().find(|(name, _)| *name == &row[4])?;
            let used = number(12) <= STEADY && number(3) == 0.8 && &row[1] != "bimodal_rare";
            used.then(|| Expected {
                world: World::unequal(form, sizes, number(2) as usize, number(3)),
                policy,
                name: format!("{} {} {} balancers {name}", &row[0], &row[1], &row[2]),
                p50_ms: number(6),
                p99_ms: number(8),
            })
        })
        .collect()
}

/// Our median and p99 over the reference's, for every row; `wrong` says which are no good.
fn compare(policies: &[(&str, Policy)], seeds: &[u64], wrong: impl Fn(Form, f64, f64) -> bool) {
    println!("seeds {seeds:?}, {REQUESTS} requests");
    let expected = expected(policies);
    assert!(expected.len() >= 5, "only {} rows", expected.len());
    let mut off = Vec::new();
    for Expected { world, policy, name, p50_ms, p99_ms } in &expected {
        let runs: Vec<Figures> = seeds
            .iter()
            .map(|&seed| {
                let world = world.clone().with(REQUESTS, seed);
                run(&world, &world.arrivals(), *policy)
            })
            .collect();
        let mean = |figure: fn(&Figures) -> f64| runs.iter().map(figure).sum::<f64>() / runs.len() as f64;
        let (median, tail) = (mean(|run| run.p50_ms) / p50_ms, mean(|run| run.p99_ms) / p99_ms);
        let words = format!("{name}: median {median:.3}, p99 {tail:.3} of the reference's");
        println!("{words}");
        if wrong(world.form, median, tail) {
            off.push(words);
        }
    }
    assert!(off.is_empty(), "{} of {} rows:\n{}", off.len(), expected.len(), off.join("\n"));
}

#[test]
fn reactive_policies_fare_as_in_the_reference() {
    compare(&EXACT, &SEEDS, |form, median, tail| {
        let (at_median, at_p99) = if form == Form::WorkerPool { (SHORT, SHORT) } else { (MEDIAN, P99) };
        (median - 1.0).abs() > at_median || (tail - 1.0).abs() > at_p99
    });
}

#[test]
fn peak_ewma_fares_nearly_as_in_the_reference() {
    compare(&NEARLY, &SEEDS[..5], |form, median, tail| {
        let at_most = if form == Form::WorkerPool { SHORT } else { P99 };
        (median - 1.0).abs() > at_most || (tail - 1.0).abs() > at_most
    });
}

#[test]
fn nobody_was_made_easy_to_beat() {
    compare(&INTERPRETED, &SEEDS[..2], |_, _, tail| tail > 1.0 + P99);
}
