//! Boosted trees as they are served: every tree a perfect binary tree of the same depth, in flat arrays, each leaf with
//! one value for every head.
//!
//! Inner node i, counted from 1, holds a feature and a threshold; the step is `i = 2i + (x > threshold)`, so the walk has
//! no branch to mispredict, and no tree waits for another: the processor walks several at a time by itself. Branches
//! that end early are padded with a threshold of +∞ (always left). NaN compares false and goes left too: no input can
//! panic. All heads share one structure, so that five answers cost one walk and a vector addition a tree.
//! Measured at over thirty times the speed of walking boxed nodes (see `benches/predict.rs`).

use serde::{Deserialize, Serialize};

use crate::cost::features::{FEATURES, Features};

/// Answers a leaf gives; [`LANES`] of them are stored.
pub(crate) const HEADS: usize = 5;
/// Head of expected ln cost.
pub(crate) const LOG: usize = 0;
/// First of the three heads of "above this class border".
pub(crate) const ABOVE: usize = 1;
/// Head of ln expected cost.
pub(crate) const MEAN: usize = 4;
/// A leaf as it is stored: a whole vector register or two.
pub(crate) const LANES: usize = 8;
/// Deepest tree that is served: 2^8 leaves; deeper ones do not pay on tabular data of this size.
pub(crate) const MAX_DEPTH: usize = 8;
/// Features padded to a power of two: then no index needs a check.
const PADDED: usize = FEATURES.next_power_of_two();

/// One value a head.
pub(crate) type Leaf = [f32; LANES];

/// A sum of trees over base values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Forest {
    base: Leaf,
    depth: u8,
    /// A tree takes 2^depth slots, of which the first is unused: with a power of two no index needs a check.
    nodes: Vec<Node>,
    /// 2^depth a tree.
    leaves: Vec<Leaf>,
}

/// An inner node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Go right where the feature is above this.
    pub threshold: f32,
    /// Index into the features.
    pub feature: u8,
}

/// One perfect tree, to be put into a forest.
#[derive(Clone, Debug)]
pub(crate) struct PerfectTree {
    pub nodes: Vec<Node>,
    pub leaves: Vec<Leaf>,
}

impl Node {
    /// Sends everything left.
    pub(crate) const PADDING: Self = Self { threshold: f32::INFINITY, feature: 0 };
}

impl PerfectTree {
    /// A tree that answers 0.
    pub(crate) fn zero(depth: usize) -> Self {
        Self { nodes: vec![Node::PADDING; (1 << depth) - 1], leaves: vec![[0.0; LANES]; 1 << depth] }
    }
}

impl Forest {
    /// Puts trees of one depth together.
    pub(crate) fn new(base: Leaf, depth: usize, trees: Vec<PerfectTree>) -> Self {
        Self {
            base,
            depth: depth as u8,
            nodes: trees
                .iter()
                .flat_map(|tree| std::iter::once(Node::PADDING).chain(tree.nodes.iter().copied()))
                .collect(),
            leaves: trees.iter().flat_map(|tree| tree.leaves.iter().copied()).collect(),
        }
    }

    /// Base values plus the sums of the leaves that the features lead to, by head.
    pub(crate) fn sums(&self, features: &Features) -> Leaf {
        let mut row = [0f32; PADDED];
        row[..FEATURES].copy_from_slice(&features.0);
        match self.depth {
            1 => self.walk::<1, 2>(&row),
            2 => self.walk::<2, 4>(&row),
            3 => self.walk::<3, 8>(&row),
            4 => self.walk::<4, 16>(&row),
            5 => self.walk::<5, 32>(&row),
            6 => self.walk::<6, 64>(&row),
            7 => self.walk::<7, 128>(&row),
            8 => self.walk::<8, 256>(&row),
            _ => [f32::NAN; LANES],
        }
    }

    /// [`Self::sums`] for trees of `DEPTH` with `SLOTS = 2^DEPTH` slots of nodes and as many leaves. With both known
    /// when compiled the walk is unrolled, and masking the index costs less than checking it.
    fn walk<const DEPTH: usize, const SLOTS: usize>(&self, row: &[f32; PADDED]) -> Leaf {
        let mut sums = self.base;
        let trees = self.nodes.as_chunks::<SLOTS>().0.iter().zip(self.leaves.as_chunks::<SLOTS>().0);
        for (nodes, leaves) in trees {
            let step = |index: usize| {
                let node = &nodes[index % SLOTS];
                2 * index + usize::from(row[usize::from(node.feature) % PADDED] > node.threshold)
            };
            let index = (0..DEPTH).fold(1, |index, _| step(index));
            for (sum, value) in sums.iter_mut().zip(&leaves[index % SLOTS]) {
                *sum += value;
            }
        }
        sums
    }

