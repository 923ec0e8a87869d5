//! A policy of a shadow fleet with all it knows: the published rules, and production's own score.
//!
//! The predictive policy is the score alone: buckets of what steered, form, tempered speeds. What tiers 1 and 3 add in
//! production has no counterpart in a fleet that never saw a consumer fare badly.

use crate::reactive::{Reactive, Rule};
use foretide_predictor::hash::mix;
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::{Load, Newcomer, whole_us};
use foretide_steering::prequal::{self, Answer, Latencies};
use foretide_steering::score::{Form, Terms};
use serde::Serialize;

/// What competes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Production's score.
    Predictive,
    /// Fewest requests in flight of all.
    LeastRequest,
    /// Fewer in flight of two at random.
    P2c,
    /// Smaller peak EWMA of latency × load of two at random.
    PeakEwma,
    /// Prequal's HCL, published defaults; its probes take no time here.
    Prequal,
}

impl Policy {
    /// All of them, the predictive one first.
    pub const ALL: [Self; 5] =
        [Self::Predictive, Self::LeastRequest, Self::P2c, Self::PeakEwma, Self::Prequal];

    /// For labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predictive => "predictive",
            Self::LeastRequest => "least-request",
            Self::P2c => "p2c",
            Self::PeakEwma => "peak-ewma",
            Self::Prequal => "prequal",
        }
    }

    fn rule(self) -> Option<Rule> {
        match self {
            Self::Predictive => None,
            Self::LeastRequest => Some(Rule::LeastRequest),
            Self::P2c => Some(Rule::P2c),
            Self::PeakEwma => Some(Rule::PeakEwma),
            Self::Prequal => Some(Rule::Prequal(prequal::POOL)),
        }
    }
}

/// Repeatable chance.
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    /// A number below `count`, which is at least 1.
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        ((u128::from(mix(self.0)) * count as u128) >> 64) as usize
    }
}

/// Production's score over plain values.
#[derive(Clone, Debug)]
struct Scorer {
    terms: Terms,
    loads: Vec<Load>,
    /// `exp(γ · rho)`.
    slowness: Vec<f32>,
    heavy_yields: f32,
}

#[derive(Clone, Debug)]
enum Mind {
    Scorer(Scorer),
    Reactive(Box<Reactive>, Vec<Latencies>),
}

/// A policy in front of its fleet.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    mind: Mind,
    chance: Chance,
}

/// A request that is to be placed, or was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) instance: usize,
    /// What steered it, microseconds.
    pub(crate) steered_us: f64,
    /// In flight there when it came, itself not among them.
    pub(crate) found: u32,
}

impl Chooser {
    /// In front of so many instances, at least one, of so many slots each.
    pub(crate) fn new(policy: Policy, instances: usize, form: Form, slots: usize) -> Self {
        let mind = match policy.rule() {
            None => Mind::Scorer(Scorer {
                terms: Terms::new(form, slots as u32, 1.0, 1.0),
                loads: vec![Load::default(); instances],
                slowness: vec![1.0; instances],
                heavy_yields: 0.0,
            }),
            Some(rule) => {
                let probed = if policy == Policy::Prequal { instances } else { 0 };
                let latencies = vec![Latencies::default(); probed];
                Mind::Reactive(Box::new(Reactive::new(rule, instances, 1, 0)), latencies)
            }
        };
        Self { mind, chance: Chance(mix(policy as u64)) }
    }

    /// Heavy requests yield that much to light ones.
    pub(crate) fn set_heavy_yields(&mut self, heavy_yields: f32) {
        if let Mind::Scorer(scorer) = &mut self.mind {
            scorer.heavy_yields = heavy_yields;
        }
    }

    /// An instance is that much slower than the average one, tempered.
    pub(crate) fn set_slowness(&mut self, instance: usize, slowness: f32) {
        if let Mind::Scorer(scorer) = &mut self.mind {
            scorer.slowness[instance] = slowness;
        }
    }

    /// Who gets a request. `in_flight(instance)`: requests there; `allowed(instance)`: whether it may get one.
    pub(crate) fn choose(
        &mut self,
        steered_us: f64,
        now_us: f64,
        in_flight: impl Fn(usize) -> u32,
        allowed: impl Fn(usize) -> bool,
    ) -> usize {
        let chance = &mut self.chance;
        match &mut self.mind {
            Mind::Scorer(scorer) => scorer.choose(steered_us, allowed, chance),
            Mind::Reactive(reactive, latencies) => {
                for _ in 0..if latencies.is_empty() { 0 } else { prequal::PROBES } {
                    let instance = chance.below(latencies.len());
                    let requests = in_flight(instance);
                    let latency_us = latencies[instance].estimate_us(requests);
                    let at = Timestamp::from_us(now_us as u64);
                    reactive.probed(Answer { instance, in_flight: requests, latency_us, at });
                }
                reactive.choose(now_us, None, |_| 1.0, |count| chance.below(count))
            }
        }
    }

    /// A request went there.
    pub(crate) fn sent(&mut self, placed: Placed) {
        match &mut self.mind {
            Mind::Scorer(scorer) => scorer.loads[placed.instance].add(whole_us(placed.steered_us)),
            Mind::Reactive(reactive, _) => reactive.sent(placed.instance),
        }
    }

    /// It came back after so long.
    pub(crate) fn answered(&mut self, placed: Placed, latency_us: f64, now_us: f64) {
        match &mut self.mind {
            Mind::Scorer(scorer) => scorer.loads[placed.instance].remove(whole_us(placed.steered_us)),
            Mind::Reactive(reactive, latencies) => {
                if let Some(latencies) = latencies.get_mut(placed.instance) {
                    latencies.observe(placed.found, latency_us as f32);
                }
                reactive.answered(placed.instance, (latency_us, latency_us), 0.0, now_us);
            }
        }
    }
}

impl Scorer {
    /// The smallest score, ties at random.
    fn choose(&self, steered_us: f64, allowed: impl Fn(usize) -> bool, chance: &mut Chance) -> usize {
        let newcomer = Newcomer::of(steered_us);
        let (mut best, mut least, mut ties) = (0, f32::INFINITY, 0);
        for (index, load) in self.loads.iter().enumerate().filter(|(index, _)| allowed(*index)) {
            let (work_us, requests) = (newcomer.work_us() as f32, load.requests() as f32);
            let held_us = || load.work_us() as f32;
            let interference_us = || load.meets(newcomer).yielding_us(self.heavy_yields);
            let cost_us = self.terms.cost_us(work_us, requests, held_us, interference_us);
            let score = cost_us * self.slowness[index];
            if score < least {
                (best, least, ties) = (index, score, 1);
            } else if score == least {
                ties += 1;
                if chance.below(ties) == 0 {
                    best = index;
                }
            }
        }
        best
    }
}
