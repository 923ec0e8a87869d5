//! Training: boosted trees on the frozen features of finished requests, judged before they may serve.
//!
//! The newest tenth of the rows is held out. The rest is winsorised and boosted (`cost::boost`). The held-out rows say one
//! number of the model, how far what its trees add is to be believed, and then judge it (by thousands of rows, to which one number
//! can hardly be fitted): on them the candidate must beat the running means (whose answers at arrival are among the features) and not
//! fall behind the serving model. Panics are caught: whatever the rows hold, training ends in a model or an error.
//!
//! Our own histogram trainer serves; smartcore's gradient boosting is the reference it is tested against
//! ([`crate::cost::reference`]): equal accuracy, a fraction of its time, and all heads at once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cost::anchor::Anchor;
use crate::cost::boost::{BoostSettings, boost};
use crate::cost::classes::{CostClasses, likeliest_class};
use crate::cost::features::Features;
use crate::cost::forest::{Forest, LOG, MAX_DEPTH, MEAN};
use crate::cost::interval;
use crate::cost::model::{CostModel, ModelCard};
use crate::cost::query::CostClass;
use crate::cost::reservoir::Sample;
use crate::time::Timestamp;

/// Targets are clamped to the quantiles at this distance from either end, widened by [`WINSOR_MARGIN`].
const WINSOR_TAIL: f64 = 0.001;
/// A factor of two beyond the quantiles is still believed.
const WINSOR_MARGIN: f64 = std::f64::consts::LN_2;
/// A new model may be this much worse than the serving one on the newest rows, as a tenth of the rows is a noisy judge
/// and freshness counts.
const CHAMPION_TOLERANCE: f64 = 1.01;
/// Rows that 1 is worth in [`holding`] ...
const HELD_ROWS: f32 = 100.0;
/// ... how far out one of the newest may pull at it, ln cost: a factor of 50 ...
const MOST_HELD: f32 = 4.0;
/// ... and its upper end: leaves are drawn in by a tenth or two where there is much to learn.
const MOST_HOLDING: f32 = 1.2;
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
    /// The trainer panicked, or the reference library refused.
    #[error("training failed: {0}")]
    Failed(String),
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

/// Trains on rows in order of arrival, with class borders from these rows. Slow (a quarter of a second for 20,000 rows on a slow machine): never
/// call it on a request's path. Pure: the same rows and settings give the same model. `champion`: the serving model,
/// which a new one must not be worse than.
pub fn train(
    rows: &[Sample],
    settings: &TrainSettings,
    champion: Option<&CostModel>,
    version: u64,
    now: Timestamp,
) -> Result<CostModel, TrainError> {
    let borders = borders_of(rows);
    train_for_classes(rows, settings, borders, champion, (version, now))
}

