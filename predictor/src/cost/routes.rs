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
use wide::f32x4;

use crate::cost::approx;
use crate::cost::cells::{load, store};
use crate::cost::classes::likeliest_class;
use crate::cost::interval::LEAST_SPREAD;
use crate::cost::lanes::{SharedFour, are_finite, at_least, at_most, towards};
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
/// One request's cost counts as this many times the predicted one at most, in the smear. The predicted one as it was told: where
/// one in ten costs a hundred times the others and nothing says which, the smear itself brings it up to the mean.
const MOST_RATIO: f32 = 20.0;
/// Smears are kept within these.
const SMEARS: (f32, f32) = (0.05, 20.0);
/// Page–Hinkley: drift that is let pass, and the sum of excess that raises an alarm, in mean deviations.
const DRIFT_ALLOWED: f32 = 0.3;
const DRIFT_ALARM: f32 = 60.0;
/// Counts stop here, far below what an f32 cannot count.
const MOST_COUNTED: f32 = 1e6;
const ONE_ALARM: f32x4 = f32x4::new([0.0, 0.0, 0.0, 1.0]);

/// Which answers compete.
pub(crate) const MODEL: usize = 0;
pub(crate) const KEY: usize = 1;
pub(crate) const ROUTE: usize = 2;
/// Histograms whose classes compete with those of the model's heads: of parameters, source, route and the very same request.
pub(crate) const HISTOGRAMS: usize = 4;
/// The route's among them.
const ROUTE_CLASSES: usize = 2;
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
    /// How far the mean cost of its consumer lies beyond what is usual on the route, ln cost; 0 or more.
    pub(crate) excess: f32,
    /// Shares above the class borders by the model's heads.
    pub(crate) heads: [f32; 3],
    /// The same by the histograms, one a lane, border by border.
    pub(crate) histograms: [f32x4; 3],
    /// Whether the route had been seen before; answers about an unknown one are not held against anybody.
    pub(crate) known: bool,
    /// Which of the three served.
    pub(crate) served: u8,
    /// ln cost that was served.
    pub(crate) log_served: f32,
    /// Factor from the expected cost by who served to what was told.
    pub(crate) smear: f32,
    /// Half-width of the interval that was served, in ln cost.
    pub(crate) half_width: f32,
}

/// What a request cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    /// ln of it.
    pub log: f32,
    /// 0, then 1 for each class border it is above, else 0.
    pub above: f32x4,
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
    /// Squared errors of the key's mean and the route's (the model's depends on the trust in it).
    squares: [f32; 2],
    /// 1 where the model's heads were right, and for each histogram that was.
    head_hit: f32,
    hits: f32x4,
    /// What the class heads' shares lacked.
    missing: f32x4,
    /// Cost and predicted costs, in units of the route's mean.
    costs: f32x4,
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

/// Numbers of one route, as they are kept: in groups that move alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrackView {
    /// Completions; of these, with a model's answer; mean deviation of what was served; alarms of drift.
    counted: f32x4,
    /// Decayed means of cost over exp(anchor), and of the three predictions over the same.
    totals: f32x4,
    /// Squared error of the model, covariance and variance behind the trust in it, share of right classes of its heads.
    model: f32x4,
    /// Squared errors of key mean and route mean; Page–Hinkley sums, upwards and downwards.
    means: f32x4,
    /// Shares of right classes of the histograms.
    hits: f32x4,
    /// What the class heads' shares lack lately, and nothing.
    lifts: f32x4,
}

/// A route and its numbers, for the state file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedTrack {
    tag: u32,
    route_key: u64,
    view: TrackView,
}

/// One slot.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Track {
    tag: AtomicU32,
    /// Halves of the route's key, for people.
    key: [AtomicU32; 2],
    counted: SharedFour,
    totals: SharedFour,
    model: SharedFour,
    means: SharedFour,
    hits: SharedFour,
    lifts: SharedFour,
}

/// Tracks of all routes.
#[derive(Debug)]
pub(crate) struct Routes {
    tracks: Box<[Track]>,
    /// All completions together: counts, spread and totals only.
    all: Track,
    /// Recent mean of the standardised residual over all routes.
    common: AtomicU32,
}

