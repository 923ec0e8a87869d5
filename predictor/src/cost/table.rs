//! What is known about a request before it is forwarded: running statistics of the keys it belongs to, as features.
//!
//! Keys form a tree: all → route → {route × consumer, parameter key → parameter key × consumer}. Each mean of log cost
//! is shrunk towards its parent, `(n·mean + 5·parent) / (n + 5)`, so a key seen twice says little and one seen a
//! hundred times speaks for itself (empirical Bayes in its simplest form). Trees on ids alone lose to such means on
//! most real traffic; trees on the means beat both.
//!
//! One writer calls [`KeyTable::observe`]; any thread may call the rest. No lock, no allocation. Whatever a request
//! or a label holds (NaN, infinities, a million consumers), memory stays and every feature is finite.

use std::sync::atomic::AtomicU32;

use serde::{Deserialize, Serialize};

use crate::cost::cells::{Cell, CellView, Cells, Label, TaggedCell, load, store, ticks};
use crate::cost::classes::{CostClasses, CostClassesState};
use crate::cost::interval;
use crate::cost::query::{
    ABSENT, CATEGORIES, CostBasis, CostClass, CostEstimate, CostQuery, NUMBERS, PRIOR_WORK_US,
};
use crate::hash;
use crate::time::Timestamp;

/// Width of the feature vector.
pub const FEATURES: usize = 32;
/// Observations that the parent's mean is worth.
const PRIOR_WEIGHT: f32 = 5.0;
/// A key with fewer observations does not answer by itself.
const ENOUGH: f32 = 3.0;
/// Labels are clamped to these, microseconds: nothing real costs less, nothing is proxied longer (an hour).
const LABEL_RANGE_US: (f64, f64) = (0.01, 3.6e9);
/// Numeric parameters are clamped here: above, a size in bytes is no size.
const LARGEST_NUMBER: f32 = 1e15;

/// What the trees see; as it was on arrival.
///
/// 0–1 route: mean, EWMA of ln cost. 2–5 route × consumer: mean, EWMA, last, ln(1 + count). 6–9 the same of the
/// parameter key, 10–13 of parameter key × consumer. 14–15 ln(1 + seconds) since route × consumer and parameter key
/// were last seen. 16–23 ln(1 + number) or -1. 24–31 categories as codes in (0, 1], 0 where absent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features(pub [f32; FEATURES]);

/// Where in [`Features`] the groups begin.
mod place {
    pub(super) const ROUTE: usize = 0;
    pub(super) const CONSUMER: usize = 2;
    pub(super) const PARAMETERS: usize = 6;
    pub(super) const BOTH: usize = 10;
    pub(super) const AGES: usize = 14;
    pub(super) const NUMBERS: usize = 16;
    pub(super) const CATEGORIES: usize = 24;
}

/// Concurrent table of running statistics: many readers, one writer, no lock (relaxed atomics).
#[derive(Debug)]
pub struct KeyTable {
    cells: Cells,
    global: Cell,
    classes: CostClasses,
    /// Lowest and highest ln cost ever seen.
    range: [AtomicU32; 2],
    /// Half-width of the key means' intervals, in spreads.
    mean_scale: AtomicU32,
    /// Correction of the model's intervals, as a factor.
    model_scale: AtomicU32,
}

/// A copy of the table for the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyTableState {
    cells: Vec<TaggedCell>,
    global: CellView,
    classes: CostClassesState,
    range: [f32; 2],
    mean_scale: f32,
    model_scale: f32,
}

/// One key's statistics with its mean shrunk towards its parent's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub view: CellView,
    /// Shrunk mean of ln cost.
    pub mean: f32,
}

/// All that the table knows about one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub global: Level,
    pub route: Level,
    pub consumer: Level,
    pub parameters: Level,
    pub both: Level,
}

/// The cells' keys of one request.
struct Keys {
    route: u64,
    consumer: u64,
    parameters: u64,
    both: u64,
}

impl Features {
    /// ln cost that the per-key running means answered on arrival: parameter key, else route × consumer, else route.
    pub fn key_mean_log(&self) -> f32 {
        let seen = |at: usize| self.0[at + 3] >= ENOUGH.ln_1p();
        if seen(place::PARAMETERS) {
            self.0[place::PARAMETERS]
        } else if seen(place::CONSUMER) {
            self.0[place::CONSUMER]
        } else {
            self.route_mean_log()
        }
    }

