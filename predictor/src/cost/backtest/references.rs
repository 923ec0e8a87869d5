//! The answers to beat: running means that anybody would try first.
//!
//! - global mean: running mean of ln cost, and of cost;
//! - route mean: the same per route, drawn to the global one as if that had been seen five times;
//! - shrunk EWMA: moving average (0.1) per route and source, drawn to the route's mean with the same weight;
//! - parameter-key mean: running mean per route and parameters (numbers by powers of two), drawn to the route's;
//! - fine parameter-key mean: the same with numbers by eighths of these, drawn to the coarse one;
//! - equal-parameter mean: the same with the very numbers, drawn to the fine one.
//!
//! Their intervals are one quantile tracker over one scale, their classes the class of `exp(answer)`. Beside them, class
//! histograms: the most frequent class per parameter key (coarse, fine, equal) and per (route, source), drawn to the route's
//! histogram.
//! Unbounded maps: these references need not survive abuse.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cost::backtest::scores::{Answer, ScoreSums, Scores};
use crate::cost::interval;
use crate::cost::query::{CostClass, CostQuery};
use crate::hash;

/// Observations that the parent is worth.
const PRIOR_WEIGHT: f64 = 5.0;
/// Weight of the newest value in the moving average.
const EWMA_RATE: f64 = 0.1;
/// Weight of the newest residual in the scale of a reference's interval.
const SCALE_RATE: f64 = 0.02;

/// A reference and how good it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceScores {
    /// What it is.
    pub name: String,
    /// How good.
    pub scores: Scores,
}

/// A class histogram and how often it was right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReference {
    /// By which key.
    pub name: String,
    /// Share of rows whose class was right; `None` without rows.
    pub accuracy: Option<f64>,
}

/// Count and averages of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    count: f64,
    log: f64,
    cost: f64,
}

impl Average {
    /// With one more observation of weight `rate` at least.
    fn add(&mut self, cost: f64, rate: f64) {
        self.count += 1.0;
        let rate = rate.max(1.0 / self.count);
        self.log += rate * (cost.ln() - self.log);
        self.cost += rate * (cost - self.cost);
    }

    fn under(self, parent: Self) -> Self {
        let weight = self.count / (self.count + PRIOR_WEIGHT);
        let between = |own: f64, theirs: f64| weight * own + (1.0 - weight) * theirs;
        Self { count: self.count, log: between(self.log, parent.log), cost: between(self.cost, parent.cost) }
    }
}

/// Interval and score of one reference.
#[derive(Clone, Debug)]
struct Rival {
    name: &'static str,
    scale: f64,
    tracker: f32,
    sums: ScoreSums,
}

impl Rival {
    fn new(name: &'static str) -> Self {
        Self { name, scale: 0.5, tracker: interval::NORMAL_SCALE, sums: ScoreSums::default() }
    }

    fn half_width(&self) -> f64 {
        self.scale * f64::from(self.tracker)
    }

    fn learn(&mut self, residual: f64, half_width: f64) {
        self.tracker = interval::tracked(self.tracker, residual.abs() > half_width);
        self.scale += SCALE_RATE * (residual.abs() - self.scale);
    }
}

const RIVALS: [&str; 6] = [
    "global mean",
    "route mean",
    "shrunk route+source EWMA",
    "parameter-key mean",
    "fine parameter-key mean",
    "equal-parameter mean",
];
const HISTOGRAMS: [&str; 4] = ["parameter key", "fine parameter key", "equal parameters", "route+source"];

/// What the references answered about one request; keep it until the label comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReferenceAnswers {
    averages: [Average; RIVALS.len()],
    half_widths: [f64; RIVALS.len()],
    classes: [CostClass; HISTOGRAMS.len()],
}

/// All references, learning and answering as the requests come.
#[derive(Clone, Debug)]
pub(crate) struct References {
    global: Average,
    routes: BTreeMap<u64, Average>,
    sources: BTreeMap<u64, Average>,
    parameters: BTreeMap<u64, Average>,
    fine: BTreeMap<u64, Average>,
    equal: BTreeMap<u64, Average>,
    rivals: [Rival; RIVALS.len()],
    histograms: BTreeMap<u64, [f64; 4]>,
    scored: usize,
    right: [usize; HISTOGRAMS.len()],
}

impl References {
    pub(crate) fn new() -> Self {
        Self {
            global: Average::default(),
            routes: BTreeMap::new(),
            sources: BTreeMap::new(),
            parameters: BTreeMap::new(),
            fine: BTreeMap::new(),
            equal: BTreeMap::new(),
            rivals: RIVALS.map(Rival::new),
            histograms: BTreeMap::new(),
            scored: 0,
            right: [0; HISTOGRAMS.len()],
        }
    }

