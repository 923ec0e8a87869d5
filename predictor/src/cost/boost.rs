//! Gradient boosting of all heads together.
//!
//! | head | target | gradient |
//! |---|---|---|
//! | ln cost | ln y - anchor | residual (squared error) |
//! | above a class border, three of them | 1 if y is above it | residual (squared error, drawn into [0, 1] when served) |
//! | expected cost | y, through exp | `y/exp(f) - 1` (gamma deviance by Fisher scoring, where a row's curvature is 1) |
//!
//! The *anchor* ([`Anchor`]) is what the running means of the request's own keys say, frozen at arrival with the other
//! features: the trees learn what the running means miss, and where costs drift beyond anything in the sample, the answer drifts with the means
//! (trees alone cannot extrapolate). A head counts in a split by the inverse of its variance. Each tree sees a random
//! half of the rows (Friedman 2002) and of the columns (Breiman 2001; Chen and Guestrin, KDD 2016), which costs at most
//! half a per cent of log-RMSE on the four data sets of `foretide backtest cost` and saves time. Pure: the same rows, borders and settings give the same trees.

use crate::cost::anchor::Anchor;
use crate::cost::approx;
use crate::cost::bins::columns;
use crate::cost::features::Features;
use crate::cost::forest::{ABOVE, Forest, HEADS, LANES, LOG, Leaf, MEAN};
use crate::cost::grow::{COUNT, FEW_COLUMNS, GrowSettings, Grower};
use crate::hash;

/// Fewest rows in a leaf: means of fewer are noise.
const MIN_LEAF_ROWS: f32 = 25.0;
/// Rows that a leaf is drawn towards 0 with.
const LAMBDA: f32 = 10.0;
/// A row may pull its expected cost by this much at most: one outlier must not own a leaf. At 15 two of them in a leaf of 25 could
/// not be outweighed, and one consumer that lied now and then moved what others were told 6.5-fold instead of 1.9-fold
/// (`tests/cost_liar.rs`); the sets of `foretide backtest cost` hardly differ.
const MOST_PULL: f32 = 10.0;

/// What to boost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoostSettings {
    pub trees: usize,
    pub depth: usize,
    pub learning_rate: f32,
    pub seed: u64,
    /// Upper ends of the classes, as ln cost.
    pub log_borders: [f32; 3],
}

/// State of a row while boosting.
struct Row {
    /// ln cost minus the anchor.
    target: f32,
    above: [f32; 3],
    /// Sum of the trees so far, by head.
    sums: Leaf,
}

/// Boosts trees on frozen features and ln costs (finite, of the same length, not empty).
pub(crate) fn boost(
    anchor: &Anchor,
    features: &[&Features],
    log_costs: &[f32],
    settings: &BoostSettings,
) -> Forest {
    let with_anchor: Vec<Features> = features.iter().map(|row| anchor.among(row)).collect();
    let columns = columns(&with_anchor.iter().collect::<Vec<_>>());
    let mut rows: Vec<Row> = with_anchor
        .iter()
        .zip(log_costs)
        .map(|(features, &log)| Row {
            target: log - features.anchor_log(),
            above: settings.log_borders.map(|border| f32::from(u8::from(log > border))),
            sums: [0.0; LANES],
        })
        .collect();
    let base = base(&rows);
    rows.iter_mut().for_each(|row| row.sums = base);
    let grow = GrowSettings {
        depth: settings.depth,
        min_rows: MIN_LEAF_ROWS,
        lambda: LAMBDA,
        learning_rate: settings.learning_rate,
        weights: weights(&rows),
    };
    let mut grower = Grower::new(&columns, grow);
    let mut gradients: Vec<Leaf> = vec![[0.0; LANES]; rows.len()];
    let mut trees = Vec::with_capacity(settings.trees);
    for round in 0..settings.trees {
        for (gradient, row) in gradients.iter_mut().zip(&rows) {
            *gradient = row.gradient();
        }
        let seed = hash::pair(settings.seed, round as u64);
        let half_of_rows = half(rows.len(), seed);
        let chosen = if columns.len() < FEW_COLUMNS {
            (0..columns.len() as u32).collect()
        } else {
            half(columns.len(), hash::mix(seed))
        };
        let grown = grower.grow(&half_of_rows, &chosen, &gradients);
        for (row, &place) in rows.iter_mut().zip(&grown.places) {
            let leaf = &grown.tree.leaves[usize::from(place)];
            row.sums.iter_mut().zip(leaf).for_each(|(sum, value)| *sum += value);
        }
        trees.push(grown.tree);
    }
    Forest::new(base, settings.depth, &trees)
}

impl Row {
    fn gradient(&self) -> Leaf {
        let mut gradient = [0f32; LANES];
        gradient[LOG] = self.target - self.sums[LOG];
        for border in 0..self.above.len() {
            gradient[ABOVE + border] = self.above[border] - self.sums[ABOVE + border];
        }
        gradient[MEAN] = approx::exp(self.target - self.sums[MEAN]).min(MOST_PULL) - 1.0;
        gradient[COUNT] = 1.0;
        gradient
    }
}

/// Where the heads start: means, and the ln of the mean ratio of cost to anchor.
fn base(rows: &[Row]) -> Leaf {
    let mean = |of: &dyn Fn(&Row) -> f32| {
        (rows.iter().map(|row| f64::from(of(row))).sum::<f64>() / rows.len() as f64) as f32
    };
    let mut base = [0f32; LANES];
    base[LOG] = mean(&|row| row.target);
    for border in 0..3 {
        base[ABOVE + border] = mean(&|row| row.above[border]);
    }
    let centre = base[LOG];
    base[MEAN] = centre + approx::ln(mean(&|row| approx::exp(row.target - centre).min(MOST_PULL)));
    base
}

/// Inverse variance of each head's gradients; the three classes count as one head, expected cost as half.
fn weights(rows: &[Row]) -> [f32; HEADS] {
    let mut squares = [0f64; HEADS];
    for row in rows {
        let gradient = row.gradient();
        squares.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += f64::from(value * value));
    }
    let share = |head: usize| match head {
        LOG => 1.0,
        MEAN => 0.5,
        _ => 1.0 / 3.0,
    };
    std::array::from_fn(|head| (share(head) * rows.len() as f64 / squares[head].max(1e-9)) as f32)
}

/// About half of so many, in order.
fn half(count: usize, seed: u64) -> Vec<u32> {
    let mut bits = 0;
    let chosen = |&index: &u32| {
        if index % 64 == 0 {
            bits = hash::pair(seed, u64::from(index));
        }
        bits >> (index % 64) & 1 == 1
    };
    (0..count as u32).filter(chosen).collect()
}