impl TrackView {
    /// Completions judged.
    #[inline(always)]
    pub(crate) fn seen(&self) -> f32 {
        self.counted.as_array()[0]
    }

    /// Of these, with a model's answer.
    #[inline(always)]
    fn by_model(&self) -> f32 {
        self.counted.as_array()[1]
    }

    /// Mean deviation of what was served.
    #[inline(always)]
    fn spread(&self) -> f32 {
        self.counted.as_array()[2]
    }

    /// Squared errors of model, key mean, route mean.
    #[inline(always)]
    fn errors(&self) -> [f32; 3] {
        [self.model.as_array()[0], self.means.as_array()[0], self.means.as_array()[1]]
    }

    /// What the class heads' shares lack lately.
    #[inline(always)]
    pub(crate) fn lifts(&self) -> [f32; 3] {
        let [light, medium, heavy, _] = self.lifts.to_array();
        [light, medium, heavy]
    }

    /// How far the model's distance from the route's mean is believed.
    #[inline(always)]
    pub(crate) fn trust(&self) -> f32 {
        let [_, covariance, variance, _] = self.model.to_array();
        if variance <= 0.0 {
            return 1.0;
        }
        let measured = (covariance / variance).clamp(0.0, 1.0);
        let weight = self.by_model() / (self.by_model() + PRIOR_WEIGHT);
        1.0 + weight * (measured - 1.0)
    }

    /// Who answers best: model, key mean or route mean. Before enough was judged: whoever knows most.
    #[inline(always)]
    pub(crate) fn best(&self, model_is_there: bool, key_is_there: bool) -> usize {
        let errors = self.errors();
        let judged = self.by_model() >= PRIOR_WEIGHT;
        let best_mean = errors[KEY].min(errors[ROUTE]);
        let model_leads = !judged || errors[MODEL] <= best_mean * TIE;
        if model_is_there && model_leads {
            return MODEL;
        }
        let key_leads = self.seen() < PRIOR_WEIGHT || errors[KEY] < errors[ROUTE];
        if key_is_there && key_leads { KEY } else { ROUTE }
    }

    /// The histogram whose class is served, `None`: the model's heads. Whoever was right most often, but the route's own
    /// histogram unless another is clearly better; before enough was judged, who knows most.
    #[inline(always)]
    pub(crate) fn classifier(&self, model_is_there: bool) -> Option<usize> {
        if model_is_there && self.by_model() < PRIOR_WEIGHT {
            return None;
        }
        let (hits, heads) = (self.hits.to_array(), self.model.as_array()[3]);
        let better = |best: (usize, f32), other: (usize, f32)| if other.1 > best.1 { other } else { best };
        let (best, hit) =
            (1..HISTOGRAMS).fold((0, hits[0]), |best, other| better(best, (other, hits[other])));
        let heads_lead = model_is_there && heads >= hit;
        let most = if heads_lead { heads } else { hit };
        if most < hits[ROUTE_CLASSES] + CLEARLY && self.seen() >= PRIOR_WEIGHT {
            return Some(ROUTE_CLASSES);
        }
        (!heads_lead).then_some(best)
    }

    /// Factor from one competitor's predicted to expected cost, drawn towards `parent`'s.
    #[inline(always)]
    pub(crate) fn smear(&self, who: usize, parent: f32) -> f32 {
        let [costs, model, key, route] = self.totals.to_array();
        // Named and not indexed, here and below: the compiler can then keep all of this in registers.
        let predicted = match who {
            MODEL => model,
            KEY => key,
            _ => route,
        };
        let seen = if who == MODEL { self.by_model() } else { self.seen() };
        let weight = at_most(seen, SMEAR_MEMORY);
        let own = weight * predicted;
        let prior = PRIOR_WEIGHT * at_least(predicted, 1e-6);
        ((weight * costs + prior * parent) / (own + prior)).clamp(SMEARS.0, SMEARS.1)
    }

    /// Mean deviation of what is served, from the first request on.
    #[inline(always)]
    pub(crate) fn spread_under(&self, parent: f32) -> f32 {
        let weight = self.seen() / (self.seen() + PRIOR_WEIGHT);
        at_least(weight * self.spread() + (1.0 - weight) * parent, LEAST_SPREAD)
    }

