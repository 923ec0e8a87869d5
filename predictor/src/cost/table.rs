//! What is known about a request before it is forwarded: running statistics of the keys it belongs to, as features.
//!
//! Keys form a tree: all → route → {route × source, parameter key → fine parameter key → the same × source}. Each mean of log cost
//! is shrunk towards its parent, `(n·mean + 5·parent) / (n + 5)`, so a key seen twice says little and one seen a
//! hundred times speaks for itself (empirical Bayes in its simplest form). Trees on ids alone lose to such means on
//! most real traffic; trees on the means beat both.
//!
//! One writer calls [`KeyTable::observe`] and [`KeyTable::complete`]; any thread may call the rest. No lock, no allocation.
//! Whatever a request or a label holds (NaN, infinities, a million consumers), memory stays and every feature is finite.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use wide::f32x4;

use crate::cost::approx;
use crate::cost::cells::{Cell, CellView, Cells, Label, Tag, TaggedCell, load, store, ticks};
use crate::cost::classes::{CostClasses, CostClassesState};
use crate::cost::estimator::CostPrediction;
use crate::cost::features::{ENOUGH, FEATURES, Features, place};
use crate::cost::interval;
use crate::cost::lanes::{at_least, at_most, first, towards};
use crate::cost::query::{ABSENT, CATEGORIES, CostClass, CostQuery};
use crate::cost::recent::{Recent, Same, SavedSlot};
use crate::cost::routes::{RouteSkill, Routes, SavedTrack, TrackView};
use crate::cost::verdict::Truth;
use crate::hash;
use crate::time::Timestamp;

/// Observations that the parent's mean is worth.
const PRIOR_WEIGHT: f32 = 5.0;
/// ln of [`PRIOR_WORK_US`]; a test holds it.
const PRIOR_LOG: f32 = 9.210_340_5;
/// Labels are clamped to these, microseconds: nothing real costs less, nothing is proxied longer (an hour).
const LABEL_RANGE_US: (f64, f64) = (0.01, 3.6e9);
/// Numeric parameters are clamped here: above, a size in bytes is no size.
const LARGEST_NUMBER: f32 = 1e15;
/// Weight of the newest deviation in the common one: about the last fifty requests.
const MOOD_RATE: f32 = 0.02;
/// In what it shares with others, a consumer's own mean may lie this far from the rest, in ln cost (a factor of four);
/// what is beyond is taken off its labels there, while its own cells learn them as they are. So one that lies, or is just
/// far more expensive than everybody else, moves a mean that others are answered from by its share of the traffic times
/// four at most, and not by a hundred thousand. Tenants of one service rarely differ by more at the same parameters.
pub(crate) const OWN_REACH: f32 = 1.386;
/// e to that.
const DEAR: f32 = 4.0;
/// Exact requests remembered per cell of the table.
const RECENT_PER_CELL: usize = 4;

/// Concurrent table of running statistics: many readers, one writer, no lock (relaxed atomics).
#[derive(Debug)]
pub struct KeyTable {
    cells: Cells,
    recent: Recent,
    routes: Routes,
    global: Cell,
    classes: CostClasses,
    /// Lowest and highest ln cost ever seen.
    range: [AtomicU32; 2],
    /// Half-width of the intervals, in mean deviations of the route.
    scale: AtomicU32,
    /// Recent common deviation of all routes from their means.
    mood: AtomicU32,
    censored: [AtomicU64; 2],
}

/// A copy of the table for the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyTableState {
    cells: Vec<TaggedCell>,
    recent: Vec<SavedSlot>,
    routes: Vec<SavedTrack>,
    global: CellView,
    classes: CostClassesState,
    range: [f32; 2],
    scale: f32,
    mood: f32,
}

/// What was measured of a finished request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Work, microseconds at speed 1.
    pub work_us: f64,
    /// Size of the response, bytes, if known.
    pub bytes: Option<f64>,
    /// True when it was cut short (cancelled, failed): the cost is at least this.
    pub censored: bool,
}

/// One key's statistics with its mean shrunk towards its parent's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub view: CellView,
    /// Shrunk mean of ln cost and shares above the class borders.
    pub gist: f32x4,
}

