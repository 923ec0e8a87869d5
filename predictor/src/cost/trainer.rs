//! Training: smartcore's gradient boosting on ln cost, checked and flattened.
//!
//! The newest tenth of the rows is held out. The rest is winsorised and fitted; the trees are flattened and must give
//! the library's own answers; on the held-out rows they must beat the running means (whose answers at arrival are among
//! the features) and not fall behind the serving model. Then per-route corrections turn ln cost into expected cost,
//! and the interval's scale is tracked through the held-out rows as it would be live.
//!
//! Why smartcore: a maintained, tested library is the first choice; its exact search costs seconds, which a background
//! thread has. It panics on NaN (so rows are checked first and panics are caught), and learns a NaN from a NaN target
//! without a word. Known weakness: time grows with rows × features × trees × depth; `max_rows` bounds it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use crate::cost::flatten::flatten;
use crate::cost::forest::{Forest, MAX_DEPTH};
use crate::cost::interval;
use crate::cost::model::{Correction, Corrections, CostModel, ModelCard};
use crate::cost::reservoir::Sample;
use crate::cost::table::{FEATURES, Features};
use crate::time::Timestamp;

/// Share of the rows behind each tree: half is Friedman's choice (stochastic gradient boosting, 2002), and halves time.
const SUBSAMPLE: f64 = 0.5;
/// Fewest rows in a leaf: means of fewer are noise.
const MIN_LEAF_ROWS: usize = 5;
/// Targets are clamped to the quantiles at this distance from either end, widened by [`WINSOR_MARGIN`].
const WINSOR_TAIL: f64 = 0.001;
/// A factor of two beyond the quantiles is still believed.
const WINSOR_MARGIN: f64 = std::f64::consts::LN_2;
/// Flattened answers differ from the library's by rounding to f32 only; more is a mistake.
const FLATTENING_TOLERANCE: f64 = 1e-3;
/// A new model may be this much worse than the serving one on the newest rows, as a tenth of the rows is a noisy judge
/// and freshness counts.
const CHAMPION_TOLERANCE: f64 = 1.01;
/// Rows that the overall correction is worth against a route's own.
const CORRECTION_PRIOR: f64 = 20.0;
/// At most so many routes have a correction of their own, the first by key; more than any configuration has.
const MAX_ROUTES: usize = 1_024;
/// Below this there is no newest tenth worth the name.
const LEAST_ROWS: usize = 50;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSettings {
    /// Boosting rounds.
    pub trees: usize,
    /// Depth of each tree.
    pub depth: usize,
    /// Shrinkage per round.
    pub learning_rate: f64,
    /// Fewest rows worth training on.
    pub min_rows: usize,
    /// Newest rows used at most.
    pub max_rows: usize,
    /// Seed of row subsampling.
    pub seed: u64,
}

/// Why there is no new model. The old one, or the running means, go on serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Not enough rows yet.
    #[error("{have} rows, {need} needed")]
    TooFewRows {
        /// Rows at hand.
        have: usize,
        /// Rows needed.
        need: usize,
    },
    /// The library refused or panicked.
    #[error("training failed: {0}")]
    Library(String),
    /// Flattened trees and the library disagree.
    #[error("flattened trees differ from the library's answers by {difference} in log cost")]
    Flattening {
        /// Largest difference found.
        difference: f64,
    },
    /// Worse than the running means on the newest tenth.
    #[error("not better than {rival}: log-RMSE {candidate:.3} against {best:.3}")]
    NotBetter {
        /// Whom it lost to.
        rival: &'static str,
        /// The candidate's log-RMSE.
        candidate: f64,
        /// The rival's.
        best: f64,
    },
}

type Regressor = XGRegressor<f32, f64, DenseMatrix<f32>, Vec<f64>>;

