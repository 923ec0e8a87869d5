//! Whether training and swapping a model disturbs requests. `cargo bench -p foretide-routing --bench swap`.
//!
//! One thread extracts, predicts, decides and finishes requests one after another and notes how long each took; in every
//! second window another thread trains models on 20,000 rows and publishes tables with them as fast as it can, which
//! is far more often than a proxy does. What is compared is the p99.9 of a disturbed window with that of the quiet one
//! before it. Both readings of the clock are part of each figure. Needs two processors that nobody else uses.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fixture::BUILT_AT;
use foretide_predictor::hash::mix;
use foretide_routing::decide::{Attempt, decide, predict};
use foretide_routing::extract::head::PlainHead;
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::Policy;
use foretide_routing::table::RoutingTable;

const INSTANCES: u32 = 20;
const HEADS: u64 = 512;
/// Rows a model learns from: a full sample.
const ROWS: u64 = 20_000;
/// Pairs of a quiet and a disturbed window.
const PAIRS: usize = 15;
/// Long enough for several trainings.
const WINDOW: Duration = Duration::from_secs(1);

fn main() {
    let shared = ArcSwap::from_pointee(taught());
    let (disturbing, over, swaps) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let heads: Vec<PlainHead> = (0..HEADS).map(fixture::head).collect();
    let mut pairs = Vec::with_capacity(PAIRS);
    std::thread::scope(|scope| {
        let trainer = scope.spawn(|| {
            while !over.load(Relaxed) {
                if disturbing.load(Relaxed) {
                    shared.store(Arc::new(taught()));
                    swaps.fetch_add(1, Relaxed);
                } else {
                    std::thread::park();
                }
            }
        });
        for _ in 0..PAIRS {
            pairs.push([false, true].map(|disturb| {
                disturbing.store(disturb, Relaxed);
                trainer.thread().unpark();
                let spans = window(&shared, &heads);
                [percentile(&spans, 0.5), percentile(&spans, 0.99), percentile(&spans, 0.999)]
            }));
        }
        over.store(true, Relaxed);
        disturbing.store(false, Relaxed);
        trainer.thread().unpark();
    });
    println!(
        "{} models trained and swapped in; {PAIRS} pairs of windows; ns a request, medians",
        swaps.load(Relaxed)
    );
    for (index, name) in ["p50", "p99", "p99.9"].into_iter().enumerate() {
        let of = |pick: &dyn Fn(&[[u32; 3]; 2]) -> f64| median(pairs.iter().map(pick).collect());
        let quiet = of(&|pair| f64::from(pair[0][index]));
        let disturbed = of(&|pair| f64::from(pair[1][index]));
        let ratio = of(&|pair| f64::from(pair[1][index]) / f64::from(pair[0][index]));
        println!("{name:>6}: quiet {quiet:.0}, while training {disturbed:.0}, paired ratio {ratio:.2}");
    }
}

fn taught() -> RoutingTable {
    let mut table = fixture::table(Policy::Predictive, fixture::instances(INSTANCES));
    fixture::teach(&mut table, ROWS);
    table
}

/// Nanoseconds of each request of a window, sorted.
fn window(shared: &ArcSwap<RoutingTable>, heads: &[PlainHead]) -> Vec<u32> {
    let mut spans = Vec::with_capacity(1 << 20);
    let until = Instant::now() + WINDOW;
    for number in 0u64.. {
        let before = Instant::now();
        if before > until {
            break;
        }
        let table = shared.load();
        let facts = table.routes.extract(black_box(&heads[(number % HEADS) as usize])).expect("routed");
        let now = BUILT_AT.plus(Duration::from_micros(number % 1_000_000));
        let prediction = predict(&table, &facts, now);
        let attempt = Attempt { tried: &[], id: number, chance: mix(number), wish: Wish::default(), now };
        let (decision, ticket) =
            decide(&table, &table.pools[0], &facts, &prediction, attempt).expect("instances");
        black_box((decision, ticket.finish(now)));
        drop(table);
        spans.push(u32::try_from(before.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    spans.sort_unstable();
    spans
}

fn percentile(sorted: &[u32], share: f64) -> u32 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
