//! What a decision costs, stage by stage. `cargo bench -p foretide-routing` prints nanoseconds; with `-- --callgrind`
//! instructions, counted by valgrind, which do not depend on the machine's mood; with `-- --gate` it fails when a stage
//! takes more instructions than [`GATES`] allow. CI runs the gate.
//!
//! Real trees (50 of depth 6), a table that knows the consumers, peers of which some fare badly on some instances, and
//! requests that differ from each other. *Idle*: nothing in flight, and as all instances are alike, ties everywhere.
//! *Busy*: more requests in flight than slots on every instance, so that the whole formula is evaluated. *Limited*: as idle, in
//! a pool with a queue, where only instances with a free slot may be chosen. *Seeing*: in a pool that knows what other proxies
//! have in flight, and all instances have more of it than slots.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use fixture::BUILT_AT;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::hash::mix;
use foretide_predictor::peers::PeerTable;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{Attempt, Decision, decide, predict};
use foretide_routing::extract::RequestFacts;
use foretide_routing::extract::head::PlainHead;
use foretide_routing::live::others::PoolSight;
use foretide_routing::live::{Attained, Ticket};
use foretide_routing::select::Selector;
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::{Policy, PoolSettings, QueueSettings};
use foretide_routing::table::{InstanceEntry, PoolTable, RoutingTable};
use foretide_steering::buckets::BUCKETS;
use foretide_steering::sight::Report;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Different requests, asked in turn.
const HEADS: u64 = 512;
/// Requests held on each busy instance, more than its four slots.
const HELD: usize = 6;
/// Measured rounds; their median and lower decile are printed. Short ones (a few microseconds), so that on a busy machine
/// most are over before the scheduler takes the processor away, and so that idle instances stay idle.
const ROUNDS: u64 = 4_001;
/// Calls a round.
const CALLS: u64 = 32;
const SIZES: [u32; 4] = [20, 100, 200, 500];
const LOADS: [Load; 4] = [Load::Idle, Load::Busy, Load::Limited, Load::Seeing];
/// Calls of a stage whose instructions are counted.
const COUNTED: u64 = 4_096;
/// A consumer of so many fares badly, on one instance of so many.
const UNLUCKY: (u64, u32) = (5, 7);

/// Instructions that a stage may take, by what is measured. Six per cent above what was measured on x86-64, extraction a tenth: a
/// new compiler, or the same in another folder, moves counts by a few per cent, an accident (a division or a hash for every
/// instance, a copy of the prediction) by more. Above 128 instances a decision may not take more than with 100; with 500
/// it takes more than with 200 mostly because more instances share a bit of the peers' notes.
const GATES: [Gate; 8] = [
    Gate { stage: Stage::Extract, load: Load::Idle, size: 20, most: 2_400 },
    Gate { stage: Stage::Predict, load: Load::Idle, size: 20, most: 3_670 },
    Gate { stage: Stage::Decide, load: Load::Idle, size: 20, most: 1_680 },
    Gate { stage: Stage::Decide, load: Load::Limited, size: 20, most: 1_845 },
    Gate { stage: Stage::Decide, load: Load::Seeing, size: 20, most: 3_040 },
    Gate { stage: Stage::Decide, load: Load::Busy, size: 20, most: 2_205 },
    Gate { stage: Stage::Decide, load: Load::Busy, size: 100, most: 7_980 },
    Gate { stage: Stage::Decide, load: Load::Busy, size: 200, most: 7_010 },
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    Idle,
    Busy,
    Limited,
    Seeing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Extract,
    Predict,
    Decide,
    Finish,
}

struct Gate {
    stage: Stage,
    load: Load,
    size: u32,
    most: u64,
}

struct Setting {
    table: RoutingTable,
    heads: Vec<PlainHead>,
    _held: Vec<Ticket>,
}