/// Trains on rows in order of arrival. Slow (up to seconds): never call it on a request's path. Pure: the same rows
/// and settings give the same model. `champion`: the serving model, which a new one must not be worse than.
pub fn train(
    rows: &[Sample],
    settings: &TrainSettings,
    champion: Option<&CostModel>,
    version: u64,
    now: Timestamp,
) -> Result<CostModel, TrainError> {
    let usable: Vec<&Sample> = rows.iter().filter(|row| is_usable(row)).collect();
    let usable = &usable[usable.len().saturating_sub(settings.max_rows)..];
    let need = settings.min_rows.max(LEAST_ROWS);
    if usable.len() < need {
        return Err(TrainError::TooFewRows { have: usable.len(), need });
    }
    let (learned, judged) = usable.split_at(usable.len() - usable.len() / 10);

    let (forest, flattening_error) = fit(learned, judged, settings)?;
    let log_rmse = log_rmse(judged, |features| forest.sum(features));
    let key_mean_log_rmse = self::log_rmse(judged, Features::key_mean_log);
    let route_mean_log_rmse = self::log_rmse(judged, Features::route_mean_log);
    let champions = champion.map(|champion| self::log_rmse(judged, |features| champion.log_work(features)));
    let rivals = [
        ("the per-key running mean", Some(key_mean_log_rmse)),
        ("the route's running mean", Some(route_mean_log_rmse)),
        ("the serving model", champions.map(|rmse| rmse * CHAMPION_TOLERANCE)),
    ];
    for (rival, best) in rivals {
        // A rival that answers nonsense (NaN) is no rival; a candidate that does never wins.
        if let Some(best) = best.filter(|best| !best.is_nan() && (log_rmse.is_nan() || log_rmse > *best)) {
            return Err(TrainError::NotBetter { rival, candidate: log_rmse, best });
        }
    }

    let (corrections, coverage) = corrections(&forest, learned, judged);
    let card = ModelCard {
        version,
        trained_at_us: now.as_us(),
        rows: learned.len(),
        trees: settings.trees,
        depth: settings.depth.clamp(1, MAX_DEPTH),
        log_rmse,
        key_mean_log_rmse,
        route_mean_log_rmse,
        coverage,
        flattening_error,
    };
    Ok(CostModel::new(forest, corrections, card))
}

fn is_usable(row: &Sample) -> bool {
    row.work_us.is_finite() && row.work_us > 0.0 && row.features.0.iter().all(|feature| feature.is_finite())
}

/// Fits and flattens; also the largest difference between the flat trees and the library on the judged rows.
fn fit(
    learned: &[&Sample],
    judged: &[&Sample],
    settings: &TrainSettings,
) -> Result<(Forest, f64), TrainError> {
    let depth = settings.depth.clamp(1, MAX_DEPTH);
    let targets = winsorised(learned);
    let base = targets.iter().sum::<f64>() / targets.len() as f64;
    let parameters = XGRegressorParameters::default()
        .with_n_estimators(settings.trees)
        .with_max_depth(depth as u16)
        .with_learning_rate(settings.learning_rate)
        .with_min_child_weight(MIN_LEAF_ROWS)
        .with_base_score(base)
        .with_subsample(SUBSAMPLE)
        .with_seed(settings.seed);
    let x = matrix(learned)?;
    let regressor: Regressor = guarded(|| XGRegressor::fit(&x, &targets, parameters))?;
    let forest = flatten(&regressor, base, settings.learning_rate, depth).map_err(TrainError::Library)?;

    let judged_x = matrix(judged)?;
    let answers = guarded(|| regressor.predict(&judged_x))?;
    let differences = judged.iter().zip(&answers).map(|(row, &theirs)| {
        let difference = f64::from(forest.sum(&row.features)) - f64::from(theirs);
        if difference.is_nan() { f64::INFINITY } else { difference.abs() }
    });
    let difference = differences.fold(0.0, f64::max);
    if difference > FLATTENING_TOLERANCE {
        return Err(TrainError::Flattening { difference });
    }
    Ok((forest, difference))
}

/// Calls the library so that its errors and its panics come back as errors.
fn guarded<T>(call: impl FnOnce() -> Result<T, smartcore::error::Failed>) -> Result<T, TrainError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|failed| TrainError::Library(failed.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(TrainError::Library(format!("the library panicked: {text}")))
        }
    }
}

