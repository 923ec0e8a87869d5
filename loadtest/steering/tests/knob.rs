//! `heavy_yields`: light requests gain what heavy ones give.

use foretide_steering::score::Form;
use foretide_steering_lab::policy::{Policy, Steering};
use foretide_steering_lab::run;
use foretide_steering_lab::sizes::{SIX, Sizes};
use foretide_steering_lab::world::{Predictor, World};

const SEEDS: [u64; 3] = [1, 2, 3];

/// Sizes of many kinds: with two kinds only there is hardly anything in between that could yield.
const MANY_SIZES: [&str; 4] = ["pareto1.5", "pareto1.2", "logn1.5", "api"];

/// Mean slowdown, which is of the many light ones, and p99 of latency, which is of the few heavy ones.
fn slowdown_and_tail(sizes: Sizes, seed: u64, heavy_yields: f32) -> (f64, f64) {
    let world = World::unequal(Form::ProcessorSharing, sizes, 1, 0.8).with(60_000, seed);
    let steering =
        Steering { heavy_yields: Some(heavy_yields), ..Steering::gateway(Predictor::LogError(0.6)) };
    let figures = run::run(&world, &world.arrivals(), Policy::Foretide(steering));
    (figures.mean_slowdown, figures.p99_ms)
}

#[test]
fn light_requests_gain_and_the_tail_of_heavy_ones_pays() {
    for (name, sizes) in SIX.into_iter().filter(|(name, _)| MANY_SIZES.contains(name)) {
        let mut tails = Vec::new();
        for seed in SEEDS {
            let (as_it_is, tail) = slowdown_and_tail(sizes, seed, 0.0);
            let (yielding, longer_tail) = slowdown_and_tail(sizes, seed, 4.0);
            println!(
                "{name}, seed {seed}: slowdown {as_it_is:.3} -> {yielding:.3}, p99 {tail:.1} -> {longer_tail:.1} ms"
            );
            assert!(yielding < 0.97 * as_it_is, "{name}, seed {seed}: light requests gain nothing");
            tails.push((longer_tail / tail).ln());
        }
        let tail = (tails.iter().sum::<f64>() / tails.len() as f64).exp();
        assert!((1.0..1.2).contains(&tail), "{name}: heavy requests pay with {tail:.3} times the p99");
    }
}
