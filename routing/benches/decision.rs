//! What a decision costs: `cargo bench -p foretide-routing` prints nanoseconds for each stage, and with
//! `-- --callgrind` instructions per decision, counted by valgrind, which do not depend on the machine's mood.
//!
//! Real trees (50 of depth 4), a table that knows the consumers, instances with more requests in flight than slots (so
//! that the whole formula is evaluated), and requests that differ from each other.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use fixture::BUILT_AT;
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::hash::mix;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{Attempt, decide, predict};
use foretide_routing::extract::RequestFacts;
use foretide_routing::extract::head::PlainHead;
use foretide_routing::live::Ticket;
use foretide_routing::settings::Policy;
use foretide_routing::table::RoutingTable;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

/// Different requests, asked in turn.
const HEADS: u64 = 512;
/// Requests held on each instance, more than its four slots.
const HELD: usize = 6;
/// Measured rounds; their median and lower decile are printed. Short ones (a few hundred microseconds), so that on a busy
/// machine most are over before the scheduler takes the processor away.
const ROUNDS: u64 = 1_001;
/// Calls a round.
const CALLS: u64 = 128;
const SIZES: [u32; 4] = [3, 20, 64, 128];
/// Two counts whose difference leaves training and start-up out.
const COUNTED: [u64; 2] = [1_000, 11_000];

struct Setting {
    table: RoutingTable,
    heads: Vec<PlainHead>,
    _held: Vec<Ticket>,
}

impl Setting {
    fn new(instances: u32, rows: u64) -> Self {
        let mut table = fixture::table(Policy::Predictive, fixture::instances(instances));
        fixture::teach(&mut table, rows);
        let entries = &table.pools[0].instances;
        let hold = |number: usize| {
            let entry = &entries[number % entries.len()];
            let work_us = (mix(number as u64) % 60_000) as f64;
            entry.live.set_speed_residual(0.01 * (number % 7) as f32);
            Ticket::take(&entry.live, work_us, entry.concurrency, BUILT_AT)
        };
        let held = (0..HELD * entries.len()).map(hold).collect();
        Self { heads: (0..HEADS).map(fixture::head).collect(), table, _held: held }
    }

    fn head(&self, number: u64) -> &PlainHead {
        &self.heads[(number % HEADS) as usize]
    }

    fn extract(&self, number: u64) -> RequestFacts {
        self.table.routes.extract(black_box(self.head(number))).expect("routed")
    }

    fn predict(&self, facts: &RequestFacts, number: u64) -> CostPrediction {
        predict(&self.table, black_box(facts), at(number))
    }

    fn decide(&self, facts: &RequestFacts, prediction: &CostPrediction, number: u64) {
        let attempt = Attempt { tried: &[], id: number, chance: mix(number), now: at(number) };
        let chosen =
            decide(&self.table, &self.table.pools[0], black_box(facts), black_box(prediction), attempt);
        let (decision, ticket) = chosen.expect("instances");
        black_box(&decision);
        black_box(ticket.finish(at(number + 1)));
    }

    fn whole(&self, number: u64) {
        let facts = self.extract(number);
        let prediction = self.predict(&facts, number);
        self.decide(&facts, &prediction, number);
    }
}

fn at(number: u64) -> Timestamp {
    BUILT_AT.plus(Duration::from_micros(number % 1_000_000))
}

/// Nanoseconds of one call: median and lower decile of the rounds.
fn nanoseconds(mut call: impl FnMut(u64)) -> String {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let start = Instant::now();
            (round * CALLS..(round + 1) * CALLS).for_each(&mut call);
            start.elapsed().as_nanos() as f64 / CALLS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    format!("{:.0} ({:.0})", rounds[rounds.len() / 2], rounds[rounds.len() / 10])
}

fn time() {
    println!("median (lower decile) of {ROUNDS} rounds, ns a request; decide takes and finishes the ticket");
    println!("{:>10} {:>13} {:>13} {:>13} {:>13}", "instances", "extract", "predict", "decide", "total");
    for size in SIZES {
        let setting = Setting::new(size, 5_000);
        let facts: Vec<RequestFacts> = (0..HEADS).map(|number| setting.extract(number)).collect();
        let of = |number: u64| &facts[(number % HEADS) as usize];
        let predictions: Vec<CostPrediction> =
            (0..HEADS).map(|number| setting.predict(of(number), number)).collect();
        let extract = nanoseconds(|number| {
            black_box(setting.extract(number));
        });
        let predict = nanoseconds(|number| {
            black_box(setting.predict(of(number), number));
        });
        let decide =
            nanoseconds(|number| setting.decide(of(number), &predictions[(number % HEADS) as usize], number));
        let total = nanoseconds(|number| setting.whole(number));
        println!("{size:>10} {extract:>13} {predict:>13} {decide:>13} {total:>13}");
    }
}

/// Instructions of this program under callgrind with so many decisions.
fn instructions(size: u32, decisions: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--decisions".to_owned(), decisions.to_string(), size.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split("Collected :").nth(1));
    collected.and_then(|count| count.trim().parse().ok()).ok_or(format!("valgrind said: {text}"))
}

fn count() -> Result<(), String> {
    println!("{:>10} {:>26}", "instances", "instructions a decision");
    for size in SIZES {
        let [few, many] = [instructions(size, COUNTED[0])?, instructions(size, COUNTED[1])?];
        println!("{size:>10} {:>26.0}", (many - few) as f64 / (COUNTED[1] - COUNTED[0]) as f64);
    }
    Ok(())
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<u64>().ok());
    match (arguments.first().map(String::as_str), number(1), number(2)) {
        (Some("--decisions"), Some(decisions), Some(size)) => {
            let setting = Setting::new(size as u32, 500);
            (0..decisions).for_each(|number| setting.whole(number));
        }
        (Some("--callgrind"), ..) => count()?,
        _ => time(),
    }
    Ok(())
}
