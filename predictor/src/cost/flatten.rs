//! From smartcore's boxed trees to flat ones.
//!
//! smartcore 0.7 keeps its trees private, but derives serde for them. postcard writes fields in order of declaration
//! and nothing else, so structs of the same shape read them back exactly (JSON text would round). The shape belongs to
//! one version of smartcore: it is pinned, the golden test below would notice a change, and every trained model is
//! compared with the library's own answers before it may serve.

use serde::{Deserialize, Serialize};

use crate::cost::features::FEATURES;
use crate::cost::forest::{Forest, LANES, LOG, Node, PerfectTree};

/// Mirror of `XGRegressor`, as far as it is needed: what follows in the bytes is left unread.
#[derive(Deserialize)]
struct Ensemble {
    trees: Option<Vec<BoxedTree>>,
}

/// Mirror of `TreeRegressor`.
#[derive(Deserialize)]
struct BoxedTree {
    left: Option<Box<BoxedTree>>,
    right: Option<Box<BoxedTree>>,
    value: f64,
    threshold: f64,
    feature: usize,
    #[serde(rename = "split_score")]
    _split_score: f64,
}

/// Reads a fitted regressor and lays its trees out flat. `base` and `learning_rate` are what it was fitted with.
pub(crate) fn flatten<R: Serialize>(
    regressor: &R,
    base: f64,
    learning_rate: f64,
    depth: usize,
) -> Result<Forest, String> {
    let bytes = postcard::to_allocvec(regressor).map_err(|error| error.to_string())?;
    let ensemble: Ensemble = postcard::from_bytes(&bytes).map_err(|error| error.to_string())?;
    let boxed = ensemble.trees.ok_or("the regressor was not fitted")?;
    let mut trees = Vec::with_capacity(boxed.len());
    for tree in &boxed {
        let mut flat = PerfectTree::zero(depth);
        place(tree, 0, depth, learning_rate, &mut flat)?;
        trees.push(flat);
    }
    let mut bases = [0.0; LANES];
    bases[LOG] = base as f32;
    let forest = Forest::new(bases, depth, trees);
    if forest.is_sound() { Ok(forest) } else { Err("a leaf or threshold is not a number".into()) }
}

/// Writes `tree` to node `index`; `below` levels remain.
fn place(
    tree: &BoxedTree,
    index: usize,
    below: usize,
    learning_rate: f64,
    flat: &mut PerfectTree,
) -> Result<(), String> {
    let inner = flat.nodes.len();
    let (Some(left), Some(right)) = (&tree.left, &tree.right) else {
        // Padding always goes left, so only the leftmost leaf below an early end is ever reached.
        let leaf = (0..below).fold(index, |at, _| 2 * at + 1);
        flat.leaves[leaf - inner][LOG] = (tree.value * learning_rate) as f32;
        return Ok(());
    };
    if below == 0 {
        return Err("a tree is deeper than it was asked to be".into());
    }
    let feature = u8::try_from(tree.feature).ok().filter(|&feature| usize::from(feature) < FEATURES);
    let feature = feature.ok_or_else(|| format!("no feature {}", tree.feature))?;
    flat.nodes[index] = Node::new(feature, rounded_down(tree.threshold));
    place(left, 2 * index + 1, below - 1, learning_rate, flat)?;
    place(right, 2 * index + 2, below - 1, learning_rate, flat)
}

/// The largest f32 not above `threshold`: for every f32 `x`, `x <= threshold` exactly if `x <= rounded_down(threshold)`.
fn rounded_down(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::features::Features;
    use proptest::prelude::*;
    use smartcore::linalg::basic::matrix::DenseMatrix;
    use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

    /// Two tiny trees on eight rows whose structure can be checked by hand.
    #[test]
    fn golden_the_library_still_serialises_in_the_shape_we_read() {
        let mut cells = vec![0f32; 8 * FEATURES];
        for row in 0..8 {
            cells[row * FEATURES + 3] = row as f32;
        }
        let x = DenseMatrix::new(8, FEATURES, cells, false).unwrap();
        let y: Vec<f64> = [1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0].to_vec();
        let parameters = XGRegressorParameters::default()
            .with_n_estimators(2)
            .with_max_depth(1)
            .with_learning_rate(0.5)
            .with_base_score(3.0)
            .with_lambda(0.0);
        let regressor = XGRegressor::fit(&x, &y, parameters).unwrap();
        let forest = flatten(&regressor, 3.0, 0.5, 1).unwrap();
        let answer = |value: f32| {
            let mut features = Features([0.0; FEATURES]);
            features.0[3] = value;
            forest.sums(&features)[LOG]
        };
        // The split lies at 3.5; two rounds of half the residual (2, then 1) leave half a unit.
        assert_eq!(answer(3.5), 3.0 - 1.0 - 0.5);
        assert_eq!(answer(3.6), 3.0 + 1.0 + 0.5);
        let bytes = postcard::to_allocvec(&regressor).unwrap();
        assert_eq!(bytes.len(), 246, "the serialised shape of smartcore's regressor has changed");
    }

    proptest! {
        #[test]
        fn rounding_down_keeps_every_f32_comparison(threshold in any::<f64>(), x in any::<f32>()) {
            prop_assume!(threshold.is_finite());
            prop_assert_eq!(f64::from(x) <= threshold, x <= rounded_down(threshold));
        }

        #[test]
        fn rounding_down_keeps_comparisons_of_neighbours(x in -1e9f32..1e9) {
            let middle = (f64::from(x) + f64::from(x.next_up())) / 2.0;
            prop_assert!(x <= rounded_down(middle));
            prop_assert!(x.next_up() > rounded_down(middle));
        }
    }
}