impl Setting {
    fn new(size: u32, load: Load, rows: u64) -> Self {
        let mut table = fixture::table(Policy::Predictive, fixture::instances(size));
        fixture::teach(&mut table, rows);
        match load {
            Load::Limited => limit(&mut table.pools[0]),
            Load::Seeing => table.pools[0].sight = Some(Arc::new(sight(&table.pools[0].instances))),
            Load::Idle | Load::Busy => (),
        }
        let heads: Vec<PlainHead> = (0..HEADS).map(fixture::head).collect();
        table.peers = Arc::new(peers(&table, &heads));
        let entries = &table.pools[0].instances;
        let hold = |number: usize| {
            let entry = &entries[number % entries.len()];
            let work_us = (mix(number as u64) % 60_000) as f64;
            entry.live.set_speed_residual(0.01 * (number % 7) as f32, 0.5);
            Ticket::take(&entry.live, work_us, entry.concurrency, BUILT_AT)
        };
        let held = if load == Load::Busy { HELD * entries.len() } else { 0 };
        let held = (0..held).map(hold).collect();
        Self { heads, table, _held: held }
    }

    #[inline(never)]
    fn extract(&self, number: u64) -> RequestFacts {
        let head = black_box(&self.heads[(number % HEADS) as usize]);
        self.table.routes.extract(head).expect("routed")
    }

    #[inline(never)]
    fn predict(&self, facts: &RequestFacts, number: u64) -> CostPrediction {
        predict(&self.table, black_box(facts), at(number))
    }

    #[inline(never)]
    fn decide(
        &self,
        facts: &RequestFacts,
        prediction: &CostPrediction,
        number: u64,
    ) -> Option<(Decision, Ticket)> {
        let attempt =
            Attempt { tried: &[], id: number, chance: mix(number), wish: Wish::default(), now: at(number) };
        decide(&self.table, &self.table.pools[0], black_box(facts), black_box(prediction), attempt)
    }
}

/// Gives a pool a queue.
fn limit(pool: &mut PoolTable) {
    let mut settings = PoolSettings::clone(&pool.settings);
    settings.queue = Some(QueueSettings { limit: 100, timeout: Duration::from_secs(1) });
    pool.selector = Selector::new(&settings, pool.form, &pool.instances, TierWeights::START, None);
    pool.settings = Arc::new(settings);
}

/// Everybody has said the same.
fn sight(instances: &[InstanceEntry]) -> PoolSight {
    let sight = PoolSight::new(Duration::from_secs(1));
    let report = Report { counts: [1; BUCKETS], residual: Some(0.1) };
    instances.iter().for_each(|entry| sight.hear(&entry.live, &report, instances.len(), BUILT_AT));
    sight
}

/// All consumers are known everywhere, a little noisy as in life, and a few of them fare badly on a few instances.
fn peers(table: &RoutingTable, heads: &[PlainHead]) -> PeerTable {
    let peers = PeerTable::new(1 << 15);
    for (number, head) in (0u64..).zip(&heads[..40]) {
        let consumer = table.routes.extract(head).expect("routed").query.consumer_key;
        for entry in &table.pools[0].instances {
            let unlucky = number % UNLUCKY.0 == 0 && entry.id.0 % UNLUCKY.1 == number as u32 % UNLUCKY.1;
            for sample in 0..12 {
                let noise = (mix(number << 40 | u64::from(entry.id.0) << 8 | sample) >> 40) as f64
                    / (1u64 << 24) as f64;
                let residual = noise - 0.5 + f64::from(u8::from(unlucky));
                peers.observe(consumer, entry.id, residual, false, BUILT_AT);
            }
        }
    }
    peers.refresh_notes();
    peers
}

#[inline(never)]
fn finish(ticket: Ticket, number: u64) -> Attained {
    ticket.finish(at(number + 1))
}

fn at(number: u64) -> Timestamp {
    BUILT_AT.plus(Duration::from_micros(number % 1_000_000))
}

/// Nanoseconds of one call of each stage, one row a round.
fn round(setting: &Setting, round: u64) -> [f64; 4] {
    let numbers = || round * CALLS..(round + 1) * CALLS;
    let mut spans = [0.0; 4];
    let mut facts = Vec::with_capacity(CALLS as usize);
    let mut predictions = Vec::with_capacity(CALLS as usize);
    let mut tickets = Vec::with_capacity(CALLS as usize);
    let timed = |span: &mut f64, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        *span = start.elapsed().as_nanos() as f64 / CALLS as f64;
    };
    timed(&mut spans[0], &mut || facts.extend(numbers().map(|number| setting.extract(number))));
    timed(&mut spans[1], &mut || {
        predictions.extend(facts.iter().zip(numbers()).map(|(facts, number)| setting.predict(facts, number)));
    });
    timed(&mut spans[2], &mut || {
        let asked = facts.iter().zip(&predictions).zip(numbers());
        tickets.extend(asked.map(|((facts, prediction), number)| {
            let (_, ticket) = black_box(setting.decide(facts, prediction, number)).expect("instances");
            ticket
        }));
    });
    timed(&mut spans[3], &mut || {
        tickets.drain(..).zip(numbers()).for_each(|(ticket, number)| {
            black_box(finish(ticket, number));
        });
    });
    spans
}

