//! Whether training and swapping a model disturbs requests. `cargo bench -p foretide-routing --bench swap`.
//!
//! One thread extracts, predicts, decides and finishes requests one after another and notes how long each took. Windows come
//! in threes: nobody beside it; a thread beside it that only counts, because two busy processors share caches, power and
//! often a core; and one that trains models on 20,000 rows and publishes tables with them as fast as it can, which
//! is far more often than a proxy does. What is compared is the p99.9 of the last with those of the first two.
//! Both readings of the clock are part of each figure. Needs two processors that nobody else uses.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
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
/// Windows of each kind.
const ROUNDS: usize = 15;
/// Long enough for several trainings.
const WINDOW: Duration = Duration::from_secs(1);
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// What the other thread does.
const NOTHING: u8 = 0;
const COUNTS: u8 = 1;
const TRAINS: u8 = 2;
const OVER: u8 = 3;

/// Nanoseconds by percentile, of a window of each kind.
type Round = [[f64; 3]; 3];

fn main() {
    let shared = ArcSwap::from_pointee(taught());
    let (task, swaps) = (AtomicU8::new(NOTHING), AtomicU64::new(0));
    let heads: Vec<PlainHead> = (0..HEADS).map(fixture::head).collect();
    let mut rounds: Vec<Round> = Vec::with_capacity(ROUNDS);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| work(&task, &shared, &swaps));
        let set = |new: u8| {
            task.store(new, Relaxed);
            other.thread().unpark();
        };
        for _ in 0..ROUNDS {
            rounds.push([NOTHING, COUNTS, TRAINS].map(|new| {
                set(new);
                let spans = window(&shared, &heads);
                PERCENTILES.map(|(_, share)| f64::from(percentile(&spans, share)))
            }));
        }
        set(OVER);
    });
    println!("{} models trained and swapped in; {ROUNDS} rounds; ns a request, medians", swaps.load(Relaxed));
    for (index, (name, _)) in PERCENTILES.into_iter().enumerate() {
        let of = |pick: &dyn Fn(&Round) -> f64| median(rounds.iter().map(pick).collect());
        let [alone, counting, training] = [0, 1, 2].map(|kind: usize| of(&|round| round[kind][index]));
        let [to_alone, to_counting] =
            [0, 1].map(|kind: usize| of(&|round| round[2][index] / round[kind][index]));
        println!(
            "{name:>6}: alone {alone:.0}, beside a thread that counts {counting:.0}, that trains and swaps \
             {training:.0}: {to_alone:.2} and {to_counting:.2} times as much (paired)"
        );
    }
}

/// The other thread: does what it is told until it is over.
fn work(task: &AtomicU8, shared: &ArcSwap<RoutingTable>, swaps: &AtomicU64) {
    loop {
        match task.load(Relaxed) {
            NOTHING => std::thread::park(),
            COUNTS => (0..1_000u64).for_each(|number| {
                black_box(number);
            }),
            TRAINS => {
                shared.store(Arc::new(taught()));
                swaps.fetch_add(1, Relaxed);
            }
            _ => return,
        }
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
