//! Direct regression at a ladder of horizons, interpolated between.
//!
//! One ridge per rung, of `z[t+h] - z[t]` on the [`Design`]. Between two rungs the inputs are those of the horizon
//! asked for and the answers of both rungs are mixed, so that a season's shape is not smeared. Rows are the newest,
//! thinned by a stride that shares no factor with a season (else some phases would never be seen), and weighted
//! `exp(-age / memory)`, memory three of the shortest season.

use crate::design::Design;
use crate::ridge::{self, Rows, Solution};

/// Each rung is at least this much farther than the one before.
const RUNG_RATIO: f64 = 1.6;

/// Rows per rung: more cost time and change little.
const MOST_ROWS: usize = 500;

/// Fewer origins than this teach nothing.
const FEWEST_ORIGINS: usize = 16;

/// Memory in shortest seasons, and ages up to this many memories are looked at.
const MEMORY_SEASONS: f64 = 3.0;
const OLDEST_MEMORIES: f64 = 3.0;

/// A predicted value and how far below and above the truth may lie, all on the scale of the history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) centre: f64,
    pub(super) down: f64,
    pub(super) up: f64,
}

/// The fitted ladder.
pub(super) struct Ladder {
    rungs: Vec<(usize, Solution)>,
}

impl Ladder {
    /// Fits on the first `end` values; `None` when they are too few.
    pub(super) fn fit(design: &Design<'_>, end: usize, farthest: usize) -> Option<Self> {
        let first = design.first_origin();
        if end < first + FEWEST_ORIGINS {
            return None;
        }
        // Half of the origins must know what came after them.
        let farthest = farthest.clamp(1, (end - first) / 2);
        let rungs = rungs(farthest).into_iter();
        let fit = |h| (h, ridge::fit(rows(design, first, end, h), &design.prior(h)));
        Some(Self { rungs: rungs.map(fit).collect() })
    }

    /// Predicts from origin `t`.
    pub(super) fn predict(&self, design: &Design<'_>, t: usize, h: usize) -> Reach {
        let mut row = Vec::with_capacity(design.width());
        design.push_row(t, h, &mut row);
        let above = self.rungs.partition_point(|(rung, _)| *rung < h).min(self.rungs.len() - 1);
        let below = if self.rungs[above].0 <= h { above } else { above.saturating_sub(1) };
        let ((low_rung, near), (high_rung, far)) = (&self.rungs[below], &self.rungs[above]);
        let part = if high_rung > low_rung {
            (h.max(*low_rung) - low_rung) as f64 / (high_rung - low_rung) as f64
        } else {
            1.0
        };
        // Beyond the last rung uncertainty goes on growing like a random walk's.
        let beyond = (h as f64 / *high_rung as f64).max(1.0).sqrt();
        let mix = |near: f64, far: f64| near + part * (far - near);
        Reach {
            centre: design.z()[t] + mix(near.answer(&row), far.answer(&row)),
            down: -mix(near.low, far.low) * beyond,
            up: mix(near.high, far.high) * beyond,
        }
    }
}

fn rungs(farthest: usize) -> Vec<usize> {
    let mut rungs = vec![1];
    let mut next = 2;
    while next < farthest {
        rungs.push(next);
        next = ((next as f64 * RUNG_RATIO) as usize).max(next + 1);
    }
    if farthest > 1 {
        rungs.push(farthest);
    }
    rungs
}

fn rows(design: &Design<'_>, first: usize, end: usize, h: usize) -> Rows {
    let newest = end - 1 - h;
    let memory = MEMORY_SEASONS * design.shortest_season().unwrap_or(end / 6) as f64;
    let span = (newest + 1 - first).min((OLDEST_MEMORIES * memory) as usize + 1);
    let mut stride = span.div_ceil(MOST_ROWS);
    while design.season_lengths().any(|season| common_divisor(stride, season) > 1) {
        stride += 1;
    }
    let count = span.div_ceil(stride);
    let mut rows = Rows {
        width: design.width(),
        inputs: Vec::with_capacity(count * design.width()),
        targets: Vec::with_capacity(count),
        weights: Vec::with_capacity(count),
    };
    for index in 0..count {
        let t = newest - index * stride;
        design.push_row(t, h, &mut rows.inputs);
        rows.targets.push(design.z()[t + h] - design.z()[t]);
        rows.weights.push((-((index * stride) as f64) / memory).exp());
    }
    let all: f64 = rows.weights.iter().sum();
    rows.weights.iter_mut().for_each(|weight| *weight *= count as f64 / all);
    rows
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
