//! From finished requests to knowledge: labels, running means, the training sample, peers, and how good all that was.
//!
//! ```text
//! label    = attained service · exp(-rho of the instance)      work on an instance of speed 1
//!          or what the instance says in its load report, where the pool asks for that
//! residual = ln(attained / steered with), see `gates`
//! peers    = residual - common to the pool - rho               what speed does not explain: peers and anomalies
//! ```
//!
//! A pool whose costs are reported learns from reports only: an answer without one teaches no cost, because service time and
//! a reported cost are not the same thing, and a mean of both would be neither.
//!
//! Learning from one request costs about as much as deciding it several times over, and means need no more than a few
//! thousand samples a second. Above [`PER_TICK`] a tick only every n-th request is learned from, n by the tick before:
//! evenly, because any rule that looks at the cost (all the heavy ones, say) would bias every mean.
//!
//! Only what ended in order teaches costs in full: of a failed or abandoned try only a part is known (censored). It
//! teaches where that part is already more than was expected, else it is dropped and counted. A try that is followed by
//! another teaches nothing: the last one speaks for the request, so that a request counts once however often it was tried.
//! Known weakness: an instance that hangs looks like one that works; what it teaches is bounded by the reach of a cell, and
//! health takes it out.
//! Skill is counted in log cost, where a factor of two too high is as wrong
//! as one too low, against the running mean of the route.
use foretide_predictor::cost::query::{CostBasis, CostClass};
use foretide_predictor::cost::reservoir::{Reservoir, Sample};
use foretide_predictor::cost::table::{KeyTable, Measured};
use foretide_predictor::estimate::Estimate;
use foretide_predictor::peers::PeerTable;
use foretide_predictor::scorecard::Scorecard;
use foretide_predictor::time::Timestamp;
use foretide_routing::observe::{Observation, Outcome};
use foretide_routing::settings::LearningSettings;
use foretide_steering::speed::Speed;
use std::sync::Arc;
use std::time::Duration;

/// Predictions that the scorecards remember: minutes of a busy service, so that a change shows within minutes.
const CARD_MEMORY: usize = 2_000;
/// Requests learned from in full per tick of 100 ms: 1,000 a second keep the cost of learning below three thousandths of
/// a core, and a key seen in a thousandth of the traffic still gets a sample a second.
const PER_TICK: u64 = 100;
/// Cells of residuals per (consumer, instance).
const PEER_CELLS: usize = 4_096;
/// Residuals beyond a factor of 150 are measuring errors.
const MOST_RESIDUAL: f64 = 5.0;
/// Labels are clamped to an hour: nothing proxied takes longer, and one absurd label must not own a mean.
const LONGEST_WORK_US: f64 = 3.6e9;
/// Class counts cover between one and two of these.
const CLASS_WINDOW: Duration = Duration::from_secs(60);

/// What was learned from finished requests.
#[derive(Debug)]
pub(crate) struct Learning {
    /// Running statistics, shared with the hot path.
    pub(crate) costs: Arc<KeyTable>,
    /// Residuals, shared with the hot path.
    pub(crate) peers: Arc<PeerTable>,
    /// The training sample.
    pub(crate) reservoir: Reservoir,
    /// Requests learned from since the start.
    pub(crate) learned: u64,
    /// Tier 2 against the route's mean.
    pub(crate) cost_card: Scorecard,
    /// Tier 3 against "no residual".
    pub(crate) peer_card: Scorecard,
    classes: [[u64; 4]; 2],
    classes_since: Timestamp,
    /// Requests of this tick, and that every so many-th is learned from.
    seen: u64,
    stride: u64,
}

/// What the costs of a pool are counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Service measured here, waiting taken off.
    Service,
    /// What instances report.
    Reported,
}

/// What one observation taught.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lesson {
    /// Measured work at speed 1, microseconds.
    pub(crate) work_us: Option<f64>,
    /// ln(attained / steered with) at the instance's own speed.
    pub(crate) speed_residual: Option<f64>,
    /// It was this request's turn to be learned from, and it taught its whole cost.
    pub(crate) learned: bool,
}

impl Learning {
    /// Knows nothing. `seed` decides what the full sample replaces.
    pub(crate) fn new(key_cells: usize, reservoir_rows: usize, seed: u64) -> Self {
        Self {
            costs: Arc::new(KeyTable::new(key_cells)),
            peers: Arc::new(PeerTable::new(PEER_CELLS)),
            reservoir: Reservoir::new(reservoir_rows, seed),
            learned: 0,
            cost_card: Scorecard::new(CARD_MEMORY),
            peer_card: Scorecard::new(CARD_MEMORY),
            classes: [[0; 4]; 2],
            classes_since: Timestamp::ZERO,
            seen: 0,
            stride: 1,
        }
    }

    /// Carries what was learned over into tables of another size. Requests under way are judged by the new ones.
    pub(crate) fn resize(&mut self, old: &LearningSettings, new: &LearningSettings) {
        if old.key_cells != new.key_cells {
            let costs = KeyTable::new(new.key_cells);
            costs.restore(&self.costs.snapshot());
            self.costs = Arc::new(costs);
        }
        if old.reservoir_rows != new.reservoir_rows {
            self.reservoir = self.reservoir.resized(new.reservoir_rows);
        }
    }

