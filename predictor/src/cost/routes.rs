//! How well each route is predicted, learned one completed request at a time: who answers, how far it is to be
//! believed, how it must be scaled, and how wide its interval is.
//!
//! Per route, over about the last `MEMORY` completions:
//!
//! - squared errors in ln cost of the model, of the key's mean and of the route's mean, each judged on every request
//!   whoever served it: the smallest answers, so a model never serves where a mean is better;
//! - *trust* `β = cov(f - m, y - m) / var(f - m)` in [0, 1]: the served ln cost is `m + β·(f - m)` around the route's
//!   mean m, so that a model that knows nothing shrinks to the mean smoothly instead of flapping;
//! - *smear*, sum of costs over sum of predicted costs, which makes totals right (Duan 1983, online), and the *tail*, what rare
//!   costs far beyond add to that;
//! - *lean*, how far costs have lain off what was served lately, all to one side (`cost::lean`);
//! - scale of the interval (mean deviation) and alarms of drift: Page–Hinkley (Biometrika 1954) on residuals less
//!   the common mode of all routes; alarms inform, the clock retrains.
//!
//! Routes live in `ROUTES` slots; those that find none share one. New routes start from what holds for all.
//! One writer, any number of readers, relaxed atomics.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use wide::f32x4;

use crate::cost::cells::{load, store};
use crate::cost::interval::LEAST_SPREAD;
use crate::cost::lanes::{SharedFour, are_finite, at_least, at_most, towards};
use crate::cost::lean::Lean;
use crate::cost::verdict::{Answers, HISTOGRAMS, KEY, MODEL, ROUTE, Truth, Verdict, square};
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
/// Completions that the tail remembers: long, as what makes it is rare.
const TAIL_MEMORY: f32 = 5_000.0;
/// Completions with nothing beyond that a route begins with.
const TAIL_PRIOR: f32 = 1_000.0;
/// The tail may be this much of the rest at most.
const MOST_TAIL: f32 = 100.0;
/// What class heads may lack, and the tail.
const LIFTS: (f32x4, f32x4) = (f32x4::new([-0.5, -0.5, -0.5, 0.0]), f32x4::new([0.5, 0.5, 0.5, MOST_TAIL]));
/// A route that has seen as many as it remembers is unlike the others where its smear lies beyond this factor of theirs, two
/// standard errors where costs scatter as much as they are large; then theirs counts as no further away. Else a route whose costs
/// are certain would for ever be scaled by time-outs of others.
const LIKE: f32 = 1.25;
/// Smears are kept within these.
const SMEARS: (f32, f32) = (0.05, 20.0);
/// Page–Hinkley: drift that is let pass, and the sum of excess that raises an alarm, in mean deviations.
const DRIFT_ALLOWED: f32 = 0.3;
const DRIFT_ALARM: f32 = 60.0;
/// Counts stop here, far below what an f32 cannot count.
const MOST_COUNTED: f32 = 1e6;
const ONE_ALARM: f32x4 = f32x4::new([0.0, 0.0, 0.0, 1.0]);

/// The route's among them.
const ROUTE_CLASSES: usize = 2;
/// Shares of right classes closer than that are the same: two classifiers that differ in a tenth of 2,000 requests by chance
/// alone end 0.7 % apart.
const CLEARLY: f32 = 0.01;

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
    /// What the class heads' shares lack lately; the tail.
    lifts: f32x4,
    /// How far the truth has lain off what was served, see [`Lean`].
    lean: f32x4,
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
    lean: SharedFour,
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

    /// To be added to what is served, ln cost: how far costs have lain off it lately.
    #[inline(always)]
    pub(crate) fn correction(&self) -> f32 {
        Lean(self.lean).correction()
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

    /// Factor from one competitor's predicted to expected cost, drawn towards that of `all` routes.
    #[inline(always)]
    pub(crate) fn smear(&self, who: usize, all: f32) -> f32 {
        let (costs, predicted, seen) = self.sums(who);
        let alone = costs / at_least(predicted, 1e-6);
        let near = at_most(at_least(all, alone / LIKE), alone * LIKE);
        self.drawn(who, if seen > SMEAR_MEMORY { near } else { all })
    }

    /// The same of the track of all routes.
    #[inline(always)]
    pub(crate) fn smear_of_all(&self, who: usize) -> f32 {
        self.drawn(who, 1.0)
    }

    /// Decayed means of costs and of what one competitor predicted, and how many there were.
    #[inline(always)]
    fn sums(&self, who: usize) -> (f32, f32, f32) {
        let [costs, model, key, route] = self.totals.to_array();
        // Named and not indexed, here and below: the compiler can then keep all of this in registers.
        let predicted = match who {
            MODEL => model,
            KEY => key,
            _ => route,
        };
        (costs, predicted, if who == MODEL { self.by_model() } else { self.seen() })
    }

    #[inline(always)]
    fn drawn(&self, who: usize, to: f32) -> f32 {
        let (costs, predicted, seen) = self.sums(who);
        let weight = at_most(seen, SMEAR_MEMORY);
        let prior = PRIOR_WEIGHT * at_least(predicted, 1e-6);
        let smear = ((weight * costs + prior * to) / (weight * predicted + prior)).clamp(SMEARS.0, SMEARS.1);
        smear * (1.0 + self.lifts.as_array()[3])
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
        if let Some(missed) = verdict.missed {
            next.lean = Lean(self.lean).after(missed, next.seen()).0;
        }
        let tail = self.lifts.as_array()[3];
        let tail_rate = at_least(1.0 / (next.seen() + TAIL_PRIOR), 1.0 / TAIL_MEMORY);
        let grown = tail_rate * (verdict.beyond - tail * verdict.costs.as_array()[0]);
        next.lifts += f32x4::new([0.0, 0.0, 0.0, grown]);
        let rate = at_least(share, 1.0 / MEMORY);
        let [key, route] = verdict.squares;
        let rates = f32x4::new([rate, rate, 1.0, 1.0]);
        next.means = towards(self.means, f32x4::new([key, route, up, down]), rates);
        if let Some(told) = verdict.by_model {
            next.judge_model(told, verdict);
        }
        next.lifts = next.lifts.fast_max(LIFTS.0).fast_min(LIFTS.1);
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
        self.lifts += f32x4::splat(LIFT_RATE) * verdict.missing;
    }

    /// Whether all numbers can be reckoned with; if one cannot, their sum cannot.
    #[inline(always)]
    fn is_finite(&self) -> bool {
        are_finite(self.counted + self.totals + self.model + self.means + self.hits + self.lifts + self.lean)
    }
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
            lean: self.lean.load(),
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
            self.lean.store(view.lean);
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
        let all = self.all().smear_of_all(MODEL);
        let used = self.tracks.iter().filter(|track| track.tag.load(Relaxed) != 0);
        let skill = |track: &Track| {
            let view = track.view();
            RouteSkill {
                route_key: track.route_key(),
                seen: view.seen(),
                skill: view.skill(),
                errors: view.errors(),
                trust: view.trust(),
                smear: view.smear(MODEL, all),
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
                let lifts = one.view.lifts.fast_max(LIFTS.0).fast_min(LIFTS.1);
                let lean = Lean(one.view.lean).sound().0;
                self.tracks[at % ROUTES].put(TrackView { lifts, lean, ..one.view });
                self.tracks[at % ROUTES].claim(tag, one.route_key);
            }
        }
    }
}

fn place(route_key: u64) -> (u32, usize) {
    let spread = hash::mix(route_key);
    (((spread >> 32) as u32).max(1), spread as usize % ROUTES)
}