    /// 1 - squared error of what serves over the route mean's.
    #[inline(always)]
    pub(crate) fn skill(&self) -> f32 {
        let [model, key, rival] = self.errors();
        let best = match self.best(self.by_model() > 0.0, true) {
            MODEL => model,
            KEY => key,
            _ => rival,
        };
        if self.seen() < PRIOR_WEIGHT || rival <= 0.0 { 0.0 } else { (1.0 - best / rival).clamp(-1.0, 1.0) }
    }

    /// With one more completion.
    #[inline(always)]
    fn with(self, verdict: &Verdict, common: f32) -> Self {
        let x = standardised(verdict.residual, self.spread()) - common;
        let mut next = self.with_totals(verdict);
        let share = 1.0 / next.seen();
        next.hits = towards(self.hits, verdict.hits, f32x4::splat(at_least(share, 1.0 / CLASS_MEMORY)));
        let [_, _, mut up, mut down] = self.means.to_array();
        (up, down) = (at_least(up + x - DRIFT_ALLOWED, 0.0), at_least(down - x - DRIFT_ALLOWED, 0.0));
        if up > DRIFT_ALARM || down > DRIFT_ALARM {
            (up, down) = (0.0, 0.0);
            next.counted += ONE_ALARM;
        }
        let rate = at_least(share, 1.0 / MEMORY);
        let [key, route] = verdict.squares;
        let rates = f32x4::new([rate, rate, 1.0, 1.0]);
        next.means = towards(self.means, f32x4::new([key, route, up, down]), rates);
        if let Some(told) = verdict.by_model {
            next.judge_model(told, verdict);
        }
        next
    }

    /// Counts, spread and totals with one more completion.
    #[inline(always)]
    fn with_totals(self, verdict: &Verdict) -> Self {
        let [seen, by_model, spread, alarms] = self.counted.to_array();
        let seen = at_most(seen + 1.0, MOST_COUNTED);
        let by_model =
            if verdict.by_model.is_some() { at_most(by_model + 1.0, MOST_COUNTED) } else { by_model };
        let share = 1.0 / seen;
        let deviation = at_most(verdict.residual.abs(), 4.0);
        let spread = spread + at_least(share, 1.0 / SPREAD_MEMORY) * (deviation - spread);
        let rate = at_least(share, 1.0 / SMEAR_MEMORY);
        Self {
            counted: f32x4::new([seen, by_model, spread, alarms]),
            totals: towards(self.totals, verdict.costs, f32x4::splat(rate)),
            ..self
        }
    }

    /// Error, trust and class shares of the model, which said `told` over the route's mean.
    #[inline(always)]
    fn judge_model(&mut self, told: f32, verdict: &Verdict) {
        let share = 1.0 / self.by_model();
        let (rate, class_rate) = (at_least(share, 1.0 / MEMORY), at_least(share, 1.0 / CLASS_MEMORY));
        let missed = verdict.over_mean - self.trust() * told;
        let (told, was) = (told.clamp(-4.0, 4.0), verdict.over_mean.clamp(-4.0, 4.0));
        let new = f32x4::new([square(missed), told * was, told * told, verdict.head_hit]);
        self.model = towards(self.model, new, f32x4::new([rate, rate, rate, class_rate]));
        let lifted = self.lifts + f32x4::splat(LIFT_RATE) * verdict.missing;
        self.lifts = lifted.fast_max(f32x4::splat(-0.5)).fast_min(f32x4::splat(0.5));
    }

    /// Whether all numbers can be reckoned with; if one cannot, their sum cannot.
    #[inline(always)]
    fn is_finite(&self) -> bool {
        are_finite(self.counted + self.totals + self.model + self.means + self.hits + self.lifts)
    }
}

