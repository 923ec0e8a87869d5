//! What a window came to, and the table of all of them.

use std::fmt;
use std::time::Duration;

use foretide_loadtest::traffic::tally::TrafficSummary;

use crate::SETTLING;
use crate::workload::asked;

/// Of one contestant in one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// 99th percentile of the latency of light requests, milliseconds.
    light_p99_ms: f64,
    /// Mean of latency over work at speed 1.
    mean_slowdown: f64,
    /// 99th percentile of the same.
    p99_slowdown: f64,
    /// Mean and 99th percentile of latency, milliseconds.
    mean_ms: f64,
    p99_ms: f64,
    /// CPU time of the proxy per request, microseconds.
    cpu_us: f64,
    /// Requests without a good answer.
    failed: u64,
}

/// Name and value of what is compared: smaller is better.
type Metric = (&'static str, fn(&Figures) -> f64);

const METRICS: [Metric; 6] = [
    ("p99 of light, ms", |figures| figures.light_p99_ms),
    ("mean slowdown", |figures| figures.mean_slowdown),
    ("p99 slowdown", |figures| figures.p99_slowdown),
    ("mean, ms", |figures| figures.mean_ms),
    ("p99, ms", |figures| figures.p99_ms),
    ("CPU a request, us", |figures| figures.cpu_us),
];

impl Figures {
    pub(crate) fn of(summary: &TrafficSummary, cpu: Duration) -> Self {
        let (mut light, mut all, mut slowdowns) = (Vec::new(), Vec::new(), Vec::new());
        let mut failed = 0;
        for sent in &summary.requests {
            if sent.status != 200 {
                failed += 1;
                continue;
            }
            let Some(asked) = asked(&sent.path).filter(|_| u128::from(sent.at_us) >= SETTLING.as_micros())
            else {
                continue;
            };
            let latency_ms = sent.latency_us as f64 / 1e3;
            all.push(latency_ms);
            slowdowns.push(latency_ms / 1e3 / asked.work.as_secs_f64());
            if asked.light {
                light.push(latency_ms);
            }
        }
        Self {
            light_p99_ms: p99(&mut light),
            mean_slowdown: mean(&slowdowns),
            p99_slowdown: p99(&mut slowdowns),
            mean_ms: mean(&all),
            p99_ms: p99(&mut all),
            cpu_us: cpu.as_secs_f64() * 1e6 / summary.sent.max(1) as f64,
            failed: failed + summary.dropped,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        METRICS.iter().try_for_each(|(name, of)| write!(f, "{name} {:.1}; ", of(self)))?;
        write!(f, "{} failed", self.failed)
    }
}

/// Medians over the rounds, and ours, with and without its queue, against each of the others, round by round.
pub(crate) fn print(names: &[&str], found: &[Vec<Figures>]) {
    println!("\nmedians over the rounds");
    print!("{:<22}", "");
    names.iter().for_each(|name| print!("{name:>22}"));
    println!();
    for (metric, of) in METRICS {
        print!("{metric:<22}");
        found.iter().for_each(|rounds| print!("{:>22.1}", median(rounds.iter().map(of).collect())));
        println!();
    }
    println!(
        "\nForetide against each of the others: median of the rounds' ratios, each paired within its round (below 1: better)"
    );
    let is_ours = |index: &usize| names[*index].starts_with("foretide");
    for (metric, of) in METRICS {
        for own in (0..names.len()).filter(is_ours) {
            print!("{metric:<20} {:<20}", names[own]);
            for other in (0..names.len()).filter(|index| !is_ours(index)) {
                let pairs = found[own].iter().zip(&found[other]);
                print!(
                    "{:>6.2} x {:<22}",
                    median(pairs.map(|(own, other)| of(own) / of(other)).collect()),
                    names[other]
                );
            }
            println!();
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn p99(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(f64::NAN)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    (middle(values.len().saturating_sub(1) / 2) + middle(values.len() / 2)) / 2.0
}
