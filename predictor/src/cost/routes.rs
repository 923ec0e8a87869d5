//! How well each route is predicted, learned one completed request at a time: who answers, how far it is to be
//! believed, how it must be scaled, and how wide its interval is.
//!
//! Per route, over about the last `MEMORY` completions:
//!
//! - squared errors in ln cost of the model, of the key's mean and of the route's mean, each judged on every request
//!   whoever served it: the smallest answers, so a model never serves where a mean is better;
//! - *trust* `β = cov(f - m, y - m) / var(f - m)` in [0, 1]: the served ln cost is `m + β·(f - m)` around the route's
//!   mean m, so that a model that knows nothing shrinks to the mean smoothly instead of flapping;
//! - *smear*, sum of costs over sum of predicted costs, which makes totals right (Duan 1983, online);
//! - scale of the interval (mean deviation) and alarms of drift: Page–Hinkley (Biometrika 1954) on residuals less
//!   the common mode of all routes; alarms inform, the clock retrains.
//!
//! Routes live in `ROUTES` slots; those that find none share one. New routes start from what holds for all.
//! One writer, any number of readers, relaxed atomics.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::cost::approx;
use crate::cost::cells::{load, store};
use crate::cost::classes::likeliest_class;
use crate::cost::interval::LEAST_SPREAD;
use crate::hash;

/// Slots for routes; configurations have fewer.
const ROUTES: usize = 1_024;
/// Slots a route may be in.
const PROBES: usize = 4;
/// Completions that a track remembers.
const MEMORY: f32 = 500.0;
/// Sums behind the smear forget with this: short, so that a bias that comes with the hour leaves totals at once. What it
/// adds in noise is common to all requests of a moment, which ranks them as before. The shorter, the smaller the
/// error of sums over 100 requests (100 to 50: a tenth, in the parts of the sets that are for learning); but below 80 what a
/// surge's own overload does to costs delays the answer to it by seconds.
const SMEAR_MEMORY: f32 = 80.0;
/// Completions that shares of right classes remember: longer, as classifiers differ by a per cent or two.
const CLASS_MEMORY: f32 = 2_000.0;
/// Completions that the mean deviation remembers.
const SPREAD_MEMORY: f32 = 50.0;
/// Weight of the newest miss in the correction of class shares.
const LIFT_RATE: f32 = 0.01;
/// Requests that the parent's value is worth.
const PRIOR_WEIGHT: f32 = 30.0;
/// A model this much worse in squared error than the best mean still answers: half a per cent in log-RMSE is a tie, and
/// who serves should not change with every request.
const TIE: f32 = 1.01;
/// Squared errors above this count as this: one absurd request must not decide who answers for a day.
const MOST_SQUARE: f32 = 16.0;
/// One request's cost counts as e^this (20) times the predicted one at most, in the smear.
const LN_MOST_RATIO: f32 = 3.0;
/// Smears are kept within these.
const SMEARS: (f32, f32) = (0.05, 20.0);
/// Page–Hinkley: drift that is let pass, and the sum of excess that raises an alarm, in mean deviations.
const DRIFT_ALLOWED: f32 = 0.3;
const DRIFT_ALARM: f32 = 60.0;

/// Which answers compete.
pub(crate) const MODEL: usize = 0;
pub(crate) const KEY: usize = 1;
pub(crate) const ROUTE: usize = 2;
/// Whose classes compete: the model's heads (first), and the histograms of parameters, source, route and of the very same
/// request.
pub(crate) const CLASSIFIERS: usize = 5;
/// The route's histogram among them.
const ROUTE_CLASSES: usize = 3;
/// Shares of right classes closer than that are the same: two classifiers that differ in a tenth of 2,000 requests by chance
/// alone end 0.7 % apart.
const CLEARLY: f32 = 0.01;

