//! A consumer whose requests cost a hundred thousand times what they should, or seem to: what the others are told.
//!
//! Ten consumers ask for the same things on one route; one of them sends a tenth of the traffic and lies, always or now
//! and then, up or down. Everything runs as in production: predictions, judged and learned on completion, with a model
//! trained anew from the sample. The others' predictions are held against those of a world in which nobody lies.

use foretide_predictor::cost::backtest::BacktestSettings;
use foretide_predictor::cost::estimator::predict;
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::cost::reservoir::{Reservoir, Sample};
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::cost::trainer::train;
use foretide_predictor::hash;
use foretide_predictor::id::RouteId;
use foretide_predictor::time::Timestamp;

const CONSUMERS: u64 = 10;
const LIAR: u64 = 0;
const REQUESTS: u64 = 12_000;
const TRAINED_EVERY: u64 = 3_000;
const LIE: f64 = 1e5;
/// Numbers of the first requests of worlds that differ by chance alone: what one of them shows may be luck.
const WORLDS: [u64; 4] = [0, 1_000_000, 2_000_000, 3_000_000];

/// Uniform in 0 to 1, by number and purpose.
fn uniform(i: u64, purpose: u64) -> f64 {
    (hash::pair(i, purpose) >> 11) as f64 / (1u64 << 53) as f64
}

/// About a standard normal: twelve uniforms (Irwin–Hall).
fn normal(i: u64) -> f64 {
    (0..12).map(|k| uniform(i, 100 + k)).sum::<f64>() - 6.0
}

fn query(consumer: u64, size: u64) -> CostQuery {
    let mut query = CostQuery::new(RouteId(0), 7, 1_000 + consumer);
    query.numbers[0] = size as f32;
    query
}

/// What request `i` really costs: by size, consumer, and noise of this spread.
fn honest_cost(consumer: u64, size: u64, spread: f64, i: u64) -> f64 {
    50.0 * size as f64 * (1.0 + 0.2 * consumer as f64) * (spread * normal(i)).exp()
}

struct World {
    table: KeyTable,
    model: Option<CostModel>,
}

/// Lets all requests pass, from number `first` on; `lie(i)`: the factor on the liar's cost. Of every five hundred the last
/// `burst` are the liar's.
fn run(spread: f64, first: u64, lie: impl Fn(u64) -> f64, burst: u64) -> World {
    let mut world = World { table: KeyTable::new(16_384), model: None };
    let mut reservoir = Reservoir::new(5_000, 1);
    let mut settings = BacktestSettings::default().train;
    settings.trees = 20;
    for i in first..first + REQUESTS {
        let at = Timestamp::from_us(i * 10_000);
        let in_burst = i % 500 >= 500 - burst;
        let consumer = if in_burst { LIAR } else { (uniform(i, 1) * CONSUMERS as f64) as u64 };
        let size = 1 << (uniform(i, 2) * 8.0) as u32;
        let asked = query(consumer, size);
        let prediction = predict(&world.table, world.model.as_ref(), &asked, at);
        let factor = if consumer == LIAR { lie(i) } else { 1.0 };
        let work_us = honest_cost(consumer, size, spread, i) * factor;
        let measured = Measured { work_us, bytes: None, censored: false };
        assert!(world.table.complete(&asked, &prediction, &measured, at));
        reservoir.push(Sample { at, query: asked, features: prediction.features, work_us });
        if (i - first) % TRAINED_EVERY == TRAINED_EVERY - 1 {
            let trained = train(&reservoir.rows(), &settings, world.model.as_ref(), i, at);
            world.model = trained.ok().or(world.model);
        }
    }
    world
}

/// Factors by which the others' predictions differ between two worlds, in order.
fn factors(honest: &World, lied: &World, with_model: bool, now: Timestamp) -> Vec<f64> {
    let mean = |world: &World, asked: &CostQuery| {
        let model = world.model.as_ref().filter(|_| with_model);
        predict(&world.table, model, asked, now).estimate.work_us.mean()
    };
    let others = (1..CONSUMERS).flat_map(|consumer| (0..8).map(move |size| query(consumer, 1 << size)));
    let mut factors: Vec<f64> = others.map(|asked| mean(lied, &asked) / mean(honest, &asked)).collect();
    factors.sort_unstable_by(f64::total_cmp);
    factors
}

/// How the liar lies, and how far that may move the others: in the middle, and the one that is moved most.
struct Lie {
    how: &'static str,
    factor: fn(u64) -> f64,
    burst: u64,
    bounds: (f64, f64),
}

#[test]
fn a_liar_with_a_tenth_of_the_traffic_moves_others_by_little() {
    let lies = [
        Lie { how: "always up", factor: |_| LIE, burst: 0, bounds: (1.8, 6.0) },
        Lie {
            how: "now and then up",
            factor: |i| if uniform(i, 9) < 0.2 { LIE } else { 1.0 },
            burst: 0,
            bounds: (1.4, 3.0),
        },
        // Asked right after the last burst.
        Lie {
            how: "in bursts",
            factor: |i| if i % 500 >= 460 { LIE } else { 1.0 },
            burst: 40,
            bounds: (9.0, 10.0),
        },
        Lie { how: "always down", factor: |_| 1.0 / LIE, burst: 0, bounds: (1.2, 2.0) },
        // No lie at all, but other rows, and so other trees: what chance alone moves.
        Lie {
            how: "a tenth either way",
            factor: |i| 0.9 + 0.2 * uniform(i, 3),
            burst: 0,
            bounds: (1.15, 1.6),
        },
    ];
    for (first, spread) in WORLDS.into_iter().flat_map(|first| [0.3, 0.8, 1.3].map(|spread| (first, spread)))
    {
        let honest = run(spread, first, |_| 1.0, 0);
        for Lie { how, factor, burst, bounds } in &lies {
            let lied = run(spread, first, factor, *burst);
            for with_model in [true, false] {
                let now = Timestamp::from_us((first + REQUESTS) * 10_000);
                let factors = factors(&honest, &lied, with_model, now);
                let (low, middle, high) =
                    (factors[0], factors[factors.len() / 2], factors[factors.len() - 1]);
                println!("spread {spread}, {how}, model {with_model}: {low:.2} {middle:.2} {high:.2}");
                assert!(middle.max(1.0 / middle) < bounds.0, "{how}: {middle}");
                assert!(high.max(1.0 / low) < bounds.1, "{how}: {low} to {high}");
            }
        }
    }
}
