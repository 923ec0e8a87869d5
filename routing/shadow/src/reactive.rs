//! The published policies, as one balancer runs them.

use foretide_predictor::time::Timestamp;
use foretide_steering::c3::Replica;
use foretide_steering::prequal::{Answer, ProbePool};

/// A published policy with its published defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anybody.
    Random,
    /// In turn.
    RoundRobin,
    /// Fewer in flight of two at random (Mitzenmacher 2001).
    P2c,
    /// Fewest in flight of all, ties at random.
    LeastRequest,
    /// Smaller peak EWMA of latency × load of two at random, ten seconds (Finagle).
    PeakEwma,
    /// Prequal's HCL with a pool of so many answers.
    Prequal(usize),
    /// C3 without its rate control.
    C3,
}

/// Finagle's decay of peak latency, microseconds.
const PEAK_DECAY_US: f64 = 10e6;

/// What one balancer knows of one instance by itself.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    in_flight: u32,
    peak_us: f64,
    peak_at_us: f64,
    replica: Replica,
}

/// A balancer with one of the published policies.
#[derive(Clone, Debug)]
pub struct Reactive {
    rule: Rule,
    known: Vec<Known>,
    clients: f64,
    next: usize,
    pool: ProbePool,
}

impl Reactive {
    /// One of `clients`, in front of so many instances, at least one; whoever goes in turn begins after `first`.
    pub fn new(rule: Rule, instances: usize, clients: usize, first: usize) -> Self {
        let room = if let Rule::Prequal(room) = rule { room } else { 2 };
        Self {
            rule,
            known: vec![Known::default(); instances],
            clients: clients as f64,
            next: first,
            pool: ProbePool::new(room, instances),
        }
    }

    /// Whom a request goes to, except to `tried`. `warm(instance)`: the share of its usual load that it should get;
    /// `draw(n)`: a number below `n`, at random.
    pub fn choose(
        &mut self,
        now_us: f64,
        tried: Option<usize>,
        warm: impl Fn(usize) -> f64,
        mut draw: impl FnMut(usize) -> usize,
    ) -> usize {
        let count = self.known.len();
        let allowed = |index: &usize| Some(*index) != tried;
        let any = |draw: &mut dyn FnMut(usize) -> usize| {
            let first = draw(count);
            (first..first + count).map(|index| index % count).find(allowed).unwrap_or(0)
        };
        match self.rule {
            Rule::RoundRobin => {
                self.next = (self.next + 1) % count;
                self.next
            }
            Rule::P2c => {
                let (a, b) = two(|| any(&mut draw), count);
                if self.known[b].in_flight < self.known[a].in_flight { b } else { a }
            }
            Rule::PeakEwma => {
                let (a, b) = two(|| any(&mut draw), count);
                if self.peak(b, now_us) < self.peak(a, now_us) { b } else { a }
            }
            Rule::Prequal(_) => {
                let now = Timestamp::from_us(now_us as u64);
                self.pool.choose(now).filter(allowed).unwrap_or_else(|| any(&mut draw))
            }
            Rule::LeastRequest => {
                let load = |index: usize| f64::from(self.known[index].in_flight + 1) / warm(index);
                smallest((0..count).filter(allowed), load, draw)
            }
            Rule::C3 => {
                let rank = |index: usize| {
                    let known = &self.known[index];
                    known.replica.rank(f64::from(known.in_flight), self.clients)
                };
                smallest((0..count).filter(allowed), rank, draw)
            }
            Rule::Random => any(&mut draw),
        }
    }

    /// A request went there.
    pub fn sent(&mut self, instance: usize) {
        self.known[instance].in_flight += 1;
    }

    /// It came back: response and service time, microseconds, and the requests it left behind.
    pub fn answered(
        &mut self,
        instance: usize,
        (response_us, service_us): (f64, f64),
        queue: f64,
        now_us: f64,
    ) {
        let known = &mut self.known[instance];
        known.in_flight = known.in_flight.saturating_sub(1);
        known.replica.observe(response_us, service_us, queue);
        let kept = if known.peak_us > response_us { decay(now_us - known.peak_at_us) } else { 0.0 };
        known.peak_us = known.peak_us * kept + response_us * (1.0 - kept);
        known.peak_at_us = now_us;
    }

    /// It was refused there.
    pub fn lost(&mut self, instance: usize) {
        self.known[instance].in_flight = self.known[instance].in_flight.saturating_sub(1);
    }

    /// A probe was answered.
    pub fn probed(&mut self, answer: Answer) {
        self.pool.hear(answer);
    }

    /// The instance is a new one: nothing is in flight there.
    pub fn replaced(&mut self, instance: usize) {
        self.known[instance] = Known::default();
    }

    fn peak(&self, index: usize, now_us: f64) -> f64 {
        let known = &self.known[index];
        known.peak_us * decay(now_us - known.peak_at_us) * f64::from(known.in_flight + 1)
    }
}

fn decay(span_us: f64) -> f64 {
    (-span_us / PEAK_DECAY_US).exp()
}

/// Two different ones, if there are two.
fn two(mut any: impl FnMut() -> usize, count: usize) -> (usize, usize) {
    let first = any();
    let second = (0..16).map(|_| any()).find(|&second| second != first);
    (first, second.unwrap_or((first + 1) % count))
}

/// The one with the smallest value, ties at random.
fn smallest(
    indices: impl Iterator<Item = usize>,
    value: impl Fn(usize) -> f64,
    mut draw: impl FnMut(usize) -> usize,
) -> usize {
    let (mut best, mut least, mut ties) = (0, f64::INFINITY, 0usize);
    for index in indices {
        let value = value(index);
        if value < least {
            (best, least, ties) = (index, value, 1);
        } else if value == least {
            ties += 1;
            if draw(ties) == 0 {
                best = index;
            }
        }
    }
    best
}
