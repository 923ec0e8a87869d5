//! The simulator against queueing theory, and against itself.

use foretide_conf::{scenario, shipped};
use foretide_loadtest::sim::{arrivals, contest, run};

const SEED: u64 = 11;

/// One processor-sharing server at 70 % load.
fn one_server(costs: &str) -> String {
    format!(
        r#"
name = "theory"
seed = {SEED}
duration = "40m"

[arrivals]
rate_per_s = 70.0

[[mix]]
route = "all"
consumers = 3
{costs}

[[policies]]
name = "only"
policy = "round-robin"

[config.learning]
step = "10s"
cost_model = false

[[config.routes]]
name = "all"
path_prefix = "/"
pool = "work"

[config.pools.work]
endpoints = ["127.0.0.1:9001"]
concurrency = 1
"#
    )
}

fn mean_ms(text: &str) -> f64 {
    let (scenario, _) = scenario::parse("theory.toml", text, |path| std::fs::read_to_string(path))
        .unwrap_or_else(|findings| panic!("{findings:?}"));
    let world = arrivals::world(&scenario, &scenario.contenders[0]).expect("a sound scenario");
    let outcome = run::run(&world);
    assert_eq!(outcome.violations, vec![]);
    assert_eq!(outcome.figures.errors, 0);
    outcome.mean_ms
}

/// M/G/1 processor sharing: E[T] = E[S] / (1 - rho), whatever the distribution of S (insensitivity). 10 ms of work at
/// 70 a second: 33.3 ms. About 168,000 requests leave a standard error of about 2 %.
#[test]
fn mean_response_time_depends_on_mean_work_only() {
    println!("seed {SEED}");
    let expected = 10.0 / (1.0 - 0.7);
    for costs in [
        "distribution = \"constant\"\nmean_ms = 10.0",
        "distribution = \"lognormal\"\nmean_ms = 10.0\nsigma = 1.0",
        "distribution = \"bimodal\"\nlight_ms = 5.0\nheavy_ms = 105.0\nheavy_ratio = 0.05",
    ] {
        let mean = mean_ms(&one_server(costs));
        println!("{costs}: {mean:.2} ms, theory {expected:.2} ms");
        assert!((mean / expected - 1.0).abs() < 0.06, "{costs}: {mean} ms, expected {expected}");
    }
}

#[test]
fn shipped_scenarios_are_sound_and_depend_on_nothing_but_their_seed() {
    for (name, text) in shipped::SCENARIOS {
        let (mut scenario, _) = scenario::parse(name, text, |path| std::fs::read_to_string(path))
            .unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
        scenario.duration = scenario.duration.min(std::time::Duration::from_secs(60));
        let digests = |scenario: &scenario::Scenario| {
            let standings = contest::run_all(scenario, |_| {}).expect("runs");
            for standing in &standings {
                assert_eq!(standing.violations, Vec::<String>::new(), "{name}, {}", standing.name);
                assert!(standing.figures.requests > 100, "{name}: {}", standing.figures.requests);
            }
            standings.into_iter().map(|standing| standing.digest).collect::<Vec<_>>()
        };
        let first = digests(&scenario);
        assert_eq!(first, digests(&scenario), "{name}: the same seed");
        scenario.seed += 1;
        assert_ne!(first, digests(&scenario), "{name}: another seed");
        println!("{name}: seed {} digests {first:?}", scenario.seed - 1);
    }
}