/// Features by column, as the library's search runs over one column at a time.
fn matrix(rows: &[&Sample]) -> Result<DenseMatrix<f32>, TrainError> {
    let columns = (0..FEATURES).flat_map(|column| rows.iter().map(move |row| row.features.0[column]));
    DenseMatrix::new(rows.len(), FEATURES, columns.collect(), true)
        .map_err(|failed| TrainError::Library(failed.to_string()))
}

/// ln cost with its outermost thousandths drawn in.
fn winsorised(rows: &[&Sample]) -> Vec<f64> {
    let mut targets: Vec<f64> = rows.iter().map(|row| row.work_us.ln()).collect();
    let mut sorted = targets.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let tail = (sorted.len() as f64 * WINSOR_TAIL) as usize;
    let (low, high) = (sorted[tail] - WINSOR_MARGIN, sorted[sorted.len() - 1 - tail] + WINSOR_MARGIN);
    targets.iter_mut().for_each(|target| *target = target.clamp(low, high));
    targets
}

fn log_rmse(rows: &[&Sample], answer: impl Fn(&Features) -> f32) -> f64 {
    let squares = rows.iter().map(|row| (row.work_us.ln() - f64::from(answer(&row.features))).powi(2));
    (squares.sum::<f64>() / rows.len() as f64).sqrt()
}

/// Sums behind a correction.
#[derive(Clone, Copy, Default)]
struct Residuals {
    rows: f64,
    work: f64,
    answered: f64,
    deviation: f64,
}

impl Residuals {
    fn add(&mut self, row: &Sample, log_answer: f32) {
        self.rows += 1.0;
        self.work += row.work_us;
        self.answered += f64::from(log_answer).exp();
        self.deviation += (row.work_us.ln() - f64::from(log_answer)).abs();
    }

    /// Ratio of sums and mean deviation, drawn towards `prior` as if it had been seen in some more rows.
    fn correction(&self, prior: Correction) -> Correction {
        let pseudo = CORRECTION_PRIOR * self.answered / self.rows.max(1.0);
        let smear = (self.work + pseudo * f64::from(prior.smear)) / (self.answered + pseudo);
        let spread =
            (self.deviation + CORRECTION_PRIOR * f64::from(prior.spread)) / (self.rows + CORRECTION_PRIOR);
        Correction { smear: smear as f32, spread: spread as f32 }
    }
}

/// Corrections per route, and the coverage of the interval on the judged rows while its scale was tracked.
fn corrections(forest: &Forest, learned: &[&Sample], judged: &[&Sample]) -> (Corrections, f64) {
    let mut all = Residuals::default();
    let mut by_route: BTreeMap<u64, Residuals> = BTreeMap::new();
    for row in learned.iter().chain(judged) {
        let answer = forest.sum(&row.features);
        all.add(row, answer);
        by_route.entry(row.query.route_key).or_default().add(row, answer);
    }
    let none = Correction { smear: 1.0, spread: (all.deviation / all.rows) as f32 };
    let overall = all.correction(none);
    let routes: Vec<(u64, Correction)> =
        by_route.iter().take(MAX_ROUTES).map(|(&key, sums)| (key, sums.correction(overall))).collect();

    let spread_of = |key: u64| match routes.binary_search_by_key(&key, |entry| entry.0) {
        Ok(at) => routes[at].1.spread,
        Err(_) => overall.spread,
    };
    let mut scale = interval::NORMAL_SCALE;
    let mut covered = 0usize;
    for row in judged {
        let deviation = (row.work_us.ln() as f32 - forest.sum(&row.features)).abs();
        let missed = deviation > scale * spread_of(row.query.route_key).max(interval::LEAST_SPREAD);
        covered += usize::from(!missed);
        scale = interval::tracked(scale, missed);
    }
    let coverage = covered as f64 / judged.len() as f64;
    (Corrections { routes, overall, scale }, coverage)
}