/// What every competitor said about one request; kept until the truth is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// ln cost by model (NaN without one), key mean, route mean.
    pub(crate) logs: [f32; 3],
    /// ln of the expected cost by the same, before smearing.
    pub(crate) mean_logs: [f32; 3],
    /// Shares above the class borders by the model and by the histograms of parameters, source, route and the same request.
    pub(crate) above: [[f32; 3]; CLASSIFIERS],
    /// Whether the route had been seen before; answers about an unknown one are not held against anybody.
    pub(crate) known: bool,
    /// Which of the three served.
    pub(crate) served: u8,
    /// ln cost that was served.
    pub(crate) log_served: f32,
    /// Half-width of the interval that was served, in ln cost.
    pub(crate) half_width: f32,
}

/// What a request cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    /// ln of it.
    pub log: f32,
    /// 1 for each class border it is above, else 0.
    pub above: [f32; 3],
    /// How far its consumer's own mean lies beyond what is usual on the route, ln cost: weighs that much less in totals.
    pub excess: f32,
}

/// One request's answers held against the truth: what is the same for the track of its route and that of all.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    /// ln of the cost, over the route's mean.
    over_mean: f32,
    /// ln cost by the model, over the route's mean; `None` without one.
    by_model: Option<f32>,
    /// Squared errors of the means (the model's place is not used: its error depends on the trust in it).
    squares: [f32; 3],
    /// 1 for each classifier that was right.
    hits: [f32; CLASSIFIERS],
    /// What the class heads' shares lacked.
    missing: [f32; 3],
    /// Cost and predicted costs, in units of the route's mean.
    cost: f32,
    predicted: [f32; 3],
    /// ln cost over what was served.
    residual: f32,
}

/// How a route is predicted, for people.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteSkill {
    /// Stable hash of the route's name; 0: routes beyond the slots.
    pub route_key: u64,
    /// Completions judged (at most about a million).
    pub seen: f32,
    /// 1 - squared error of the serving answers over the route mean's; 0 and less: knows nothing.
    pub skill: f32,
    /// Squared error in ln cost of model, key mean, route mean.
    pub errors: [f32; 3],
    /// How far the model is believed, 0 to 1.
    pub trust: f32,
    /// Factor from predicted to expected cost of the model.
    pub smear: f32,
    /// Mean deviation in ln cost of what was served.
    pub spread: f32,
    /// Alarms of drift so far.
    pub drift_alarms: f32,
}

/// Numbers of one route, as they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrackView {
    pub seen: f32,
    /// Of these, with a model's answer.
    pub by_model: f32,
    pub errors: [f32; 3],
    pub covariance: f32,
    pub variance: f32,
    /// Decayed means of cost over exp(anchor), and of the three predictions over the same.
    pub costs: f32,
    pub predicted: [f32; 3],
    pub spread: f32,
    /// Shares of right classes by classifier.
    pub hits: [f32; CLASSIFIERS],
    /// What the class heads' shares lack lately.
    pub lifts: [f32; 3],
    /// Page–Hinkley sums, upwards and downwards, and alarms.
    pub drift: [f32; 3],
}

/// How many numbers a track has.
const NUMBERS: usize = 23;

/// A route and its numbers, for the state file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedTrack {
    tag: u32,
    route_key: u64,
    view: TrackView,
}

/// One slot.
#[derive(Debug, Default)]
struct Track {
    tag: AtomicU32,
    /// Halves of the route's key, for people.
    key: [AtomicU32; 2],
    numbers: [AtomicU32; NUMBERS],
}

/// Tracks of all routes.
#[derive(Debug)]
pub(crate) struct Routes {
    tracks: Box<[Track]>,
    /// All completions together.
    all: Track,
    /// Recent mean of the standardised residual over all routes.
    common: AtomicU32,
}

impl TrackView {
    fn to_numbers(self) -> [f32; NUMBERS] {
        let Self { errors: e, predicted: p, hits: h, lifts: l, drift: d, .. } = self;
        let Self { seen, by_model, covariance, variance, costs, spread, .. } = self;
        [
            seen, by_model, covariance, variance, costs, spread, e[0], e[1], e[2], p[0], p[1], p[2], h[0],
            h[1], h[2], h[3], h[4], l[0], l[1], l[2], d[0], d[1], d[2],
        ]
    }