/// All that the table knows about one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub keys: Keys,
    pub global: Level,
    pub route: Level,
    pub source: Level,
    pub parameters: Level,
    pub fine: Level,
    pub both: Level,
    /// The very same request.
    pub same: Same,
    pub track: TrackView,
    pub mood: f32,
}

/// Added to the sums that keys are made of, by what they are keys of.
const KINDS: [u64; 6] =
    [hash::mix(100), hash::mix(101), hash::mix(102), hash::mix(103), hash::mix(104), hash::mix(105)];
/// What a consumer counts in such a sum.
const CONSUMER: u64 = hash::mix(106) | 1;

/// Where the statistics of one request are kept; goes with its prediction, so that they are hashed once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Keys {
    route: Tag,
    source: Tag,
    parameters: Tag,
    fine: Tag,
    both: Tag,
    exact: u64,
}

/// How far a consumer's own mean lies beyond [`OWN_REACH`] from that of a cell it shares with others; ln cost, as known on
/// arrival. `own` and `shared`: where the features of the two cells begin. Only cells that differ in nothing but the consumer
/// can be compared: unlike parameters are no lie.
fn excess(features: &Features, own: usize, shared: usize) -> f32 {
    let apart = features.0[own] - features.0[shared];
    apart - apart.clamp(-OWN_REACH, OWN_REACH)
}

/// Shares of costs above the class borders, by definition; behind a place for the mean of ln cost.
const PRIOR_ABOVE: f32x4 = f32x4::new([0.0, 0.50, 0.20, 0.05]);

/// How far what was seen so often speaks for itself.
#[inline(always)]
fn weight(count: f32) -> f32 {
    count / (count + PRIOR_WEIGHT)
}

/// A gist seen so often, shrunk towards its parent's.
#[inline(always)]
fn shrunk(parent: f32x4, own: f32x4, count: f32) -> f32x4 {
    towards(parent, own, f32x4::splat(weight(count)))
}

impl Level {
    #[inline(always)]
    fn under(parent: f32x4, view: CellView) -> Self {
        Self { view, gist: shrunk(parent, view.gist, view.count) }
    }

    /// Shrunk mean of ln cost.
    pub(crate) fn mean(&self) -> f32 {
        self.gist.as_array()[0]
    }

    /// How much more it costs than others who ask the same, ln cost. Learned against what its parameters cost: who asks for
    /// expensive things is not expensive.
    #[inline(always)]
    fn effect(&self) -> f32 {
        self.view.effect * weight(self.view.count)
    }

    /// Whether it has seen enough to answer by itself.
    pub(crate) fn answers(&self) -> bool {
        self.view.count >= ENOUGH
    }

    /// Shrunk mean, moving average and last of ln cost, and a place for the count.
    #[inline(always)]
    fn statistics(&self) -> [f32; 4] {
        let seen = self.view.count > 0.0;
        let or_mean = |value: f32| if seen { value } else { self.mean() };
        [self.mean(), or_mean(self.view.log_ewma()), or_mean(self.view.log_last), 0.0]
    }

    /// Seconds since it was last seen; [`ABSENT`]: never.
    #[inline(always)]
    fn age_s(&self, now: u32) -> f32 {
        // A clock that went back makes a negative age.
        let age = now.wrapping_sub(self.view.seen) as i32;
        if self.view.count > 0.0 { age.max(0) as f32 * 0.065_536 } else { ABSENT }
    }
}

