//! Weighted least squares, drawn towards a prior (ridge regression: Hoerl and Kennard, 1970). Own
//! code because the prior and the weights are ours, and the normal equations are small.

/// The coefficients of one row of `inputs` a target, each row by its weight, that come nearest to the targets; `penalties`
/// draw them towards `prior`, whose length is that of a row. `None` if they are not determined or not finite.
pub fn solve(
    inputs: &[f64],
    targets: &[f64],
    weights: &[f64],
    prior: &[f64],
    penalties: &[f64],
) -> Option<Vec<f64>> {
    let width = prior.len();
    let mut matrix = vec![0.0; width * width];
    let mut right = vec![0.0; width];
    for ((input, target), weight) in inputs.chunks_exact(width).zip(targets).zip(weights) {
        let beyond = weight * (target - dot(input, prior));
        for (i, value) in input.iter().enumerate() {
            right[i] += beyond * value;
            let weighted = weight * value;
            for (cell, other) in matrix[i * width..=i * width + i].iter_mut().zip(input) {
                *cell += weighted * other;
            }
        }
    }
    for (i, penalty) in penalties.iter().enumerate() {
        matrix[i * width + i] += penalty;
    }
    cholesky(&mut matrix, width)?;
    substitute(&matrix, &mut right);
    let solved: Vec<f64> = right.iter().zip(prior).map(|(step, start)| start + step).collect();
    solved.iter().all(|value| value.is_finite()).then_some(solved)
}

/// Lower triangle of a positive definite matrix to its Cholesky factor, in place; `None` if it is not.
fn cholesky(matrix: &mut [f64], width: usize) -> Option<()> {
    for i in 0..width {
        for j in 0..=i {
            let known = dot(&matrix[i * width..i * width + j], &matrix[j * width..j * width + j]);
            let left = matrix[i * width + j] - known;
            if i != j {
                matrix[i * width + j] = left / matrix[j * width + j];
            } else if left > 1e-14 {
                matrix[i * width + i] = left.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(())
}

/// Solves `L·Lᵀ·x = right` in place.
fn substitute(factor: &[f64], right: &mut [f64]) {
    let width = right.len();
    for i in 0..width {
        let known = dot(&factor[i * width..i * width + i], &right[..i]);
        right[i] = (right[i] - known) / factor[i * width + i];
    }
    for i in (0..width).rev() {
        let known: f64 = (i + 1..width).map(|j| factor[j * width + i] * right[j]).sum();
        right[i] = (right[i] - known) / factor[i * width + i];
    }
}

/// Sum of products.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