    fn from_numbers(n: [f32; NUMBERS]) -> Self {
        Self {
            seen: n[0],
            by_model: n[1],
            covariance: n[2],
            variance: n[3],
            costs: n[4],
            spread: n[5],
            errors: [n[6], n[7], n[8]],
            predicted: [n[9], n[10], n[11]],
            hits: [n[12], n[13], n[14], n[15], n[16]],
            lifts: [n[17], n[18], n[19]],
            drift: [n[20], n[21], n[22]],
        }
    }

    /// How far the model's distance from the route's mean is believed.
    pub(crate) fn trust(&self) -> f32 {
        if self.variance <= 0.0 {
            return 1.0;
        }
        let measured = (self.covariance / self.variance).clamp(0.0, 1.0);
        let weight = self.by_model / (self.by_model + PRIOR_WEIGHT);
        1.0 + weight * (measured - 1.0)
    }

    /// Who answers best: model, key mean or route mean. Before enough was judged: whoever knows most.
    pub(crate) fn best(&self, model_is_there: bool, key_is_there: bool) -> usize {
        let judged = self.by_model >= PRIOR_WEIGHT;
        let best_mean = self.errors[KEY].min(self.errors[ROUTE]);
        let model_leads = !judged || self.errors[MODEL] <= best_mean * TIE;
        if model_is_there && model_leads {
            return MODEL;
        }
        let key_leads = self.seen < PRIOR_WEIGHT || self.errors[KEY] < self.errors[ROUTE];
        if key_is_there && key_leads { KEY } else { ROUTE }
    }

    /// Whose class is served: whoever was right most often, but the route's own histogram unless another is clearly better;
    /// before enough was judged, who knows most.
    pub(crate) fn classifier(&self, model_is_there: bool) -> usize {
        let first = usize::from(!model_is_there);
        if first == 0 && self.by_model < PRIOR_WEIGHT {
            return 0;
        }
        let better =
            |best: usize, other: usize| if self.hits[other] > self.hits[best] { other } else { best };
        let best = (first + 1..CLASSIFIERS).fold(first, better);
        if self.hits[best] < self.hits[ROUTE_CLASSES] + CLEARLY { ROUTE_CLASSES } else { best }
    }

    /// Factor from one competitor's predicted to expected cost, drawn towards `parent`'s.
    pub(crate) fn smear(&self, who: usize, parent: f32) -> f32 {
        let seen = if who == MODEL { self.by_model } else { self.seen };
        let weight = seen.min(SMEAR_MEMORY);
        let own = weight * self.predicted[who];
        let prior = PRIOR_WEIGHT * self.predicted[who].max(1e-6);
        ((weight * self.costs + prior * parent) / (own + prior)).clamp(SMEARS.0, SMEARS.1)
    }

    /// Mean deviation of what is served, from the first request on.
    pub(crate) fn spread_under(&self, parent: f32) -> f32 {
        let weight = self.seen / (self.seen + PRIOR_WEIGHT);
        (weight * self.spread + (1.0 - weight) * parent).max(LEAST_SPREAD)
    }

    /// 1 - squared error of what serves over the route mean's.
    pub(crate) fn skill(&self) -> f32 {
        let best = self.errors[self.best(self.by_model > 0.0, true)];
        let rival = self.errors[ROUTE];
        if self.seen < PRIOR_WEIGHT || rival <= 0.0 { 0.0 } else { (1.0 - best / rival).clamp(-1.0, 1.0) }
    }

    /// With one more completion.
    fn with(mut self, verdict: &Verdict, common: f32) -> Self {
        self.seen = (self.seen + 1.0).min(1e6);
        let share = 1.0 / self.seen;
        for who in [KEY, ROUTE] {
            towards(&mut self.errors[who], verdict.squares[who], share.max(1.0 / MEMORY));
        }
        for classifier in 1..CLASSIFIERS {
            towards(&mut self.hits[classifier], verdict.hits[classifier], share.max(1.0 / CLASS_MEMORY));
        }
        if let Some(told) = verdict.by_model {
            self.judge_model(told, verdict);
        }
        let rate = share.max(1.0 / SMEAR_MEMORY);
        towards(&mut self.costs, verdict.cost, rate);
        for (mean, &told) in self.predicted.iter_mut().zip(&verdict.predicted) {
            towards(mean, told, rate);
        }
        self.watch_drift(verdict.residual, common);
        let deviation = verdict.residual.abs().min(4.0);
        towards(&mut self.spread, deviation, share.max(1.0 / SPREAD_MEMORY));
        self
    }