impl Known {
    /// As the trees see it.
    #[inline(always)]
    pub(crate) fn features(&self, query: &CostQuery, now: Timestamp) -> Features {
        let mut row = [0.0; FEATURES];
        let mut put = |at: usize, level: &Level| row[at..at + 4].copy_from_slice(&level.statistics());
        put(place::ROUTE, &self.route);
        put(place::SOURCE, &self.source);
        put(place::PARAMETERS, &self.parameters);
        put(place::FINE, &self.fine);
        put(place::BOTH, &self.both);
        let was_seen = self.same.count > 0.0;
        row[place::EXACT] = if was_seen { self.same.log_last } else { self.both.mean() };
        let [route, source, parameters, fine, both, same, in_flight, same_age, source_age, fine_age, ..] =
            amount_features([
                self.route.view.count,
                self.source.view.count,
                self.parameters.view.count,
                self.fine.view.count,
                self.both.view.count,
                self.same.count,
                query.in_flight,
                if was_seen { self.same.age as f32 } else { ABSENT },
                self.source.age_s(ticks(now)),
                self.fine.age_s(ticks(now)),
                // Whole vectors are quicker.
                ABSENT,
                ABSENT,
            ]);
        row[place::ROUTE + 3] = route;
        row[place::SOURCE + 3] = source;
        row[place::PARAMETERS + 3] = parameters;
        row[place::FINE + 3] = fine;
        row[place::BOTH + 3] = both;
        row[place::SAME + 1] = same;
        row[place::IN_FLIGHT] = in_flight;
        row[place::EXACT + 1] = same_age;
        row[place::AGES] = source_age;
        row[place::AGES + 1] = fine_age;
        // Values and not references are chosen: the levels can then stay in registers.
        let of_parameters = self.parameters.answers();
        let (route, parameters) = (&self.route.view, &self.parameters.view);
        let log_mean = if of_parameters { parameters.log_mean() } else { route.log_mean() };
        let mean_us = if of_parameters { parameters.mean_us() } else { route.mean_us() };
        row[place::SPREAD] = if of_parameters { parameters.spread() } else { route.spread() };
        row[place::TAIL] = if mean_us > 0.0 { approx::ln(mean_us) - log_mean } else { 0.0 };
        row[place::MOOD] = self.mood;
        let numbers = row[place::NUMBERS..place::CATEGORIES].as_chunks_mut::<4>().0;
        for (features, numbers) in numbers.iter_mut().zip(query.numbers.as_chunks::<4>().0) {
            // Few requests have many: what is absent needs no logarithm.
            let is_any_there = f32x4::new(*numbers).simd_ge(f32x4::ZERO).any();
            *features = if is_any_there { amount_features(*numbers) } else { [ABSENT; 4] };
        }
        for slot in 0..CATEGORIES {
            row[place::CATEGORIES + slot] = category_feature(query.categories[slot]);
        }
        row[place::ABOVE..place::ABOVE + 3].copy_from_slice(&self.parameter_gist().as_array()[1..]);
        row[place::ROUTE_CODE] = category_feature(query.route_key);
        let [mean, above @ ..] = self.same_gist(self.both.mean()).to_array();
        row[place::SAME] = mean;
        row[place::SAME + 2..place::ANCHOR].copy_from_slice(&above);
        row[place::ANCHOR] = self.both.mean();
        Features(row)
    }

    /// Mean and class histogram of the parameters, of their own source where that was seen often enough.
    #[inline(always)]
    pub(crate) fn parameter_gist(&self) -> f32x4 {
        if self.both.answers() { self.both.gist } else { self.fine.gist }
    }

    /// Mean and class histogram of the very same request. The mean is shrunk towards `mean`, the histogram towards that of
    /// all requests: those that merely look like it say less.
    #[inline(always)]
    pub(crate) fn same_gist(&self, mean: f32) -> f32x4 {
        shrunk(PRIOR_ABOVE + first(mean), self.same.gist, self.same.count)
    }

    /// Class histogram of the very same request, shrunk towards that of those who ask alike.
    #[inline(always)]
    pub(crate) fn same_among_alike(&self) -> f32x4 {
        shrunk(self.fine.gist, self.same.gist, self.same.count)
    }

    /// How much more this consumer's own requests of the kind cost than `log`, ln cost; the less, the fewer there were.
    #[inline(always)]
    pub(crate) fn own_over(&self, log: f32) -> f32 {
        let own = &self.both.view;
        weight(own.count) * (own.log_mean() - log)
    }

    /// Spread, mean cost (µs) and mean of ln cost of the key that answers when there is no model; `None` if none was seen
    /// often enough.
    #[inline(always)]
    pub(crate) fn key_answer(&self) -> Option<[f32; 3]> {
        let of = |view: &CellView| [view.spread(), view.mean_us(), view.log_mean()];
        if self.fine.answers() {
            Some(of(&self.fine.view))
        } else if self.parameters.answers() {
            Some(of(&self.parameters.view))
        } else {
            self.source.answers().then(|| of(&self.source.view))
        }
    }
}

