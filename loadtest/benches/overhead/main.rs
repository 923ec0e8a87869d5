//! What Foretide costs beside a bare Pingora proxy doing the same job: CPU microseconds per request, paired.
//!
//!     cargo build --release && cargo bench -p foretide-loadtest --bench overhead
//!
//! Contestants: the bare proxy (sending the same headers; beside it one that sends the client's address only), Foretide
//! with all tiers on and no access log, the same with one. Each has one worker thread, the same three instances behind
//! it, and gets the same requests over the same keep-alive connections. All run through; in every round each is driven in
//! turn, the first one changing from round to round, so that whatever else the machine does meets all alike. What is
//! compared is the CPU time of the proxy's process, per round, as a ratio to the bare proxy's in the same round; median
//! and quartiles are printed.
//!
//! Known weakness: on two cores client, instances and proxy share caches; ratios are steadier than microseconds.
//! Environment: `FORETIDE_BIN` (default: `foretide` beside this program), `ROUNDS` (20), `REQUESTS` a round (2,000).

mod backend;
mod bare_pingora;
mod contestant;
mod foretide;
mod load;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};

use self::bare_pingora::Job;
use self::contestant::Contestant;

/// Instances behind each proxy: enough that there is something to choose.
const INSTANCES: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [name @ ("bare-pingora" | "least-pingora"), listen, ref instances @ ..] => {
            let job = if name == "bare-pingora" { Job::Same } else { Job::Least };
            bare_pingora::run(job, listen, instances.iter().map(|&address| address.to_owned()).collect())
        }
        ["backend", ref addresses @ ..] => backend::run(addresses),
        _ => compare(),
    }
}

fn compare() -> Result<()> {
    let rounds = number("ROUNDS", 20)?.clamp(1, 200);
    let requests = number("REQUESTS", 2_000)?.clamp(100, 20_000);
    let ports = free_addresses(INSTANCES + 4)?;
    let (instances, fronts) = ports.split_at(INSTANCES);
    let _backend = Contestant::own_role("backend", None, instances)?;
    let mut contestants = vec![
        Contestant::own_role("bare-pingora", Some(fronts[0]), instances)?,
        Contestant::own_role("least-pingora", Some(fronts[3]), instances)?,
    ];
    match program() {
        Some(program) => {
            for (front, log) in [(fronts[1], false), (fronts[2], true)] {
                contestants.push(foretide::start(&program, front, instances, log)?);
            }
        }
        None => println!("no foretide: build it first (cargo build --release), or name it in FORETIDE_BIN"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for contestant in &contestants {
        runtime.block_on(load::drive(contestant.address, 4 * requests)).context(contestant.name)?;
    }
    let mut cpu_us = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let index = (round + turn) % contestants.len();
            let contestant = &contestants[index];
            let before = contestant.cpu_time()?;
            runtime.block_on(load::drive(contestant.address, requests)).context(contestant.name)?;
            let used = contestant.cpu_time()? - before;
            cpu_us[index].push(used.as_secs_f64() * 1e6 / requests as f64);
        }
    }
    println!("{rounds} rounds of {requests} requests; CPU per request: quartile, median, quartile");
    for (contestant, samples) in contestants.iter().zip(&cpu_us) {
        let ratios: Vec<f64> = samples.iter().zip(&cpu_us[0]).map(|(own, bare)| own / bare).collect();
        let ([low, mid, high], [ratio_low, ratio_mid, ratio_high]) = (quartiles(samples), quartiles(&ratios));
        println!(
            "{:<22} {low:7.2} {mid:7.2} {high:7.2} us   {ratio_low:.3} {ratio_mid:.3} {ratio_high:.3} x bare",
            contestant.name
        );
    }
    Ok(())
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("FORETIDE_BIN").map(PathBuf::from);
    // This program is target/release/deps/overhead-…
    let built = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("foretide"));
    named.or_else(built).filter(|path| path.is_file())
}

fn number(name: &str, default: usize) -> Result<usize> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

/// Loopback addresses that were free a moment ago.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

fn quartiles(samples: &[f64]) -> [f64; 3] {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[(sorted.len() - 1) * quarter / 4])
}