impl Verdict {
    #[inline(always)]
    fn of(answers: &Answers, truth: Truth) -> Self {
        let mean = answers.logs[ROUTE];
        let told = answers.logs[MODEL];
        let [_, light, medium, heavy] = truth.above.to_array();
        let class = class_above(light + medium + heavy);
        let unit = answers.mean_logs[ROUTE] + at_least(truth.excess, 0.0);
        // A model that was not there is counted as the key's mean, so that its ratio starts in the right place.
        let by_model = if told.is_finite() { MODEL } else { KEY };
        let [model, key, route] = [by_model, KEY, ROUTE].map(|who| answers.mean_logs[who]);
        let relative = |log: f32| (log - unit).clamp(-8.0, 8.0);
        let mut costs = approx::exp_each([truth.log, model, key, route].map(relative));
        let told_cost = answers.smear * costs[1 + usize::from(answers.served).min(ROUTE)];
        costs[0] = at_most(costs[0], MOST_RATIO * told_cost);
        let heads = answers.heads;
        Self {
            over_mean: truth.log - mean,
            by_model: told.is_finite().then_some(told - mean),
            squares: [answers.logs[KEY], answers.logs[ROUTE]].map(|log| square(truth.log - log)),
            head_hit: f32::from(u8::from(likeliest_class(heads) as usize == class)),
            hits: right_classes(&answers.histograms, class),
            missing: f32x4::new([light - heads[0], medium - heads[1], heavy - heads[2], 0.0]),
            costs: f32x4::new(costs),
            residual: truth.log - answers.log_served,
        }
    }
}

/// The number of borders a cost is above, 0 to 3, as an integer: its lowest bits behind 2^23.
#[inline(always)]
fn class_above(borders: f32) -> usize {
    ((borders + 8_388_608.0).to_bits() & 3) as usize
}

/// 1 in each lane whose likeliest class ([`likeliest_class`]) is this one, from 0 to 3; shares above the borders come one
/// classifier a lane.
#[inline(always)]
fn right_classes(above: &[f32x4; 3], class: usize) -> f32x4 {
    let [zero, one] = [f32x4::ZERO, f32x4::ONE];
    let first = above[0].fast_max(zero).fast_min(one);
    let second = above[1].fast_max(zero).fast_min(first);
    let third = above[2].fast_max(zero).fast_min(second);
    let shares = [one - first, first - second, second - third, third];
    // Of equal ones the first counts.
    let up_to_light = shares[0];
    let up_to_medium = up_to_light.fast_max(shares[1]);
    let up_to_heavy = up_to_medium.fast_max(shares[2]);
    let before = [f32x4::splat(-1.0), up_to_light, up_to_medium, up_to_heavy];
    let most = up_to_heavy.fast_max(shares[3]);
    let class = class % 4;
    shares[class].simd_gt(before[class]) & shares[class].simd_eq(most) & one
}

fn square(error: f32) -> f32 {
    at_most(error * error, MOST_SQUARE)
}

fn standardised(residual: f32, spread: f32) -> f32 {
    (residual / at_least(spread, LEAST_SPREAD)).clamp(-5.0, 5.0)
}

impl Track {
    #[inline(always)]
    fn view(&self) -> TrackView {
        TrackView {
            counted: self.counted.load(),
            totals: self.totals.load(),
            model: self.model.load(),
            means: self.means.load(),
            hits: self.hits.load(),
            lifts: self.lifts.load(),
        }
    }

    /// Counts, spread and totals only: no compiler leaves out a load from an atomic that nobody needs.
    #[inline(always)]
    fn totals(&self) -> TrackView {
        TrackView { counted: self.counted.load(), totals: self.totals.load(), ..TrackView::default() }
    }

    #[inline(always)]
    fn put(&self, view: TrackView) {
        if view.is_finite() {
            self.put_totals(view);
            self.model.store(view.model);
            self.means.store(view.means);
            self.hits.store(view.hits);
            self.lifts.store(view.lifts);
        }
    }

    #[inline(always)]
    fn put_totals(&self, view: TrackView) {
        if are_finite(view.counted + view.totals) {
            self.counted.store(view.counted);
            self.totals.store(view.totals);
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

    /// What holds for all routes together: counts, spread and totals.
    pub(crate) fn all(&self) -> TrackView {
        self.all.totals()
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
        self.all.put_totals(self.all.totals().with_totals(&verdict));
        let x = standardised(verdict.residual, before.spread());
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
                seen: view.seen(),
                skill: view.skill(),
                errors: view.errors(),
                trust: view.trust(),
                smear: view.smear(MODEL, parent),
                spread: view.spread(),
                drift_alarms: view.counted.as_array()[3],
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