impl KeyTable {
    /// `cells`: capacity, rounded up to a power of two.
    pub fn new(cells: usize) -> Self {
        let table = Self {
            cells: Cells::new(cells),
            recent: Recent::new(cells.clamp(64, 1 << 18) * RECENT_PER_CELL),
            routes: Routes::new(),
            global: Cell::default(),
            classes: CostClasses::new(),
            range: Default::default(),
            scale: AtomicU32::new(interval::NORMAL_SCALE.to_bits()),
            mood: AtomicU32::new(0),
            censored: Default::default(),
        };
        store(&table.range[0], f32::INFINITY);
        store(&table.range[1], f32::NEG_INFINITY);
        table
    }

    /// Features of a request as the table knows it now. All finite.
    pub fn features(&self, query: &CostQuery, now: Timestamp) -> Features {
        self.known(query).features(query, now)
    }

    /// A finished request: judges its prediction and learns its cost. One that was cut short teaches only where it
    /// has already cost more than was expected (then it can only raise the mean); else it is dropped and counted.
    /// Whether it was learned; a row of the training sample should be kept exactly then. `prediction` is the one made
    /// for this query.
    pub fn complete(
        &self,
        query: &CostQuery,
        prediction: &CostPrediction,
        measured: &Measured,
        now: Timestamp,
    ) -> bool {
        let Measured { work_us, bytes, censored } = *measured;
        if !work_us.is_finite() || work_us <= 0.0 {
            return false;
        }
        if censored {
            let raises = work_us > prediction.estimate.work_us.mean();
            self.censored[usize::from(raises)].fetch_add(1, Relaxed);
            if !raises {
                return false;
            }
        }
        let label = self.label(work_us, bytes.filter(|_| !censored), now);
        if !censored {
            self.judge(query, prediction, &label);
        }
        self.learn(prediction.keys, &prediction.features, &label);
        true
    }

    /// Learns the measured work of a finished request, microseconds at speed 1. Ignores what is not finite or <= 0.
    pub fn observe(&self, query: &CostQuery, work_us: f64, now: Timestamp) {
        if work_us.is_finite() && work_us > 0.0 {
            self.learn(Keys::of(query), &self.features(query, now), &self.label(work_us, None, now));
        }
    }

    /// A finite positive cost, clamped and ranked.
    fn label(&self, work_us: f64, bytes: Option<f64>, now: Timestamp) -> Label {
        let work_us = work_us.clamp(LABEL_RANGE_US.0, LABEL_RANGE_US.1) as f32;
        let log = approx::ln(work_us);
        let above = self.above(work_us);
        let bytes =
            bytes.filter(|bytes| bytes.is_finite() && *bytes >= 0.0).map(|bytes| bytes.min(1e15) as f32);
        Label { log, work_us, above, over: 0.0, bytes, seen: ticks(now) }
    }

    /// 0, then 1 for each class border that a cost is above, else 0.
    #[inline(always)]
    fn above(&self, work_us: f32) -> f32x4 {
        let above = f32x4::splat(work_us).simd_gt(self.classes.borders());
        above & f32x4::ONE
    }

    /// Own cells learn the label as it is, shared ones without the consumer's excess.
    fn learn(&self, keys: Keys, features: &Features, label: &Label) {
        // What was expected before anybody had asked says nothing about who asks.
        let was_seen = features.0[place::ROUTE + 3] > 0.0;
        let over = if was_seen { label.log - features.0[place::FINE] } else { 0.0 };
        let own = Label { over, ..*label };
        let [source, both] = [keys.source, keys.both].map(|key| self.cells.observe(key, |_| own));
        let mut alike = *label;
        self.cells.observe(keys.fine, |fine| {
            alike = self.without(label, excess(features, place::BOTH, place::FINE), &both, fine);
            alike
        });
        self.cells.observe(keys.parameters, |_| alike);
        self.recent.note(keys.exact, alike.gist());
        let mut shared = *label;
        let route = self.cells.observe(keys.route, |route| {
            shared = self.without(label, excess(features, place::SOURCE, place::ROUTE), &source, route);
            shared
        });
        if route.count > 0.0 {
            let mood = load(&self.mood);
            store(&self.mood, mood + MOOD_RATE * ((shared.log - route.log_mean()).clamp(-3.0, 3.0) - mood));
        }
        self.global.put(self.global.view().with(&shared));
        self.classes.observe(shared.log);
        // What was really measured: what the model says of an expensive consumer must stay believable.
        store(&self.range[0], load(&self.range[0]).min(label.log));
        store(&self.range[1], load(&self.range[1]).max(label.log));
    }