    /// Whether the arrays have the lengths that the walk counts on and all answers are finite; a file may be wrong.
    pub(crate) fn is_sound(&self) -> bool {
        let depth = usize::from(self.depth);
        if depth == 0 || depth > MAX_DEPTH || self.base.iter().any(|value| !value.is_finite()) {
            return false;
        }
        self.leaves.len().is_multiple_of(1 << depth)
            && self.nodes.len() == self.leaves.len()
            && self.leaves.iter().flatten().all(|value| value.is_finite())
            && self.nodes.iter().all(|node| !node.threshold.is_nan())
    }

    /// A forest without trees that answers NaN.
    pub(crate) fn not_a_number() -> Self {
        Self { base: [f32::NAN; LANES], depth: 1, nodes: Vec::new(), leaves: Vec::new() }
    }

    /// Which feature moved one head's answer by how much: the change of the expected leaf (all leaves below weighing
    /// the same) at each step of each path, added to the feature that was asked there. With the base and
    /// the trees' own means they sum to the answer (path attribution after Saabas, 2014).
    pub(crate) fn contributions(&self, features: &Features, head: usize) -> ([f32; FEATURES], f32) {
        let mut moved = [0f32; FEATURES];
        let mut bias = self.base[head];
        let slots = 1usize << self.depth;
        for (nodes, leaves) in self.nodes.chunks_exact(slots).zip(self.leaves.chunks_exact(slots)) {
            let expected = expected_leaves(nodes, leaves, head);
            bias += expected[1];
            let mut at = 1;
            while at < slots {
                let Node { threshold, feature } = nodes[at];
                let feature = usize::from(feature).min(FEATURES - 1);
                let next = 2 * at + usize::from(features.0[feature] > threshold);
                moved[feature] += expected[next] - expected[at];
                at = next;
            }
        }
        (moved, bias)
    }
}

/// Mean of the leaves that can be reached below each slot, counted from 1; padding reaches its left side only.
fn expected_leaves(nodes: &[Node], leaves: &[Leaf], head: usize) -> Vec<f32> {
    let slots = nodes.len();
    let mut expected = vec![0f32; 2 * slots];
    for (slot, leaf) in expected[slots..].iter_mut().zip(leaves) {
        *slot = leaf[head];
    }
    for at in (1..slots).rev() {
        let (left, right) = (expected[2 * at], expected[2 * at + 1]);
        expected[at] = if nodes[at].threshold == f32::INFINITY { left } else { (left + right) / 2.0 };
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(feature: u8, threshold: f32, left: f32, right: f32) -> PerfectTree {
        let leaf = |value: f32| std::array::from_fn(|head| value * (head + 1) as f32);
        PerfectTree { nodes: vec![Node { threshold, feature }], leaves: vec![leaf(left), leaf(right)] }
    }

    #[test]
    fn leaves_add_up_and_equality_goes_left() {
        let trees = (0..9).map(|f| stump(f, 1.0, 0.0, f32::from(1u16 << f))).collect();
        let forest = Forest::new([10.0; LANES], 1, trees);
        assert!(forest.is_sound());
        let mut features = Features([0.0; FEATURES]);
        assert_eq!(forest.sums(&features), [10.0; LANES]);
        features.0[0] = 2.0;
        features.0[8] = 1.5;
        features.0[3] = 1.0;
        features.0[4] = f32::NAN;
        assert_eq!(forest.sums(&features)[LOG], 10.0 + 1.0 + 256.0);
        assert_eq!(forest.sums(&features)[MEAN], 10.0 + 5.0 * 257.0);
    }

    #[test]
    fn contributions_sum_to_the_answer() {
        let mut deep = PerfectTree::zero(2);
        deep.nodes =
            vec![Node { threshold: 0.0, feature: 1 }, Node::PADDING, Node { threshold: 5.0, feature: 2 }];
        deep.leaves = [1.0, 0.0, 2.0, 8.0].map(|value| [value; LANES]).to_vec();
        let forest = Forest::new([1.0; LANES], 2, vec![deep]);
        let mut features = Features([0.0; FEATURES]);
        features.0[1] = 3.0;
        features.0[2] = 9.0;
        let (moved, bias) = forest.contributions(&features, LOG);
        // Left side 1, right side (2 + 8) / 2 = 5; the tree's mean is 3.
        assert_eq!((bias, moved[1], moved[2]), (4.0, 2.0, 3.0));
        assert_eq!(bias + moved.iter().sum::<f32>(), forest.sums(&features)[LOG]);
    }

    #[test]
    fn crooked_arrays_are_recognised() {
        let mut forest = Forest::new([0.0; LANES], 1, vec![stump(0, 0.0, 1.0, 2.0)]);
        forest.leaves.pop();
        assert!(!forest.is_sound());
        assert!(!Forest::not_a_number().is_sound());
        assert!(Forest::not_a_number().sums(&Features([0.0; FEATURES]))[LOG].is_nan());
    }
}