    /// Error, trust and class shares of the model, which said `told` over the route's mean.
    fn judge_model(&mut self, told: f32, verdict: &Verdict) {
        self.by_model = (self.by_model + 1.0).min(1e6);
        let share = 1.0 / self.by_model;
        let rate = share.max(1.0 / MEMORY);
        let missed = verdict.over_mean - self.trust() * told;
        let (told, was) = (told.clamp(-4.0, 4.0), verdict.over_mean.clamp(-4.0, 4.0));
        towards(&mut self.errors[MODEL], square(missed), rate);
        towards(&mut self.covariance, told * was, rate);
        towards(&mut self.variance, told * told, rate);
        towards(&mut self.hits[0], verdict.hits[0], share.max(1.0 / CLASS_MEMORY));
        for (lift, missing) in self.lifts.iter_mut().zip(verdict.missing) {
            *lift = (*lift + LIFT_RATE * missing).clamp(-0.5, 0.5);
        }
    }

    /// Page–Hinkley both ways on the residual in mean deviations, less the common mode; an alarm starts anew.
    fn watch_drift(&mut self, residual: f32, common: f32) {
        let x = standardised(residual, self.spread) - common;
        self.drift[0] = (self.drift[0] + x - DRIFT_ALLOWED).max(0.0);
        self.drift[1] = (self.drift[1] - x - DRIFT_ALLOWED).max(0.0);
        if self.drift[0] > DRIFT_ALARM || self.drift[1] > DRIFT_ALARM {
            self.drift = [0.0, 0.0, (self.drift[2] + 1.0).min(1e6)];
        }
    }
}

impl Verdict {
    fn of(answers: &Answers, truth: Truth) -> Self {
        let mean = answers.logs[ROUTE];
        let told = answers.logs[MODEL];
        let class = likeliest_class(truth.above);
        let mut hits = [0.0; CLASSIFIERS];
        for (hit, &above) in hits.iter_mut().zip(&answers.above) {
            *hit = f32::from(u8::from(likeliest_class(above) == class));
        }
        let unit = answers.mean_logs[ROUTE] + truth.excess.max(0.0);
        let most = answers.mean_logs[usize::from(answers.served).min(ROUTE)] + LN_MOST_RATIO;
        // A model that was not there is counted as the key's mean, so that its ratio starts in the right place.
        let by_model = if told.is_finite() { MODEL } else { KEY };
        let logs = [by_model, KEY, ROUTE].map(|who| answers.mean_logs[who]);
        let relative = |log: f32| (log - unit).clamp(-8.0, 8.0);
        let [model, key, route, cost] =
            approx::exp_each([logs[0], logs[1], logs[2], truth.log.min(most)].map(relative));
        Self {
            over_mean: truth.log - mean,
            by_model: told.is_finite().then_some(told - mean),
            squares: answers.logs.map(|log| square(truth.log - log)),
            hits,
            missing: std::array::from_fn(|border| truth.above[border] - answers.above[0][border]),
            cost,
            predicted: [model, key, route],
            residual: truth.log - answers.log_served,
        }
    }
}

fn towards(mean: &mut f32, new: f32, rate: f32) {
    *mean += rate * (new - *mean);
}

fn square(error: f32) -> f32 {
    (error * error).min(MOST_SQUARE)
}

fn standardised(residual: f32, spread: f32) -> f32 {
    (residual / spread.max(LEAST_SPREAD)).clamp(-5.0, 5.0)
}

impl Track {
    fn view(&self) -> TrackView {
        TrackView::from_numbers(std::array::from_fn(|i| load(&self.numbers[i])))
    }