    /// A tick begins: the load of the last one says how much of this one is learned from.
    pub(crate) fn begin_tick(&mut self) {
        self.stride = self.seen.div_ceil(PER_TICK).max(1);
        self.seen = 0;
    }

    /// Measures a finished try on an instance of this speed, and learns from it if it is its turn.
    pub(crate) fn observe(&mut self, seen: &Observation, speed: Speed, unit: Unit, now: Timestamp) -> Lesson {
        self.count_class(seen.prediction.estimate.class, now);
        self.seen += 1;
        if !self.seen.is_multiple_of(self.stride) {
            let work_us = ended_well(seen).then(|| work_of(seen, speed, unit)).flatten();
            return Lesson { work_us, ..Lesson::default() };
        }
        self.learn(seen, speed, unit, now)
    }

    fn learn(&mut self, seen: &Observation, speed: Speed, unit: Unit, now: Timestamp) -> Lesson {
        let prediction = &seen.prediction;
        if !ended_well(seen) {
            if matches!(seen.outcome, Outcome::ProducerError | Outcome::ProducerUnreachable) {
                self.peers.observe(seen.query.consumer_key, seen.decision.instance, 0.0, true, now);
            }
            return self.cut_short(seen, speed, unit, now);
        }
        let speed_residual = self.compare(seen, speed, now);
        let Some(work_us) = work_of(seen, speed, unit) else {
            return Lesson { speed_residual, ..Lesson::default() };
        };
        self.score(seen, work_us);
        let bytes = seen.response_bytes.map(|bytes| bytes as f64);
        let measured = Measured { work_us, bytes, censored: false };
        self.costs.complete(&seen.query, prediction, &measured, now);
        self.keep(seen, work_us);
        Lesson { work_us: Some(work_us), speed_residual, learned: true }
    }

    /// Holds the service that a try attained against what was predicted; the residual, if it says something about speed.
    fn compare(&mut self, seen: &Observation, speed: Speed, now: Timestamp) -> Option<f64> {
        let (consumer, instance) = (seen.query.consumer_key, seen.decision.instance);
        let estimate = seen.prediction.estimate;
        // Against what steered, not what was predicted: predictions that are worth nothing must not scatter it.
        let speed_residual = (seen.attained_us / f64::from(seen.prediction.steering.work_us)).ln();
        if !speed_residual.is_finite() {
            return None;
        }
        let residual = speed_residual - speed.common() - speed.rho();
        let residual = residual.clamp(-MOST_RESIDUAL, MOST_RESIDUAL);
        let expected = f64::from(self.peers.factor(consumer, instance)).ln();
        self.peer_card.observe(Estimate::exact(expected), residual, 0.0);
        self.peers.observe(consumer, instance, residual, false, now);
        // Against a guess no speed can be measured: the first requests would call their instance slow.
        let guessed = matches!(estimate.basis, CostBasis::Prior | CostBasis::GlobalMean);
        (!guessed).then_some(speed_residual)
    }

    /// A try that did not end in order: its cost is at least what it attained. `retried`: the next try will tell.
    fn cut_short(&mut self, seen: &Observation, speed: Speed, unit: Unit, now: Timestamp) -> Lesson {
        if let Some(work_us) = work_of(seen, speed, unit).filter(|_| !seen.retried) {
            let measured = Measured { work_us, bytes: None, censored: true };
            if self.costs.complete(&seen.query, &seen.prediction, &measured, now) {
                self.keep(seen, work_us);
            }
        }
        Lesson::default()
    }

    fn keep(&mut self, seen: &Observation, work_us: f64) {
        let features = seen.prediction.features;
        self.reservoir.push(Sample { at: seen.arrived_at, query: seen.query, features, work_us });
        self.learned += 1;
    }

    fn score(&mut self, seen: &Observation, work_us: f64) {
        let log = |value: f64| value.max(1e-3).ln();
        let work = seen.prediction.estimate.work_us;
        let naive = f64::from(seen.prediction.features.route_mean_log());
        if let Some(predicted) = Estimate::new(log(work.mean()), log(work.low()), log(work.high())) {
            self.cost_card.observe(predicted, log(work_us), naive);
        }
    }

    fn count_class(&mut self, class: CostClass, now: Timestamp) {
        if now.since(self.classes_since) > CLASS_WINDOW {
            self.classes = [self.classes[1], [0; 4]];
            self.classes_since = now;
        }
        self.classes[1][class as usize] += 1;
    }

    /// Requests per class lately: light, medium, heavy, huge.
    pub(crate) fn classes(&self) -> [u64; 4] {
        std::array::from_fn(|class| self.classes[0][class] + self.classes[1][class])
    }
}

/// Whether all of a try's work was done and measured.
fn ended_well(seen: &Observation) -> bool {
    let measured = seen.attained_us.is_finite() && seen.attained_us > 0.0;
    seen.outcome == Outcome::Ok && !seen.retried && measured
}

/// Work on an instance of speed 1, of a try on one of this speed; `None`: not known.
fn work_of(seen: &Observation, speed: Speed, unit: Unit) -> Option<f64> {
    let work_us = match unit {
        Unit::Service => seen.attained_us * (-speed.rho()).exp(),
        Unit::Reported => seen.reported.work_us?,
    };
    (work_us.is_finite() && work_us > 0.0).then_some(work_us.min(LONGEST_WORK_US))
}
