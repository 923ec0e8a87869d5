//! Boosted trees as they are served: every tree a perfect binary tree of the same depth, in flat arrays, each leaf with
//! one value for every head.
//!
//! Inner nodes lie in order: a tree's root in the middle of its slots, its left half and its right half on either side, each
//! again with its root in the middle. A step adds `half` to the place where `x > threshold` and halves `half`, so the walk has
//! no branch to mispredict and takes seven instructions a level; the place it ends at is the leaf's. [`ABREAST`] trees are
//! walked at a time, level by level, so that none waits for another, and numbers are compared as integers of the same
//! order, which takes fewer cycles than comparing floats. Branches that end early are padded with a threshold of +∞ (always
//! left). A NaN goes to one side everywhere: no input
//! can panic. All heads share one structure, so that five answers cost one walk and a vector addition a tree.
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
/// Features padded to what a byte can name: then no index needs a check.
const PADDED: usize = 256;
/// Trees walked at a time: the quickest of 1, 2, 4, 5, 8 and 10 for 50 trees of depth 4.
const ABREAST: usize = 5;

/// One value a head.
pub(crate) type Leaf = [f32; LANES];

/// A sum of trees over base values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Forest {
    base: Leaf,
    depth: u8,
    /// In order. A tree takes 2^depth slots, of which the first is unused: with a power of two no index needs a check.
    nodes: Vec<Node>,
    /// 2^depth a tree.
    leaves: Vec<Leaf>,
}

/// An inner node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Go right where the feature is above this.
    pub threshold: Ordered,
    /// Index into the features.
    pub feature: u8,
}

/// A number as an integer that compares like it; NaN below all, zero without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ordered(i32);

/// One perfect tree, to be put into a forest. Its nodes lie level by level, as trees grow: below node i, counted from 1,
/// are nodes 2i and 2i + 1.
#[derive(Clone, Debug)]
pub(crate) struct PerfectTree {
    pub nodes: Vec<Node>,
    pub leaves: Vec<Leaf>,
}

impl Ordered {
    const INFINITY: Self = Self(f32::INFINITY.to_bits() as i32);
    const NAN: Self = Self(i32::MIN);

    #[inline(always)]
    pub(crate) fn of(number: f32) -> Self {
        // Adding zero takes its sign off a zero; the bits of negative numbers fall where the numbers rise.
        let bits = (number + 0.0).to_bits() as i32;
        let ordered = bits ^ ((bits >> 31) as u32 >> 1) as i32;
        Self(if number.is_nan() { Self::NAN.0 } else { ordered })
    }

    /// The same for a feature, where the sign of a zero makes no difference, because no threshold has one: three
    /// instructions for four of them. A NaN is beyond all thresholds, on the side of its sign.
    #[inline(always)]
    fn of_feature(number: f32) -> Self {
        let bits = number.to_bits() as i32;
        Self(bits ^ ((bits >> 31) as u32 >> 1) as i32)
    }

    fn number(self) -> f32 {
        let bits = self.0 ^ ((self.0 >> 31) as u32 >> 1) as i32;
        if self == Self::NAN { f32::NAN } else { f32::from_bits(bits as u32) }
    }
}

impl Serialize for Ordered {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f32::deserialize(deserializer).map(Self::of)
    }
}

impl Node {
    /// Sends everything left.
    pub(crate) const PADDING: Self = Self { threshold: Ordered::INFINITY, feature: 0 };

    /// Goes right where `feature` is above `threshold`.
    pub(crate) fn new(feature: u8, threshold: f32) -> Self {
        Self { threshold: Ordered::of(threshold), feature }
    }
}

impl PerfectTree {
    /// A tree that answers 0.
    pub(crate) fn zero(depth: usize) -> Self {
        Self { nodes: vec![Node::PADDING; (1 << depth) - 1], leaves: vec![[0.0; LANES]; 1 << depth] }
    }

    /// Its nodes from left to right; the first of the 2^depth slots is unused.
    fn nodes_in_order(&self) -> Vec<Node> {
        let slots = self.leaves.len();
        let mut ordered = vec![Node::PADDING; slots];
        for (index, &node) in self.nodes.iter().enumerate() {
            let level = (index + 1).ilog2();
            let from_left = index + 1 - (1 << level);
            ordered[(2 * from_left + 1) * (slots >> (level + 1))] = node;
        }
        ordered
    }
}

impl Forest {
    /// Puts trees of one depth together.
    pub(crate) fn new(base: Leaf, depth: usize, trees: Vec<PerfectTree>) -> Self {
        Self {
            base,
            depth: depth as u8,
            nodes: trees.iter().flat_map(PerfectTree::nodes_in_order).collect(),
            leaves: trees.iter().flat_map(|tree| tree.leaves.iter().copied()).collect(),
        }
    }