    fn put(&self, view: TrackView) {
        let numbers = view.to_numbers();
        // Without a way out in the middle the compiler makes vectors of it.
        if numbers.iter().fold(true, |all, number| all & number.is_finite()) {
            self.numbers.iter().zip(numbers).for_each(|(slot, number)| store(slot, number));
        }
    }

    fn claim(&self, tag: u32, route_key: u64) {
        self.key[0].store(route_key as u32, Relaxed);
        self.key[1].store((route_key >> 32) as u32, Relaxed);
        self.tag.store(tag, Relaxed);
    }

    fn route_key(&self) -> u64 {
        u64::from(self.key[0].load(Relaxed)) | u64::from(self.key[1].load(Relaxed)) << 32
    }
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            // The last one is for routes that find no slot.
            tracks: (0..=ROUTES).map(|_| Track::default()).collect(),
            all: Track::default(),
            common: AtomicU32::new(0),
        }
    }

    /// What is known about a route; nothing (`seen` 0) if it was never judged.
    pub(crate) fn view(&self, route_key: u64) -> TrackView {
        let (tag, first) = place(route_key);
        let mine = (first..first + PROBES)
            .map(|at| &self.tracks[at % ROUTES])
            .find(|track| track.tag.load(Relaxed) == tag);
        mine.map_or_else(TrackView::default, Track::view)
    }

    /// What holds for all routes together.
    pub(crate) fn all(&self) -> TrackView {
        self.all.view()
    }

    /// Holds all answers to one request against the truth.
    pub(crate) fn judge(&self, route_key: u64, answers: &Answers, truth: Truth) {
        if !answers.known {
            return;
        }
        let (tag, first) = place(route_key);
        let slots = || (first..first + PROBES).map(|at| &self.tracks[at % ROUTES]);
        let own = slots().find(|track| track.tag.load(Relaxed) == tag);
        let track = own.or_else(|| slots().find(|track| track.tag.load(Relaxed) == 0));
        let track = track.unwrap_or(&self.tracks[ROUTES]);
        if own.is_none() {
            track.claim(tag, route_key);
        }
        let common = load(&self.common);
        let verdict = Verdict::of(answers, truth);
        let before = track.view();
        track.put(before.with(&verdict, common));
        self.all.put(self.all.view().with(&verdict, 0.0));
        let x = standardised(verdict.residual, before.spread);
        store(&self.common, common + 0.01 * (x - common));
    }

    /// All routes judged so far, for people, in the order of their slots.
    pub(crate) fn skills(&self) -> Vec<RouteSkill> {
        let parent = self.all().smear(MODEL, 1.0);
        let used = self.tracks.iter().filter(|track| track.tag.load(Relaxed) != 0);
        let skill = |track: &Track| {
            let view = track.view();
            RouteSkill {
                route_key: track.route_key(),
                seen: view.seen,
                skill: view.skill(),
                errors: view.errors,
                trust: view.trust(),
                smear: view.smear(MODEL, parent),
                spread: view.spread,
                drift_alarms: view.drift[2],
            }
        };
        used.map(skill).collect()
    }

    pub(crate) fn snapshot(&self) -> Vec<SavedTrack> {
        let saved = |track: &Track| SavedTrack {
            tag: track.tag.load(Relaxed),
            route_key: track.route_key(),
            view: track.view(),
        };
        let used = self.tracks.iter().filter(|track| track.tag.load(Relaxed) != 0);
        used.chain([&self.all]).map(saved).collect()
    }

    /// The last one is of all routes together; a broken one is left out.
    pub(crate) fn restore(&self, saved: &[SavedTrack]) {
        let Some((all, routes)) = saved.split_last() else { return };
        self.all.put(all.view);
        for one in routes {
            let (tag, first) = place(one.route_key);
            let free = (first..first + PROBES).find(|at| self.tracks[at % ROUTES].tag.load(Relaxed) == 0);
            if let Some(at) = free {
                self.tracks[at % ROUTES].put(one.view);
                self.tracks[at % ROUTES].claim(tag, one.route_key);
            }
        }
    }
}

fn place(route_key: u64) -> (u32, usize) {
    let spread = hash::mix(route_key);
    (((spread >> 32) as u32).max(1), spread as usize % ROUTES)
}