    /// ln cost that the route's mean answered on arrival.
    pub fn route_mean_log(&self) -> f32 {
        self.0[place::ROUTE]
    }
}

impl Level {
    fn under(parent: f32, view: CellView) -> Self {
        Self {
            view,
            mean: (view.count * view.log_mean + PRIOR_WEIGHT * parent) / (view.count + PRIOR_WEIGHT),
        }
    }

    /// Whether it has seen enough to answer by itself.
    pub(crate) fn answers(&self) -> bool {
        self.view.count >= ENOUGH
    }

    fn statistics(&self) -> [f32; 4] {
        let seen = self.view.count > 0.0;
        let or_mean = |value: f32| if seen { value } else { self.mean };
        [
            self.mean,
            or_mean(self.view.log_ewma),
            or_mean(self.view.log_last),
            self.view.count.max(0.0).ln_1p(),
        ]
    }

    fn age_feature(&self, now: u32) -> f32 {
        if self.view.count <= 0.0 {
            return ABSENT;
        }
        let age = now.wrapping_sub(self.view.seen);
        let age = if age > u32::MAX / 2 { 0 } else { age };
        (age as f32 * 0.065_536).ln_1p()
    }
}

impl Known {
    /// As the trees see it.
    pub(crate) fn features(&self, query: &CostQuery, now: Timestamp) -> Features {
        let mut row = [0.0; FEATURES];
        row[place::ROUTE..place::CONSUMER].copy_from_slice(&self.route.statistics()[..2]);
        row[place::CONSUMER..place::PARAMETERS].copy_from_slice(&self.consumer.statistics());
        row[place::PARAMETERS..place::BOTH].copy_from_slice(&self.parameters.statistics());
        row[place::BOTH..place::AGES].copy_from_slice(&self.both.statistics());
        row[place::AGES] = self.consumer.age_feature(ticks(now));
        row[place::AGES + 1] = self.parameters.age_feature(ticks(now));
        for slot in 0..NUMBERS {
            row[place::NUMBERS + slot] = number_feature(query.numbers[slot]);
        }
        for slot in 0..CATEGORIES {
            row[place::CATEGORIES + slot] = category_feature(query.categories[slot]);
        }
        Features(row)
    }

    /// The key that answers when there is no model; `None` if none was seen often enough.
    pub(crate) fn key_answer(&self) -> Option<&Level> {
        [&self.parameters, &self.consumer].into_iter().find(|level| level.answers())
    }
}

impl KeyTable {
    /// `cells`: capacity, rounded up to a power of two.
    pub fn new(cells: usize) -> Self {
        let table = Self {
            cells: Cells::new(cells),
            global: Cell::default(),
            classes: CostClasses::new(),
            range: Default::default(),
            mean_scale: AtomicU32::new(interval::NORMAL_SCALE.to_bits()),
            model_scale: AtomicU32::new(1f32.to_bits()),
        };
        store(&table.range[0], f32::INFINITY);
        store(&table.range[1], f32::NEG_INFINITY);
        table
    }

    /// Features of a request as the table knows it now. All finite.
    pub fn features(&self, query: &CostQuery, now: Timestamp) -> Features {
        self.known(query).features(query, now)
    }

    /// Learns the measured work of a finished request, microseconds at speed 1. Ignores what is not finite or <= 0.
    pub fn observe(&self, query: &CostQuery, work_us: f64, now: Timestamp) {
        if !work_us.is_finite() || work_us <= 0.0 {
            return;
        }
        let work_us = work_us.clamp(LABEL_RANGE_US.0, LABEL_RANGE_US.1) as f32;
        let label = Label { log: work_us.ln(), work_us, seen: ticks(now) };
        let keys = Keys::of(query);
        self.judge_key_mean(&keys, label.log);
        for key in [keys.route, keys.consumer, keys.parameters, keys.both] {
            self.cells.observe(key, label);
        }
        self.global.put(self.global.view().with(label));
        self.classes.observe(label.log);
        store(&self.range[0], load(&self.range[0]).min(label.log));
        store(&self.range[1], load(&self.range[1]).max(label.log));
    }

    /// Holds an answer against the truth once it is known, so that the model's intervals keep their level: call it
    /// for each finished request whose answer came from the model. Answers of running means are judged by `observe`.
    pub fn judge(&self, answer: &CostEstimate, work_us: f64) {
        let judged = answer.basis == CostBasis::Model;
        if judged && work_us.is_finite() && work_us > 0.0 {
            let scale = interval::tracked(load(&self.model_scale), !answer.work_us.covers(work_us));
            store(&self.model_scale, scale);
        }
    }

