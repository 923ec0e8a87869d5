//! From a query to an estimate, with fallbacks: whatever is missing or broken, there is an answer.
//!
//! Best first: model → mean of the parameter key (from 3 observations) → of route × consumer (from 3) → of the route →
//! of everything → a prior. The model is passed over when its answer is not finite or far outside what was ever
//! measured. The answer is the expected work (what load scores need); its class is that of the median work
//! `exp(mean of logs)`, since borders are percentiles and a mean of a skewed cost lies above most of it.

use crate::cost::cells::{CellView, FIRST_SPREAD};
use crate::cost::interval::LEAST_SPREAD;
use crate::cost::model::CostModel;
use crate::cost::query::{CostBasis, CostEstimate, CostQuery, PRIOR_WORK_US};
use crate::cost::table::{Features, KeyTable, Known};
use crate::estimate::Estimate;
use crate::time::Timestamp;

/// A model's answer may lie this factor outside the range of measured costs: trees cannot extrapolate, so a sound
/// model stays well inside it.
const SLACK: f32 = 4.0;
/// Expected cost may differ from exp(log answer) by this factor; beyond, the correction is broken.
const SMEARS: std::ops::RangeInclusive<f32> = 0.01..=1_000.0;
/// Widest interval: a factor of e^12 either way, so that no end overflows.
const WIDEST: f64 = 12.0;

/// An estimate with the features it was made from; keep them with the label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostPrediction {
    /// Features on arrival.
    pub features: Features,
    /// The answer.
    pub estimate: CostEstimate,
    /// Expected natural log of the work in microseconds: the median's, not the mean's.
    pub log_mean: f64,
    /// True when a model was there but its answer was unusable (NaN, infinite, absurd).
    pub model_failed: bool,
}

/// An answer before it becomes an estimate.
struct Answer {
    /// Expected work, µs.
    mean_us: f64,
    /// ln of the median work.
    log_centre: f64,
    /// Half-width of the interval of ln work.
    half_width: f64,
    basis: CostBasis,
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
    let features = known.features(query, now);
    let answered = model.and_then(|model| from_model(table, model, query, &features));
    let model_failed = model.is_some() && answered.is_none();
    let answer = answered.unwrap_or_else(|| from_means(table, &known));
    let log_mean = answer.log_centre;
    CostPrediction { features, estimate: answer.estimate(table), log_mean, model_failed }
}

fn from_model(table: &KeyTable, model: &CostModel, query: &CostQuery, features: &Features) -> Option<Answer> {
    let log_work = model.log_work(features);
    let correction = model.correction(query.route_key);
    let half_width = model.scale() * table.model_scale() * correction.spread.max(LEAST_SPREAD);
    let usable = log_work.is_finite()
        && table.is_plausible(log_work, SLACK)
        && SMEARS.contains(&correction.smear)
        && half_width.is_finite();
    usable.then(|| Answer {
        mean_us: f64::from(correction.smear * log_work.exp()),
        log_centre: f64::from(log_work),
        half_width: f64::from(half_width),
        basis: CostBasis::Model,
    })
}

fn from_means(table: &KeyTable, known: &Known) -> Answer {
    let (view, basis) = if let Some(level) = known.key_answer() {
        (level.view, CostBasis::KeyMean)
    } else if known.route.view.count >= 1.0 {
        (known.route.view, CostBasis::RouteMean)
    } else if known.global.view.count >= 1.0 {
        (known.global.view, CostBasis::GlobalMean)
    } else {
        (prior(), CostBasis::Prior)
    };
    Answer {
        mean_us: f64::from(view.mean_us),
        log_centre: f64::from(view.log_mean),
        half_width: f64::from(table.mean_scale() * view.spread.max(LEAST_SPREAD)),
        basis,
    }
}

/// What is assumed before anything was seen: [`PRIOR_WORK_US`], give or take a factor of about 60.
fn prior() -> CellView {
    let work_us = PRIOR_WORK_US as f32;
    CellView { mean_us: work_us, log_mean: work_us.ln(), spread: 4.0 * FIRST_SPREAD, ..CellView::default() }
}

impl Answer {
    fn estimate(self, table: &KeyTable) -> CostEstimate {
        let half_width = self.half_width.min(WIDEST);
        let (low, high) = ((self.log_centre - half_width).exp(), (self.log_centre + half_width).exp());
        let work_us = Estimate::new(self.mean_us, low, high).unwrap_or(Estimate::exact(PRIOR_WORK_US));
        CostEstimate { work_us, class: table.class_of(self.log_centre.exp()), basis: self.basis }
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
        assert_eq!(answer(&asked).work_us.mean(), PRIOR_WORK_US);
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
            numbers in proptest::array::uniform8(any::<f32>()),
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
            let absent = CostQuery { numbers: [ABSENT; 8], ..asked };
            prop_assert!(predict(&table, None, &absent, Timestamp::ZERO).estimate.work_us.mean().is_finite());
        }
    }
}