/// [`train`] with given class borders (microseconds) and (version, time) of the new model.
pub fn train_for_classes(
    rows: &[Sample],
    settings: &TrainSettings,
    class_borders_us: [f64; 3],
    champion: Option<&CostModel>,
    (version, now): (u64, Timestamp),
) -> Result<CostModel, TrainError> {
    let (learned, judged) = parts(rows, settings)?;
    let features: Vec<&Features> = learned.iter().map(|row| &row.features).collect();
    let boosting = BoostSettings {
        trees: settings.trees,
        depth: settings.depth.clamp(1, MAX_DEPTH),
        learning_rate: settings.learning_rate as f32,
        seed: settings.seed,
        log_borders: class_borders_us.map(|border| border.ln() as f32),
    };
    let (anchor, forest) = guarded(|| {
        let logs = winsorised(&learned);
        let anchor = Anchor::fitted(&features, &logs);
        Ok((anchor, boost(&anchor, &features, &logs, &boosting)))
    })?;
    if !forest.is_sound() {
        return Err(TrainError::Failed("a leaf or threshold is not a number".into()));
    }
    let holding = holding(&anchor, &forest, &judged);
    let forest = forest.scaled([LOG, MEAN], holding);
    let mut card = ModelCard {
        version,
        trained_at_us: now.as_us(),
        rows: learned.len(),
        trees: settings.trees,
        depth: settings.depth.clamp(1, MAX_DEPTH),
        trees_hold: f64::from(holding),
        class_borders_us,
        rows_from_us: learned[0].at.as_us(),
        rows_to_us: judged[judged.len() - 1].at.as_us(),
        ..ModelCard::default()
    };
    let candidate = CostModel::new(anchor, forest, ModelCard::default());
    examine(&candidate, &learned, &judged, &mut card);
    let champion = champion.map(|champion| log_rmse(&judged, |features| champion.log_work(features)));
    let rivals = [
        ("the per-key running mean", Some(card.key_mean_log_rmse)),
        ("the route's running mean", Some(card.route_mean_log_rmse)),
        ("the serving model", champion.map(|rmse| rmse * CHAMPION_TOLERANCE)),
    ];
    for (rival, best) in rivals {
        // A rival that answers nonsense (NaN) is no rival; a candidate that does never wins.
        let wins = |best: f64| !best.is_nan() && (card.log_rmse.is_nan() || card.log_rmse > best);
        if let Some(best) = best.filter(|&best| wins(best)) {
            return Err(TrainError::NotBetter { rival, candidate: card.log_rmse, best });
        }
    }
    Ok(candidate.with_card(card))
}

/// How far what the trees add to the anchor holds on rows that they have not seen: by least squares, drawn towards 1. Below 1
/// they have learned noise, or what held then; above 1 they were drawn in too far.
fn holding(anchor: &Anchor, forest: &Forest, judged: &[&Sample]) -> f32 {
    let bounded = |distance: f32| distance.clamp(-MOST_HELD, MOST_HELD);
    let (mut products, mut squares) = (0.0, 0.0);
    for row in judged {
        let features = anchor.among(&row.features);
        let start = features.anchor_log() + forest.base(LOG);
        let added = bounded(forest.sums(&features)[LOG] - forest.base(LOG));
        products += added * bounded(row.work_us.ln() as f32 - start);
        squares += added * added;
    }
    let prior = HELD_ROWS * squares / judged.len() as f32 + f32::MIN_POSITIVE;
    ((products + prior) / (squares + prior)).clamp(0.0, MOST_HOLDING)
}

/// The newest usable rows, as many as are wanted: the older nine tenths to learn from, and the newest tenth to be judged by.
pub(crate) fn parts<'a>(
    rows: &'a [Sample],
    settings: &TrainSettings,
) -> Result<(Vec<&'a Sample>, Vec<&'a Sample>), TrainError> {
    let mut learned: Vec<&Sample> = rows.iter().filter(|row| is_usable(row)).collect();
    learned.drain(..learned.len().saturating_sub(settings.max_rows));
    let need = settings.min_rows.max(LEAST_ROWS);
    if learned.len() < need {
        return Err(TrainError::TooFewRows { have: learned.len(), need });
    }
    let judged = learned.split_off(learned.len() - learned.len() / 10);
    Ok((learned, judged))
}

/// Class borders of these rows: 50th, 80th and 95th percentile as the moving histogram has them.
fn borders_of(rows: &[Sample]) -> [f64; 3] {
    let classes = CostClasses::new();
    for row in rows.iter().filter(|row| is_usable(row)) {
        classes.observe(row.work_us.ln() as f32);
    }
    classes.borders_us()
}

fn is_usable(row: &Sample) -> bool {
    row.work_us.is_finite() && row.work_us > 0.0 && row.features.is_sound()
}

/// Calls what may panic so that a panic comes back as an error.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(TrainError::Failed(format!("panicked: {text}")))
    })
}

/// ln cost with its outermost thousandths drawn in.
pub(crate) fn winsorised(rows: &[&Sample]) -> Vec<f32> {
    let targets: Vec<f64> = rows.iter().map(|row| row.work_us.ln()).collect();
    let mut sorted = targets.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let tail = (sorted.len() as f64 * WINSOR_TAIL) as usize;
    let (low, high) = (sorted[tail] - WINSOR_MARGIN, sorted[sorted.len() - 1 - tail] + WINSOR_MARGIN);
    targets.iter().map(|target| target.clamp(low, high) as f32).collect()
}

