//! From a query to an estimate, with fallbacks: whatever is missing or broken, there is an answer.
//!
//! Three answers compete on every route: the model's, the mean of the request's own keys, the route's mean. Who was best
//! on that route lately serves (see [`crate::cost::routes`]); the model is passed over when its answer is not finite or
//! far outside what was ever measured, and a route never seen gets the mean of everything, or a prior. Then
//!
//! ```text
//! ln cost  = m + β·(f - m) + λ                m: route's mean, f: the answer, β: how far it is believed, λ: the route's lean
//! cost     = smear(route) · exp(ln expected cost)
//! interval = exp(ln cost ± scale · spread(route))
//! class    = the likeliest by the class heads, or by the keys' own histogram where that was right more often
//! ```

use crate::cost::approx;
use crate::cost::cells::FIRST_SPREAD;
use crate::cost::classes::likeliest_class;
use crate::cost::features::Features;
use crate::cost::lanes::{at_least, at_most};
use crate::cost::model::CostModel;
use crate::cost::query::{CostBasis, CostEstimate, CostQuery, PRIOR_WORK_US};
use crate::cost::routes::TrackView;
use crate::cost::table::{KeyTable, Keys, Known, OWN_REACH};
use crate::cost::verdict::{Answers, KEY, MODEL, ROUTE};
use crate::estimate::Estimate;
use crate::time::Timestamp;
use wide::f32x4;

/// A model's answer may lie this far outside the range of measured ln costs (a factor of four).
const SLACK: f32 = 1.4;
/// ln of expected cost over ln of median cost: beyond a factor of 100 the head is broken.
const MOST_TAIL: f32 = 4.6;
/// ln of an hour in microseconds: nothing is proxied longer.
const MOST_LOG_US: f32 = 22.004_2;
/// Widest interval: a factor of e^12 either way, so that no end overflows.
const WIDEST: f32 = 12.0;

/// An estimate with the features it was made from; keep them with the label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostPrediction {
    /// Features on arrival.
    pub features: Features,
    /// The answer.
    pub estimate: CostEstimate,
    /// Expected natural log of the work in microseconds: the median's, not the mean's.
    pub log_mean: f64,
    /// Probabilities of a cost above light, medium and heavy.
    pub above: [f32; 3],
    /// 1 - squared error of the answers over the route mean's, on this route lately; 0 or less: nothing is known.
    pub skill: f32,
    /// What each competitor said, to be judged when the truth is known.
    pub answers: Answers,
    /// Where its statistics are kept.
    pub(crate) keys: Keys,
    /// True when a model was there but its answer was unusable (NaN, infinite, absurd).
    pub model_failed: bool,
    /// What steers; as it is predicted until somebody weighs it.
    pub steering: Steering,
}

/// The work that steers a request: its prediction, as far as that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steering {
    /// Microseconds.
    pub work_us: f32,
    /// How far it is the prediction, 1, or the mean of the route, 0.
    pub weight: f32,
}

