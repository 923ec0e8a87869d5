//! Weighted ridge regression around a prior, made robust by Huber's weights.
//!
//! Minimises `Σ w·ρ(y - x·b) + Σ λ_j (b_j - prior_j)²` with `λ_j = var_j · (rows/1000 + PRIOR_ROWS)`: with many rows a
//! thousandth of the column's variance (Hoerl and Kennard 1970), with few the prior decides. ρ by reweighting, two
//! passes (Huber 1964).

use foretide_predictor::ridge::{dot, solve};

/// The prior counts like this many rows.
const PRIOR_ROWS: f64 = 3.0;

/// Huber's constant: 95 % efficient for normal errors.
const HUBER: f64 = 1.345;

/// Reweighted passes after the plain one; further ones move nothing that shows.
const HUBER_PASSES: usize = 2;

/// Inputs larger than this share of all are cut: yesterday's outage must not be repeated today at full size.
const COMMON: f64 = 0.98;

/// With this many rows the cut is at twice that size.
const SCARCE_ROWS: f64 = 50.0;

/// Rows to learn from.
pub(super) struct Rows {
    /// Numbers in a row.
    pub(super) width: usize,
    /// Inputs, row after row.
    pub(super) inputs: Vec<f64>,
    /// One target a row.
    pub(super) targets: Vec<f64>,
    /// One weight a row, > 0, averaging about 1.
    pub(super) weights: Vec<f64>,
}

/// Learned coefficients, and by how much they missed.
#[derive(Clone, Debug)]
pub(super) struct Solution {
    pub(super) coefficients: Vec<f64>,
    /// Largest size of each input that was learned from; beyond, inputs are cut.
    limits: Vec<f64>,
    /// Weighted 5 % quantile of actual - predicted, <= 0.
    pub(super) low: f64,
    /// Weighted 95 % quantile, >= 0.
    pub(super) high: f64,
}

impl Solution {
    /// What it says for a row of inputs.
    pub(super) fn answer(&self, row: &[f64]) -> f64 {
        let terms = row.iter().zip(&self.limits).zip(&self.coefficients);
        terms.map(|((input, limit), coefficient)| input.clamp(-limit, *limit) * coefficient).sum()
    }
}

/// Fits. Always answers: where the equations cannot be solved, the prior stands.
pub(super) fn fit(mut rows: Rows, prior: &[f64]) -> Solution {
    let limits = cut_inputs(&mut rows);
    let rows = &rows;
    let penalties = penalties(rows);
    let mut coefficients = prior.to_vec();
    let mut weights = rows.weights.clone();
    for pass in 0..=HUBER_PASSES {
        let Some(next) = solve(&rows.inputs, &rows.targets, &weights, prior, &penalties) else { break };
        coefficients = next;
        if pass < HUBER_PASSES {
            let residuals = residuals(rows, &coefficients);
            let limit = HUBER * 1.4826 * median_size(&residuals);
            for ((weight, plain), residual) in weights.iter_mut().zip(&rows.weights).zip(&residuals) {
                *weight =
                    if residual.abs() > limit { plain * limit.max(1e-9) / residual.abs() } else { *plain };
            }
        }
    }
    let mut missed: Vec<(f64, f64)> =
        residuals(rows, &coefficients).into_iter().zip(rows.weights.iter().copied()).collect();
    missed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let optimism = optimism(rows);
    let low = optimism * quantile(&missed, 0.05).min(0.0);
    let high = optimism * quantile(&missed, 0.95).max(0.0);
    Solution { coefficients, limits, low, high }
}

/// Cuts each input a little beyond the [`COMMON`] quantile of its size; returns where.
fn cut_inputs(rows: &mut Rows) -> Vec<f64> {
    let count = rows.targets.len();
    let mut limits = vec![f64::MAX; rows.width];
    if count == 0 {
        return limits;
    }
    let place = ((count as f64 * COMMON) as usize).min(count - 1);
    // Few rows saw only part of what is usual.
    let room = 1.0 + SCARCE_ROWS / count as f64;
    for (column, limit) in limits.iter_mut().enumerate() {
        let mut sizes: Vec<f64> =
            rows.inputs.iter().skip(column).step_by(rows.width).map(|input| input.abs()).collect();
        *limit = room * *sizes.select_nth_unstable_by(place, f64::total_cmp).1;
    }
    for row in rows.inputs.chunks_exact_mut(rows.width) {
        row.iter_mut().zip(&limits).for_each(|(input, limit)| *input = input.clamp(-limit, *limit));
    }
    limits
}

/// How much larger misses on new rows are than on those learned from: `√((n + p) / (n - p))`, as for least squares.
fn optimism(rows: &Rows) -> f64 {
    let (count, width) = (rows.targets.len().max(1) as f64, rows.width as f64);
    ((count + width) / (count - width).max(count / 4.0)).sqrt()
}

fn residuals(rows: &Rows, coefficients: &[f64]) -> Vec<f64> {
    let inputs = rows.inputs.chunks_exact(rows.width);
    inputs.zip(&rows.targets).map(|(input, target)| target - dot(input, coefficients)).collect()
}

fn median_size(residuals: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = residuals.iter().map(|residual| residual.abs()).collect();
    let middle = sizes.len() / 2;
    if sizes.is_empty() { 0.0 } else { *sizes.select_nth_unstable_by(middle, f64::total_cmp).1 }
}

/// Weighted quantile of (value, weight) pairs sorted by value; 0 of nothing.
fn quantile(sorted: &[(f64, f64)], level: f64) -> f64 {
    let all: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    let reached = sorted.iter().find(|(_, weight)| {
        below += weight;
        below >= level * all
    });
    reached.or(sorted.last()).map_or(0.0, |(value, _)| *value)
}

/// A constant column (the intercept) is penalised as if it varied by its size.
fn penalties(rows: &Rows) -> Vec<f64> {
    let count = rows.targets.len() as f64;
    let (mut sums, mut squares) = (vec![0.0; rows.width], vec![0.0; rows.width]);
    for input in rows.inputs.chunks_exact(rows.width) {
        for (column, value) in input.iter().enumerate() {
            sums[column] += value;
            squares[column] += value * value;
        }
    }
    let penalty = |(sum, square): (f64, f64)| {
        let mean = sum / count.max(1.0);
        let variance = square / count.max(1.0) - mean * mean;
        let variance = if variance > 1e-9 * mean * mean { variance } else { mean * mean };
        variance.max(1e-9) * (count / 1_000.0 + PRIOR_ROWS)
    };
    sums.into_iter().zip(squares).map(penalty).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Rows {
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (a, b) = ((index as f64 * 0.7).sin(), (index as f64 * 1.3).cos());
            inputs.extend([a, b, 1.0]);
            targets.push(2.0 * a - 0.5 * b + 0.25);
        }
        Rows { width: 3, inputs, targets, weights: vec![1.0; count] }
    }

    #[test]
    fn finds_the_line_in_spite_of_wild_targets() {
        let mut rows = rows(2_000);
        (0..2_000).step_by(20).for_each(|index| rows.targets[index] = 50.0);
        let found = fit(rows, &[0.0; 3]).coefficients;
        for (found, real) in found.iter().zip([2.0, -0.5, 0.25]) {
            assert!((found - real).abs() < 0.05, "{found} is not {real}");
        }
    }

    #[test]
    fn without_rows_the_prior_stands() {
        let solution = fit(rows(0), &[1.0, 2.0, 3.0]);
        assert_eq!(solution.coefficients, [1.0, 2.0, 3.0]);
        assert_eq!((solution.low, solution.high), (0.0, 0.0));
    }
}