fn time() {
    println!("ns a request: median (lower decile) of {ROUNDS} rounds");
    println!(
        "{:>10} {:>7} {:>13} {:>13} {:>13} {:>13}",
        "instances", "load", "extract", "predict", "decide", "finish"
    );
    for (size, load) in SIZES.into_iter().flat_map(|size| LOADS.map(|load| (size, load))) {
        let setting = Setting::new(size, load, 5_000);
        let rounds: Vec<[f64; 4]> = (0..ROUNDS).map(|number| round(&setting, number)).collect();
        let columns: [String; 4] = std::array::from_fn(|stage| {
            let mut spans: Vec<f64> = rounds.iter().map(|spans| spans[stage]).collect();
            spans.sort_by(f64::total_cmp);
            format!("{:.0} ({:.0})", spans[spans.len() / 2], spans[spans.len() / 10])
        });
        let [extract, predict, decide, finish] = columns;
        println!("{size:>10} {load:>7?} {extract:>13} {predict:>13} {decide:>13} {finish:>13}");
    }
}

/// What runs below valgrind: every stage so many times; only the function of one stage is counted.
fn run(size: u32, load: Load) {
    let setting = Setting::new(size, load, 500);
    for number in 0..COUNTED {
        let facts = setting.extract(number);
        let prediction = setting.predict(&facts, number);
        let (_, ticket) = black_box(setting.decide(&facts, &prediction, number)).expect("instances");
        black_box(finish(ticket, number));
    }
}

/// Instructions of one call of a stage, counted by callgrind.
fn instructions(stage: Stage, size: u32, load: Load) -> Result<u64, String> {
    let function = match stage {
        Stage::Extract => "decision::Setting::extract",
        Stage::Predict => "decision::Setting::predict",
        Stage::Decide => "decision::Setting::decide",
        Stage::Finish => "decision::finish",
    };
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={function}*"))
        .arg(program)
        .args(["--run".to_owned(), size.to_string(), format!("{load:?}")])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split("Collected :").nth(1));
    let count: Option<u64> = collected.and_then(|count| count.trim().parse().ok());
    count.filter(|&count| count > 0).map(|count| count / COUNTED).ok_or(format!("valgrind said: {text}"))
}

fn count() -> Result<(), String> {
    println!("instructions a request");
    for stage in [Stage::Extract, Stage::Predict, Stage::Finish] {
        println!("{stage:?}: {}", instructions(stage, SIZES[0], Load::Busy)?);
    }
    for (size, load) in SIZES.into_iter().flat_map(|size| LOADS.map(|load| (size, load))) {
        println!("Decide, {size} {load:?} instances: {}", instructions(Stage::Decide, size, load)?);
    }
    Ok(())
}

fn gate() -> Result<(), String> {
    let mut too_expensive = Vec::new();
    for Gate { stage, load, size, most } in GATES {
        let found = instructions(stage, size, load)?;
        println!("{stage:?}, {size} {load:?} instances: {found} instructions, at most {most}");
        if found > most {
            too_expensive.push(format!("{stage:?}, {size} {load:?} instances"));
        }
    }
    let verdict = format!("too expensive now: {}", too_expensive.join("; "));
    if too_expensive.is_empty() { Ok(()) } else { Err(verdict) }
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--run", size, load, ..] => {
            let size = size.parse().map_err(|error| format!("{size}: {error}"))?;
            let load = LOADS.into_iter().find(|one| format!("{one:?}") == load).ok_or("no such load")?;
            run(size, load);
        }
        ["--callgrind", ..] => count()?,
        ["--gate", ..] => gate()?,
        _ => time(),
    }
    Ok(())
}