    /// Their answers from what they know now.
    pub(crate) fn answer(&self, query: &CostQuery) -> ReferenceAnswers {
        let of = |map: &BTreeMap<u64, Average>, key: u64| map.get(&key).copied().unwrap_or_default();
        let route = of(&self.routes, query.route_key).under(self.global);
        let source = of(&self.sources, source_key(query)).under(route);
        let parameters = of(&self.parameters, query.parameter_key()).under(route);
        let fine = of(&self.fine, query.fine_parameter_key()).under(parameters);
        let equal = of(&self.equal, query.equal_parameter_key()).under(fine);
        ReferenceAnswers {
            averages: [self.global, route, source, parameters, fine, equal],
            half_widths: std::array::from_fn(|i| self.rivals[i].half_width()),
            classes: histogram_keys(query).map(|key| self.likeliest(key, query.route_key)),
        }
    }

    /// Scores answers once the truth is known; `class_of` ranks a cost.
    pub(crate) fn score(
        &mut self,
        answers: &ReferenceAnswers,
        actual: f64,
        class_of: impl Fn(f64) -> CostClass,
    ) {
        let actual_class = class_of(actual);
        for (i, rival) in self.rivals.iter_mut().enumerate() {
            let (average, half_width) = (answers.averages[i], answers.half_widths[i]);
            let answer = Answer {
                mean: average.cost,
                log_mean: average.log,
                lo90: (average.log - half_width).exp(),
                hi90: (average.log + half_width).exp(),
                class: class_of(average.log.exp()),
            };
            rival.sums.add(&answer, actual, actual_class);
        }
        self.scored += 1;
        for (right, class) in self.right.iter_mut().zip(answers.classes) {
            *right += usize::from(class == actual_class);
        }
    }

    /// Learns a label.
    pub(crate) fn learn(
        &mut self,
        query: &CostQuery,
        answers: &ReferenceAnswers,
        cost: f64,
        class: CostClass,
    ) {
        for (i, rival) in self.rivals.iter_mut().enumerate() {
            rival.learn(cost.ln() - answers.averages[i].log, answers.half_widths[i]);
        }
        self.global.add(cost, 0.0);
        self.routes.entry(query.route_key).or_default().add(cost, 0.0);
        self.sources.entry(source_key(query)).or_default().add(cost, EWMA_RATE);
        self.parameters.entry(query.parameter_key()).or_default().add(cost, 0.0);
        self.fine.entry(query.fine_parameter_key()).or_default().add(cost, 0.0);
        self.equal.entry(query.equal_parameter_key()).or_default().add(cost, 0.0);
        for key in histogram_keys(query).into_iter().chain([query.route_key]) {
            self.histograms.entry(key).or_default()[class as usize] += 1.0;
        }
    }

    /// Scores of the rivals.
    pub(crate) fn scores(&self) -> Vec<ReferenceScores> {
        let scores =
            |rival: &Rival| ReferenceScores { name: rival.name.to_owned(), scores: rival.sums.scores() };
        self.rivals.iter().map(scores).collect()
    }

    /// Accuracy of the class histograms.
    pub(crate) fn class_scores(&self) -> Vec<ClassReference> {
        let accuracy = |right: usize| (self.scored > 0).then(|| right as f64 / self.scored as f64);
        let pairs = HISTOGRAMS.iter().zip(self.right);
        pairs
            .map(|(name, right)| ClassReference { name: (*name).into(), accuracy: accuracy(right) })
            .collect()
    }

    fn likeliest(&self, key: u64, route_key: u64) -> CostClass {
        let of = |key: u64| self.histograms.get(&key).copied().unwrap_or_default();
        let (own, route) = (of(key), of(route_key));
        let whole = route.iter().sum::<f64>().max(1.0);
        let weight = |class: usize| own[class] + PRIOR_WEIGHT * route[class] / whole;
        let classes = [CostClass::Light, CostClass::Medium, CostClass::Heavy, CostClass::Huge];
        let best = (1..classes.len()).fold(0, |best, i| if weight(i) > weight(best) { i } else { best });
        classes[best]
    }
}

fn source_key(query: &CostQuery) -> u64 {
    hash::pair(query.route_key, query.consumer_key)
}

/// Distinct first halves keep the kinds of keys apart.
fn histogram_keys(query: &CostQuery) -> [u64; HISTOGRAMS.len()] {
    let keys =
        [query.parameter_key(), query.fine_parameter_key(), query.equal_parameter_key(), source_key(query)];
    std::array::from_fn(|i| hash::pair(i as u64, keys[i]))
}