    /// A label as a shared cell learns it: without its consumer's `excess` of logs or what its mean cost, in its `own` cell, is
    /// beyond. Who is dear now and then has a mean of logs that is nearly usual, and a mean cost that is not. What is taken off
    /// never carries a label to the other side of the usual, and what is left is within reach of it.
    #[inline(always)]
    fn without(&self, label: &Label, excess: f32, own: &CellView, shared: &CellView) -> Label {
        // One that was seen once or twice says nothing of its consumer.
        let own_us = if own.count >= ENOUGH { own.mean_us() } else { 0.0 };
        let is_usual = excess == 0.0 && own_us <= DEAR * shared.mean_us();
        if is_usual { *label } else { self.cut(label, excess, own_us, shared) }
    }

    #[cold]
    fn cut(&self, label: &Label, excess: f32, own_us: f32, shared: &CellView) -> Label {
        let dear = approx::ln(own_us / shared.mean_us()) - OWN_REACH;
        let too_much = at_least(at_least(excess, dear), 0.0);
        let usual = if shared.count > 0.0 { shared.log_mean() } else { label.log - excess };
        let log = if label.log > usual {
            at_least(at_most(label.log - too_much, usual + OWN_REACH), usual)
        } else {
            at_most(label.log - at_most(excess, 0.0), usual)
        };
        let work_us = approx::exp(log);
        Label { log, work_us, above: self.above(work_us), ..*label }
    }

    /// Holds an answer against the truth once it is known: who answers best on that route, how totals and intervals
    /// must be corrected.
    fn judge(&self, query: &CostQuery, prediction: &CostPrediction, label: &Label) {
        let (log, answers) = (label.log, &prediction.answers);
        // Who lies now and then has a mean of logs like others, and a mean cost that is not.
        let excess = at_least(excess(&prediction.features, place::SOURCE, place::ROUTE), answers.excess);
        self.routes.judge(query.route_key, answers, Truth { log, above: label.above, excess });
        let missed = (log - answers.log_served).abs() > answers.half_width;
        store(&self.scale, interval::tracked(load(&self.scale), missed));
    }

    /// Cells in use, for metrics.
    pub fn occupied(&self) -> usize {
        self.cells.occupied()
    }

    /// Requests cut short: dropped, and learned because they had already cost more than expected.
    pub fn censored(&self) -> (u64, u64) {
        (self.censored[0].load(Relaxed), self.censored[1].load(Relaxed))
    }

    /// How well each route is predicted.
    pub fn skills(&self) -> Vec<RouteSkill> {
        self.routes.skills()
    }

    /// Mean size of the responses to requests like this, bytes: of its parameter key, else of source, route, all;
    /// `None` while none was measured.
    pub fn expected_bytes(&self, query: &CostQuery) -> Option<f64> {
        let known = self.known(query);
        let levels = [&known.fine, &known.parameters, &known.source, &known.route, &known.global];
        levels.into_iter().map(|level| level.view.bytes()).find(|&bytes| bytes > 0.0).map(f64::from)
    }

    /// Upper ends of light, medium and heavy, microseconds.
    pub fn class_borders_us(&self) -> [f64; 3] {
        self.classes.borders_us()
    }

    /// Keeps the class borders where they are put, for runs that compare classes over time.
    pub fn pin_class_borders(&self, borders_us: [f64; 3]) {
        self.classes.pin(borders_us);
    }

    /// How a cost ranks among those seen lately.
    pub fn class_of(&self, work_us: f64) -> CostClass {
        self.classes.class_of(work_us)
    }

    /// For the state file.
    pub fn snapshot(&self) -> KeyTableState {
        KeyTableState {
            cells: self.cells.snapshot(),
            recent: self.recent.snapshot(),
            routes: self.routes.snapshot(),
            global: self.global.view(),
            classes: self.classes.snapshot(),
            range: [load(&self.range[0]), load(&self.range[1])],
            scale: load(&self.scale),
            mood: load(&self.mood),
        }
    }

