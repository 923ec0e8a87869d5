//! How would the method have done on the newest part of its own history?
//!
//! Forecasts are made at some forty origins in the tail by a method that was fitted before the tail. Their misses say
//! three things: how good the method is (its score), how much its intervals must widen (the square root of the 90 %
//! quantile of |miss| / half-width: the root, because forty overlapping origins are a noisy witness), and which of
//! two methods to use. Coverage is scored on the newer origins with the widening learned on the older ones.

use crate::design::Design;
use crate::fit::BacktestScore;
use crate::ladder::Reach;
use foretide_predictor::estimate::LEVEL;

/// Origins, and horizons looked at from each.
const MOST_ORIGINS: usize = 40;
const MOST_HORIZONS: usize = 20;

/// Pairs of (origin, horizon) below which nothing is concluded.
const FEWEST_PAIRS: usize = 20;

/// Bounds of widening.
const WIDENING: (f64, f64) = (0.8, 4.0);

/// A ratio of errors beyond this says no more than "bad".
const WORST_MASE: f64 = 100.0;

/// The tail that methods are tried on.
pub(super) struct Trial {
    /// Values before this index may be fitted on.
    pub(super) cut: usize,
    origins: Vec<usize>,
    horizons: Vec<usize>,
}

/// What the trial of one method showed.
pub(super) struct Verdict {
    pub(super) score: BacktestScore,
    /// Factor on half-widths.
    pub(super) widening: f64,
    /// Mean absolute error in load, up to a common factor.
    pub(super) loss: f64,
}

impl Trial {
    /// Chooses the tail; `None` where the history is too short to spare one.
    pub(super) fn new(design: &Design<'_>, steps_ahead: usize) -> Option<Self> {
        let length = design.z().len();
        let wanted = (4 * steps_ahead).max(design.shortest_season().unwrap_or(240));
        let tail = wanted.min(length / 4);
        let cut = length - tail;
        if tail < 8 || cut <= design.first_origin() {
            return None;
        }
        let farthest = steps_ahead.clamp(1, tail * 2 / 3);
        let origins = spread(cut - 1, length - 2, MOST_ORIGINS);
        Some(Self { cut, origins, horizons: spread(1, farthest, MOST_HORIZONS) })
    }

    /// Tries one method, given as a function of origin and horizon.
    pub(super) fn judge(
        &self,
        design: &Design<'_>,
        method: impl Fn(usize, usize) -> Reach,
    ) -> Option<Verdict> {
        let z = design.z();
        let mut misses = Vec::new();
        let (mut loss, mut naive) = (0.0, 0.0);
        for &t in &self.origins {
            for &h in self.horizons.iter().take_while(|&&h| t + h < z.len()) {
                let actual = z[t + h];
                let reach = method(t, h);
                loss += load_error(reach.centre, actual);
                naive += load_error(design.naive(t, h), actual);
                misses.push(relative_miss(reach, actual));
            }
        }
        if misses.len() < FEWEST_PAIRS {
            return None;
        }
        let (older, newer) = misses.split_at(misses.len() / 2);
        let learned = widening(older);
        let covered = newer.iter().filter(|&&miss| miss <= learned).count() as f64 / newer.len() as f64;
        let mase = if naive > 1e-12 { (loss / naive).min(WORST_MASE) } else { naive_is_perfect(loss) };
        Some(Verdict {
            score: BacktestScore { mase, coverage: covered, origins: self.origins.len() },
            widening: widening(&misses),
            loss,
        })
    }
}

/// Absolute error after undoing the root.
fn load_error(centre: f64, actual: f64) -> f64 {
    let centre = centre.max(0.0);
    (centre * centre - actual * actual).abs()
}

fn naive_is_perfect(loss: f64) -> f64 {
    if loss > 1e-12 { WORST_MASE } else { 1.0 }
}

fn relative_miss(reach: Reach, actual: f64) -> f64 {
    let miss = actual - reach.centre.max(0.0);
    miss.abs() / (if miss > 0.0 { reach.up } else { reach.down }).max(1e-6)
}

fn widening(misses: &[f64]) -> f64 {
    let mut sorted = misses.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = ((sorted.len() as f64 * LEVEL).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[place].sqrt().clamp(WIDENING.0, WIDENING.1)
}

/// At most `most` different numbers from `first` to `last`, ends included, ascending.
fn spread(first: usize, last: usize, most: usize) -> Vec<usize> {
    let parts = most.min(last - first + 1).max(2) - 1;
    let mut all: Vec<usize> = (0..=parts).map(|part| first + (last - first) * part / parts).collect();
    all.dedup();
    all
}