    /// Base values plus the sums of the leaves that the features lead to, by head.
    pub(crate) fn sums(&self, features: &Features) -> Leaf {
        let mut row = [Ordered(0); PADDED];
        for (ordered, &feature) in row.iter_mut().zip(&features.0) {
            *ordered = Ordered::of_feature(feature);
        }
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

    /// [`Self::sums`] for trees of `DEPTH` with `SLOTS = 2^DEPTH` slots of nodes and as many leaves.
    fn walk<const DEPTH: usize, const SLOTS: usize>(&self, row: &[Ordered; PADDED]) -> Leaf {
        let mut sums = self.base;
        let (nodes, other_nodes) = self.nodes.as_chunks::<SLOTS>().0.as_chunks::<ABREAST>();
        let (leaves, other_leaves) = self.leaves.as_chunks::<SLOTS>().0.as_chunks::<ABREAST>();
        for (nodes, leaves) in nodes.iter().zip(leaves) {
            add_leaves::<ABREAST, DEPTH, SLOTS>(row, nodes, leaves, &mut sums);
        }
        for (nodes, leaves) in other_nodes.iter().zip(other_leaves) {
            add_leaves::<1, DEPTH, SLOTS>(
                row,
                std::array::from_ref(nodes),
                std::array::from_ref(leaves),
                &mut sums,
            );
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
            && self.nodes.iter().all(|node| node.threshold != Ordered::NAN)
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
            let mut expected = expected_leaf(nodes, leaves, head);
            bias += expected;
            let (mut from, mut half) = (0, slots / 2);
            while half > 0 {
                let Node { threshold, feature } = nodes[from + half];
                let feature = usize::from(feature).min(FEATURES - 1);
                from += half * usize::from(Ordered::of_feature(features.0[feature]) > threshold);
                let below = from..from + half;
                let next = expected_leaf(&nodes[below.clone()], &leaves[below], head);
                moved[feature] += next - expected;
                (expected, half) = (next, half / 2);
            }
        }
        (moved, bias)
    }
}

/// Walks `TREES` trees abreast and adds their leaves. With all sizes known when compiled the walk is unrolled, and
/// masking an index costs less than checking it.
#[inline(always)]
fn add_leaves<const TREES: usize, const DEPTH: usize, const SLOTS: usize>(
    row: &[Ordered; PADDED],
    nodes: &[[Node; SLOTS]; TREES],
    leaves: &[[Leaf; SLOTS]; TREES],
    sums: &mut Leaf,
) {
    let mut places = [0usize; TREES];
    let mut half = SLOTS;
    for _ in 0..DEPTH {
        half /= 2;
        for (place, nodes) in places.iter_mut().zip(nodes) {
            let node = &nodes[(*place + half) % SLOTS];
            let right = row[usize::from(node.feature)] > node.threshold;
            *place += usize::from(right) * half;
        }
    }
    for (place, leaves) in places.iter().zip(leaves) {
        for (sum, value) in sums.iter_mut().zip(&leaves[place % SLOTS]) {
            *sum += value;
        }
    }
}

/// Mean of the leaves of a tree that can be reached; padding reaches its left side only.
fn expected_leaf(nodes: &[Node], leaves: &[Leaf], head: usize) -> f32 {
    let half = leaves.len() / 2;
    if half == 0 {
        return leaves[0][head];
    }
    let left = expected_leaf(&nodes[..half], &leaves[..half], head);
    if nodes[half].threshold == Ordered::INFINITY {
        return left;
    }
    (left + expected_leaf(&nodes[half..], &leaves[half..], head)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(feature: u8, threshold: f32, left: f32, right: f32) -> PerfectTree {
        let leaf = |value: f32| std::array::from_fn(|head| value * (head + 1) as f32);
        PerfectTree { nodes: vec![Node::new(feature, threshold)], leaves: vec![leaf(left), leaf(right)] }
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
        // A NaN goes to the side of its sign.
        (features.0[4], features.0[5]) = (-f32::NAN, f32::NAN);
        (features.0[6], features.0[7]) = (f32::NEG_INFINITY, -0.0);
        assert_eq!(forest.sums(&features)[LOG], 10.0 + 1.0 + 32.0 + 256.0);
        assert_eq!(forest.sums(&features)[MEAN], 10.0 + 5.0 * 289.0);
    }

    #[test]
    fn every_leaf_is_reached_by_its_own_way() {
        for depth in 1..=MAX_DEPTH {
            // Level k asks feature k whether it is above 0: a number's bits, highest first, are the way to its leaf.
            let mut tree = PerfectTree::zero(depth);
            for (index, node) in tree.nodes.iter_mut().enumerate() {
                *node = Node::new((index + 1).ilog2() as u8, 0.0);
            }
            for (number, leaf) in tree.leaves.iter_mut().enumerate() {
                *leaf = [number as f32; LANES];
            }
            // Seven trees: some are walked together, some alone.
            let forest = Forest::new([0.0; LANES], depth, vec![tree; 7]);
            for number in 0..1 << depth {
                let mut features = Features([0.0; FEATURES]);
                (0..depth).for_each(|level| features.0[level] = (number >> (depth - 1 - level) & 1) as f32);
                assert_eq!(forest.sums(&features), [7.0 * number as f32; LANES], "depth {depth}");
            }
        }
    }

    #[test]
    fn contributions_sum_to_the_answer() {
        let mut deep = PerfectTree::zero(2);
        deep.nodes = vec![Node::new(1, 0.0), Node::PADDING, Node::new(2, 5.0)];
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
    fn integers_compare_like_the_numbers_they_stand_for() {
        let numbers =
            [f32::NEG_INFINITY, -3.5, -f32::MIN_POSITIVE, -0.0, 0.0, 1e-40, 2.0, f32::MAX, f32::INFINITY];
        for a in numbers {
            assert_eq!(Ordered::of(a).number(), a);
            assert!(Ordered::of(f32::NAN) < Ordered::of(a));
            for b in numbers {
                assert_eq!(Ordered::of(a) > Ordered::of(b), a > b, "{a} {b}");
                assert_eq!(Ordered::of_feature(a) > Ordered::of(b), a > b, "{a} {b}");
            }
        }
        assert_eq!((Ordered::of(-f32::NAN), Ordered::of(f32::INFINITY)), (Ordered::NAN, Ordered::INFINITY));
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