/// Predicts the work of a request. Takes no lock, allocates nothing, cannot fail: a missing or broken model falls back
/// to the running means of `table`, and those to a prior.
pub fn predict(
    table: &KeyTable,
    model: Option<&CostModel>,
    query: &CostQuery,
    now: Timestamp,
) -> CostPrediction {
    let known = table.known(query);
    let all = table.track_of_all();
    let features = known.features(query, now);
    let mut answers = from_means(&known);
    let usable = model.is_some_and(|model| from_model(table, model, &features, &known.track, &mut answers));
    let who = known.track.best(usable, known.key_answer().is_some());
    answers.served = who as u8;
    answers.log_served = match who {
        MODEL => shrunk(&answers, known.track.trust()),
        KEY => answers.logs[KEY],
        _ => answers.logs[ROUTE],
    };
    // Not the expected cost: in a surge that would learn within ten requests what the overload itself does to labels, and hide
    // the demand from who plans for it.
    answers.corrected = known.track.correction();
    answers.log_served += answers.corrected;
    let first = known.key_answer().map_or(4.0 * FIRST_SPREAD, |[spread, ..]| spread);
    let spread = known.track.spread_under(all.spread_under(first));
    answers.half_width = (table.scale() * spread).min(WIDEST);
    let histogram = |which: usize| answers.histograms.map(|border| border.to_array()[which]);
    let above = known.track.classifier(usable).map_or(answers.heads, histogram);
    answers.smear = known.track.smear(who, all.smear_of_all(who));
    let log = answers.log_served;
    let [mean, low, high, _] =
        approx::exp_each([answers.mean_logs[who], log - answers.half_width, log + answers.half_width, 0.0]);
    let work_us = Estimate::new(f64::from(answers.smear * mean), f64::from(low), f64::from(high));
    let work_us = work_us.unwrap_or(Estimate::exact(PRIOR_WORK_US));
    CostPrediction {
        features,
        estimate: CostEstimate { work_us, class: likeliest_class(above), basis: basis(who, &known) },
        log_mean: f64::from(log),
        above,
        skill: known.track.skill(),
        answers,
        keys: known.keys,
        model_failed: model.is_some() && !usable,
        steering: Steering { work_us: work_us.mean() as f32, weight: 1.0 },
    }
}

/// What the means of the request's key and route say; the model's place holds NaN.
#[inline(always)]
fn from_means(known: &Known) -> Answers {
    let route_log = known.route.mean();
    let key = known.key_answer();
    let key_mean_us = key.map_or(0.0, |[_, mean_us, _]| mean_us);
    let source_mean_us = known.source.view.mean_us();
    let means_us = [known.global.view.mean_us(), known.route.view.mean_us(), key_mean_us, source_mean_us];
    let logs = approx::ln_each(means_us);
    let mean_log = |which: usize, otherwise: f32| if means_us[which] > 0.0 { logs[which] } else { otherwise };
    let global_mean = mean_log(0, known.global.mean());
    let route_mean = mean_log(1, global_mean);
    // A key that consumers share knows what its requests cost together; how far this one's cost more, it is believed within
    // the reach that its labels have there.
    let key_mean = match key {
        Some([.., log]) if key_mean_us > 0.0 => {
            at_most(logs[2] + known.own_over(log).clamp(-OWN_REACH, OWN_REACH), MOST_LOG_US)
        }
        _ => route_mean,
    };
    let source_mean = mean_log(3, route_mean);
    let gists = [known.fine.gist, known.source.gist, known.route.gist, known.same_among_alike()];
    let [_, light, medium, heavy] = f32x4::transpose(gists);
    Answers {
        logs: [f32::NAN, known.both.mean(), route_log],
        mean_logs: [f32::NAN, key_mean, route_mean],
        excess: at_least(source_mean - route_mean - OWN_REACH, 0.0),
        heads: [0.0; 3],
        histograms: [light, medium, heavy],
        known: known.route.view.count >= 1.0,
        served: ROUTE as u8,
        log_served: route_log,
        corrected: 0.0,
        smear: 1.0,
        half_width: 0.0,
    }
}

/// Adds the model's answer; false: it cannot be used.
#[inline(always)]
fn from_model(
    table: &KeyTable,
    model: &CostModel,
    features: &Features,
    track: &TrackView,
    answers: &mut Answers,
) -> bool {
    let answer = model.answer(features);
    let usable = answer.log.is_finite()
        && table.is_plausible(answer.log, SLACK)
        && (answer.mean_log - answer.log).abs() < MOST_TAIL;
    if usable {
        let trust = track.trust();
        answers.logs[MODEL] = answer.log;
        answers.mean_logs[MODEL] =
            answers.mean_logs[ROUTE] + trust * (answer.mean_log - answers.mean_logs[ROUTE]);
        let lifts = track.lifts();
        answers.heads = std::array::from_fn(|i| answer.above[i] + lifts[i]);
    }
    usable
}

#[inline(always)]
fn shrunk(answers: &Answers, trust: f32) -> f32 {
    answers.logs[ROUTE] + trust * (answers.logs[MODEL] - answers.logs[ROUTE])
}