fn log_rmse(rows: &[&Sample], answer: impl Fn(&Features) -> f32) -> f64 {
    let squares = rows.iter().map(|row| (row.work_us.ln() - f64::from(answer(&row.features))).powi(2));
    (squares.sum::<f64>() / rows.len() as f64).sqrt()
}

/// Writes to the card how good the candidate is on the judged rows; its interval's scale is tracked through them as
/// it would be live.
fn examine(candidate: &CostModel, learned: &[&Sample], judged: &[&Sample], card: &mut ModelCard) {
    card.log_rmse = log_rmse(judged, |features| candidate.log_work(features));
    card.key_mean_log_rmse = log_rmse(judged, Features::key_mean_log);
    card.route_mean_log_rmse = log_rmse(judged, Features::route_mean_log);
    let deviation = |row: &&Sample| (row.work_us.ln() as f32 - candidate.log_work(&row.features)).abs();
    let spread = learned.iter().map(deviation).sum::<f32>() / learned.len() as f32;
    let mut scale = interval::NORMAL_SCALE;
    let (mut covered, mut right, mut right_by_key) = (0usize, 0usize, 0usize);
    let (mut expected, mut actual) = (0.0, 0.0);
    for row in judged {
        let missed = deviation(row) > scale * spread.max(interval::LEAST_SPREAD);
        covered += usize::from(!missed);
        scale = interval::tracked(scale, missed);
        let answer = candidate.answer(&row.features);
        let class = CostClass::between(card.class_borders_us, row.work_us);
        right += usize::from(likeliest_class(answer.above) == class);
        right_by_key += usize::from(likeliest_class(row.features.shares_above()) == class);
        expected += f64::from(answer.mean_log).exp();
        actual += row.work_us;
    }
    let share = |count: usize| count as f64 / judged.len() as f64;
    card.coverage = share(covered);
    card.class_accuracy = share(right);
    card.key_class_accuracy = share(right_by_key);
    card.sum_ratio = expected / actual;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::features::{FEATURES, place};
    use crate::cost::query::CostQuery;
    use crate::hash;
    use crate::id::RouteId;

    /// 2,000 requests with ten numbers, whose ln cost is `signal` times the first, and noise.
    fn rows(signal: f32, seed: u64) -> Vec<Sample> {
        let uniform = |row: u64, purpose: u64| {
            (hash::pair(row * 100 + purpose, seed) >> 40) as f32 / (1u64 << 24) as f32
        };
        let sample = |row: u64| {
            let mut features = Features([0.0; FEATURES]);
            features.0[place::NUMBERS..][..10]
                .iter_mut()
                .zip(0..)
                .for_each(|(number, which)| *number = uniform(row, which));
            let log = signal * features.0[place::NUMBERS] + uniform(row, 50) - 0.5;
            let query = CostQuery::new(RouteId(0), 1, 1);
            Sample { at: Timestamp::from_us(row), query, features, work_us: f64::from(log).exp() }
        };
        (0..2_000).map(sample).collect()
    }

    #[test]
    fn trees_that_learned_noise_hardly_count_and_those_that_learned_something_do() {
        let held = |signal| {
            let (old, new) = (rows(signal, 1), rows(signal, 2));
            let features: Vec<&Features> = old.iter().map(|row| &row.features).collect();
            let logs: Vec<f32> = old.iter().map(|row| row.work_us.ln() as f32).collect();
            let boosting =
                BoostSettings { trees: 50, depth: 6, learning_rate: 0.2, seed: 3, log_borders: [0.0; 3] };
            let forest = boost(&Anchor::default(), &features, &logs, &boosting);
            holding(&Anchor::default(), &forest, &new.iter().collect::<Vec<_>>())
        };
        let (noise, something) = (held(0.0), held(2.0));
        assert!(noise < 0.2 && (0.9..1.2).contains(&something), "{noise} {something}");
    }
}