    /// Cells in use, for metrics.
    pub fn occupied(&self) -> usize {
        self.cells.occupied()
    }

    /// Upper ends of light, medium and heavy, microseconds.
    pub fn class_borders_us(&self) -> [f64; 3] {
        self.classes.borders_us()
    }

    /// How a cost ranks among those seen lately.
    pub fn class_of(&self, work_us: f64) -> CostClass {
        self.classes.class_of(work_us)
    }

    /// For the state file.
    pub fn snapshot(&self) -> KeyTableState {
        KeyTableState {
            cells: self.cells.snapshot(),
            global: self.global.view(),
            classes: self.classes.snapshot(),
            range: [load(&self.range[0]), load(&self.range[1])],
            mean_scale: load(&self.mean_scale),
            model_scale: load(&self.model_scale),
        }
    }

    /// Fills an empty table from a state file.
    pub fn restore(&self, state: &KeyTableState) {
        self.cells.restore(&state.cells);
        self.global.put(state.global);
        self.classes.restore(&state.classes);
        if state.range.iter().all(|end| end.is_finite()) {
            store(&self.range[0], state.range[0]);
            store(&self.range[1], state.range[1]);
        }
        store(&self.mean_scale, interval::sound(state.mean_scale, interval::NORMAL_SCALE));
        store(&self.model_scale, interval::sound(state.model_scale, 1.0));
    }

    /// Everything about a request, looked up once.
    pub(crate) fn known(&self, query: &CostQuery) -> Known {
        let keys = Keys::of(query);
        let global = self.global.view();
        let prior = if global.count > 0.0 { global.log_mean } else { (PRIOR_WORK_US as f32).ln() };
        let route = Level::under(prior, self.cells.view(keys.route));
        let consumer = Level::under(route.mean, self.cells.view(keys.consumer));
        let parameters = Level::under(route.mean, self.cells.view(keys.parameters));
        // Effects of consumer and parameters multiply until their pair has been seen often enough to say otherwise.
        let product = parameters.mean + consumer.mean - route.mean;
        let both = Level::under(product, self.cells.view(keys.both));
        Known { global: Level { view: global, mean: prior }, route, consumer, parameters, both }
    }

    /// Half-width of a key mean's interval, in spreads of that key.
    pub(crate) fn mean_scale(&self) -> f32 {
        load(&self.mean_scale)
    }

    /// Factor on the model's own interval.
    pub(crate) fn model_scale(&self) -> f32 {
        load(&self.model_scale)
    }

    /// Whether an answer is within a factor of `slack` of what was ever measured; true while nothing was.
    pub(crate) fn is_plausible(&self, log_work: f32, slack: f32) -> bool {
        let (low, high) = (load(&self.range[0]), load(&self.range[1]));
        low > high || (log_work >= low - slack.ln() && log_work <= high + slack.ln())
    }

    /// Holds the running means' answer against the truth, before they learn it.
    fn judge_key_mean(&self, keys: &Keys, log_work: f32) {
        let views = [keys.parameters, keys.consumer].map(|key| self.cells.view(key));
        let Some(view) = views.iter().find(|view| view.count >= ENOUGH) else { return };
        let scale = load(&self.mean_scale);
        let missed = (log_work - view.log_mean).abs() > scale * view.spread.max(interval::LEAST_SPREAD);
        store(&self.mean_scale, interval::tracked(scale, missed));
    }
}

impl Keys {
    fn of(query: &CostQuery) -> Self {
        // Distinct first halves keep the four kinds apart even where their parts are equal.
        let parameters = query.parameter_key();
        Self {
            route: hash::pair(1, query.route_key),
            consumer: hash::pair(hash::pair(2, query.route_key), query.consumer_key),
            parameters: hash::pair(3, parameters),
            both: hash::pair(hash::pair(4, parameters), query.consumer_key),
        }
    }
}

fn number_feature(number: f32) -> f32 {
    // NaN compares false and so counts as absent.
    if number >= 0.0 { number.min(LARGEST_NUMBER).ln_1p() } else { ABSENT }
}

fn category_feature(category: u64) -> f32 {
    if category == 0 { 0.0 } else { ((hash::mix(category) >> 48) + 1) as f32 / 65_536.0 }
}