    /// Fills an empty table from a state file.
    pub fn restore(&self, state: &KeyTableState) {
        self.cells.restore(&state.cells);
        self.recent.restore(&state.recent);
        self.routes.restore(&state.routes);
        if state.global.is_sound() {
            self.global.put(state.global);
        }
        self.classes.restore(&state.classes);
        if state.range.iter().all(|end| end.is_finite()) {
            store(&self.range[0], state.range[0]);
            store(&self.range[1], state.range[1]);
        }
        store(&self.scale, interval::sound(state.scale, interval::NORMAL_SCALE));
        if state.mood.is_finite() {
            store(&self.mood, state.mood);
        }
    }

    /// Everything about a request, looked up once.
    #[inline(always)]
    pub(crate) fn known(&self, query: &CostQuery) -> Known {
        let keys = Keys::of(query);
        let view = self.global.view();
        let prior = if view.count > 0.0 { view.log_mean() } else { PRIOR_LOG };
        let global = Level { view, gist: PRIOR_ABOVE + first(prior) };
        let route = Level::under(global.gist, self.cells.view(keys.route));
        let source = Level::under(route.gist, self.cells.view(keys.source));
        let parameters = Level::under(route.gist, self.cells.view(keys.parameters));
        // Effects of source and parameters multiply until their pair has been seen often enough to say otherwise.
        let fine = Level::under(parameters.gist, self.cells.view(keys.fine));
        let product = fine.gist + first(source.effect());
        let both = Level::under(product, self.cells.view(keys.both));
        Known {
            keys,
            global,
            route,
            source,
            parameters,
            fine,
            both,
            same: self.recent.same(keys.exact),
            track: self.routes.view(query.route_key),
            mood: load(&self.mood),
        }
    }

    /// Half-width of the intervals, in mean deviations of the route.
    pub(crate) fn scale(&self) -> f32 {
        load(&self.scale)
    }

    /// What holds for all routes together.
    pub(crate) fn track_of_all(&self) -> TrackView {
        self.routes.all()
    }

    /// Whether an answer is within a factor of e^`slack` of what was ever measured; true while nothing was.
    pub(crate) fn is_plausible(&self, log_work: f32, slack: f32) -> bool {
        let (low, high) = (load(&self.range[0]), load(&self.range[1]));
        low > high || (log_work >= low - slack && log_work <= high + slack)
    }
}

impl Keys {
    fn of(query: &CostQuery) -> Self {
        // A constant for each kind keeps them apart even where their parts are equal.
        let sums = query.parameter_sums();
        let consumer = query.consumer_key.wrapping_mul(CONSUMER);
        let key = |kind: usize, sum: u64| hash::fold(sum.wrapping_add(KINDS[kind]));
        Self {
            route: Tag::of(key(0, query.route_key)),
            source: Tag::of(key(1, query.route_key.wrapping_add(consumer))),
            parameters: Tag::of(key(2, sums.alike)),
            fine: Tag::of(key(3, sums.close)),
            both: Tag::of(key(4, sums.close.wrapping_add(consumer))),
            exact: key(5, sums.exact),
        }
    }
}

/// ln(1 + amount) of each, or [`ABSENT`].
#[inline(always)]
fn amount_features<const N: usize>(amounts: [f32; N]) -> [f32; N] {
    // Plain loops over arrays, which become vectors. NaN compares false and so counts as absent.
    let mut sums = [1.0; N];
    for (sum, amount) in sums.iter_mut().zip(amounts) {
        *sum += at_most(at_least(amount, 0.0), LARGEST_NUMBER);
    }
    let mut features = approx::ln_each(sums);
    for (feature, amount) in features.iter_mut().zip(amounts) {
        *feature = if amount >= 0.0 { *feature } else { ABSENT };
    }
    features
}

/// A code in (0, 1], 0 where there is none.
#[inline(always)]
fn category_feature(category: u64) -> f32 {
    // Multiplied and not spread further: only the upper bits are used, and they depend on all below (Fibonacci hashing).
    let code = (category.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as i32 + 1;
    if category == 0 { 0.0 } else { code as f32 / 65_536.0 }
}