#[inline(always)]
fn basis(who: usize, known: &Known) -> CostBasis {
    match who {
        MODEL => CostBasis::Model,
        KEY => CostBasis::KeyMean,
        _ if known.route.view.count >= 1.0 => CostBasis::RouteMean,
        _ if known.global.view.count >= 1.0 => CostBasis::GlobalMean,
        _ => CostBasis::Prior,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::query::{ABSENT, CostClass};
    use crate::id::RouteId;
    use proptest::prelude::*;

    fn query(route: u64, consumer: u64) -> CostQuery {
        CostQuery::new(RouteId(0), route, consumer)
    }

    #[test]
    fn each_level_answers_when_the_better_ones_know_nothing() {
        let table = KeyTable::new(256);
        let mut asked = query(1, 1);
        asked.numbers[0] = 50.0;
        let answer = |query: &CostQuery| predict(&table, None, query, Timestamp::ZERO).estimate;
        assert_eq!(answer(&asked).basis, CostBasis::Prior);
        assert!((answer(&asked).work_us.mean() / PRIOR_WORK_US - 1.0).abs() < 1e-5);
        table.observe(&asked, 700.0, Timestamp::ZERO);
        assert_eq!(answer(&query(9, 9)).basis, CostBasis::GlobalMean);
        assert_eq!(answer(&query(1, 9)).basis, CostBasis::RouteMean);
        table.observe(&asked, 700.0, Timestamp::ZERO);
        table.observe(&asked, 700.0, Timestamp::ZERO);
        assert_eq!(answer(&asked).basis, CostBasis::KeyMean);
        assert!((answer(&asked).work_us.mean() - 700.0).abs() < 0.01);
        assert!(answer(&asked).work_us.covers(700.0));
    }

    #[test]
    fn a_broken_model_is_passed_over_and_said() {
        let table = KeyTable::new(256);
        (0..5).for_each(|_| table.observe(&query(1, 1), 300.0, Timestamp::ZERO));
        let broken = CostModel::broken_for_drills();
        let prediction = predict(&table, Some(&broken), &query(1, 1), Timestamp::ZERO);
        assert!(prediction.model_failed);
        assert_eq!(prediction.estimate.basis, CostBasis::KeyMean);
        assert!(!predict(&table, None, &query(1, 1), Timestamp::ZERO).model_failed);
    }

    #[test]
    fn classes_rank_requests_among_recent_ones() {
        let table = KeyTable::new(256);
        for i in 0..1_000u64 {
            let (route, work) = if i % 50 == 0 { (2, 50_000.0) } else { (1, 100.0 + (i % 7) as f64) };
            table.observe(&query(route, 1), work, Timestamp::ZERO);
        }
        let class = |route| predict(&table, None, &query(route, 1), Timestamp::ZERO).estimate.class;
        assert_eq!(class(2), CostClass::Huge);
        assert!(class(1) < CostClass::Huge);
    }

    proptest! {
        #[test]
        fn any_query_and_any_label_give_finite_answers(
            numbers in proptest::array::uniform12(any::<f32>()),
            categories in proptest::array::uniform8(any::<u64>()),
            labels in proptest::collection::vec(any::<f64>(), 0..40),
            now in any::<u64>(),
        ) {
            let table = KeyTable::new(64);
            let asked = CostQuery { numbers, categories, ..query(5, 6) };
            for (i, &label) in labels.iter().enumerate() {
                table.observe(&asked, label, Timestamp::from_us(now.wrapping_mul(i as u64)));
                table.observe(&asked, f64::from_bits(label.to_bits() ^ now), Timestamp::from_us(now));
            }
            let prediction = predict(&table, None, &asked, Timestamp::from_us(now));
            prop_assert!(prediction.features.0.iter().all(|feature| feature.is_finite()));
            let work = prediction.estimate.work_us;
            prop_assert!(work.low() > 0.0 && work.high().is_finite() && work.mean() > 0.0);
            let absent = CostQuery { numbers: [ABSENT; 12], ..asked };
            prop_assert!(predict(&table, None, &absent, Timestamp::ZERO).estimate.work_us.mean().is_finite());
        }
    }
}
