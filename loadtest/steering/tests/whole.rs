//! Nobody is lost whatever happens, a seed decides everything, and the suite's rows are there.

use foretide_steering::score::Form;
use foretide_steering_lab::policy::{Policy, Steering};
use foretide_steering_lab::run::run;
use foretide_steering_lab::sizes::Sizes;
use foretide_steering_lab::suite::cells::{ALL, Cells, Setting};
use foretide_steering_lab::suite::{SEEDS, report, targets};
use foretide_steering_lab::world::{Burst, Predictor, Replacement, World};

const SEED: u64 = 51;

/// Everything at once: delays, refusals, bursts, replacements, several balancers.
fn rough(form: Form, balancers: usize) -> World {
    World {
        delay_ms: 0.4,
        refusals: 0.05,
        burst: Some(Burst { ratio: 3.0, every_s: 2.0, length_s: 0.3 }),
        replacement: Some(Replacement { every_s: 0.7, factor: 0.3, cold_s: 1.0 }),
        objective_ms: f64::MAX,
        ..World::unequal(form, Sizes::Api, balancers, 0.7).with(20_000, SEED)
    }
}

#[test]
fn every_request_is_answered_and_a_seed_decides_how() {
    println!("seed {SEED}");
    let predictor = Predictor::LogError(0.6);
    for form in [Form::ProcessorSharing, Form::WorkerPool] {
        for (balancers, ours) in [(1, Steering::late(predictor)), (5, Steering::shared(predictor))] {
            let world = rough(form, balancers);
            let arrivals = world.arrivals();
            for policy in ALL.into_iter().chain([Policy::LeastRequestSlowStart, Policy::Foretide(ours)]) {
                let figures = run(&world, &arrivals, policy);
                let what = format!("{form:?}, {balancers} balancers, {}", policy.name());
                assert_eq!((figures.requests, figures.within, figures.refused), (18_000, 1.0, 0.0), "{what}");
                assert!(figures.mean_slowdown >= 1.0 / 1.6 && figures.mean_ms.is_finite(), "{what}");
                assert_eq!(figures, run(&world, &arrivals, policy), "{what}: the same seed");
            }
        }
    }
    let other = rough(Form::WorkerPool, 1).with(20_000, SEED + 1);
    let fleet = rough(Form::WorkerPool, 1);
    assert_ne!(
        run(&other, &other.arrivals(), Policy::P2c),
        run(&fleet, &fleet.arrivals(), Policy::P2c),
        "another seed"
    );
}

/// With 1.5 times the work there is room for, somebody is refused, and those are the heavy ones.
#[test]
fn overload_refuses_few_and_heavy_ones() {
    println!("seed {SEED}");
    let world = World::unequal(Form::WorkerPool, Sizes::Bimodal(0.05), 1, 1.5).with(400_000, SEED);
    let steering = Steering { admission: true, ..Steering::late(Predictor::LogError(0.6)) };
    let figures = run(&world, &world.arrivals(), Policy::Foretide(steering));
    println!("{figures:?}");
    assert!(figures.refused > 0.005 && figures.refused < 0.04, "{}", figures.refused);
    assert!(figures.within > 0.95 && figures.work_within < 0.8, "{figures:?}");
}

#[test]
fn rows_say_what_was_asked_and_what_came() {
    let settings = [Setting::GatewaySharing, Setting::ColdStart];
    let cells = Cells::run(&settings, 2_000, |done, all| assert!(done <= all));
    let rows = targets::rows(&cells, &settings, 2_000);
    let against_best = rows.iter().filter(|row| row.against.starts_with("best of those")).count();
    assert_eq!((against_best, rows.len()), (2, 4 + 2 + 9 + 2));
    for row in &rows {
        assert!(row.ratio.is_finite() && row.ratio > 0.0, "{row:?}");
        assert_eq!((row.met, row.seeds.as_slice()), (row.ratio <= row.target, &SEEDS[..]), "{row:?}");
        assert_eq!(row.by_distribution.len(), 6);
    }
    let page = report::page(&cells, &rows);
    assert!(page.contains("cold starts") && page.contains("prequal_hcl") && page.contains("<svg"));
}
