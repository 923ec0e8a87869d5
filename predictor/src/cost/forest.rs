//! Boosted trees as they are served: symmetric ones, each leaf with one value for every head.
//!
//! All nodes of a level ask the same question (oblivious trees: Kohavi 1994; CatBoost: Prokhorenkova et al., NeurIPS 2018), so
//! a tree is a handful of questions, and the answers, as bits of a number, are the place of its leaf. Depth 6 is about as accurate as
//! ordinary trees of depth 4 or better, and there is nothing to walk: [`Scorer`] asks
//! all trees at once. A NaN is above all thresholds: no input can panic. All heads share one structure, so that five answers cost
//! one look-up and a vector addition a tree. Leaves are stored in 16 bits a head, in steps so small that the sum of all trees
//! fits: they take half the cache, and one addition serves all heads.

use serde::{Deserialize, Serialize};
use wide::i16x8;

use crate::cost::features::{FEATURES, Features};
use crate::cost::scorer::{Scorer, TREES};

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
/// Deepest tree that is served: its place fits a byte; deeper ones do not pay on tabular data of this size.
pub(crate) const MAX_DEPTH: usize = 8;

/// Trees whose leaves are added up apart from those of the others.
const ABREAST: usize = 4;

/// One value a head, in its units.
pub(crate) type Leaf = [f32; LANES];

/// Is `feature` above `threshold`?
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Nothing is above +∞.
    pub threshold: f32,
    /// Index into the features.
    pub feature: u8,
}

/// One tree, to be put into a forest.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// The k-th one is answered by the k-th bit, from below, of a leaf's place. At most as many as the tree is deep.
    pub questions: Vec<Question>,
    /// 2^depth; those that no answers lead to are 0.
    pub leaves: Vec<Leaf>,
}

/// A sum of trees over base values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "SavedForest", into = "SavedForest")]
pub(crate) struct Forest {
    saved: SavedForest,
    scorer: Scorer,
}

/// What a file has of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedForest {
    base: Leaf,
    /// What a head's leaves count, each.
    steps: Leaf,
    depth: u8,
    /// `depth` a tree.
    questions: Vec<Question>,
    /// 2^depth a tree; in steps.
    leaves: Vec<i16x8>,
}

impl Question {
    /// Always answered with no.
    const NEVER: Self = Self { threshold: f32::INFINITY, feature: 0 };

    /// A NaN is above everything that can be above.
    pub(crate) fn is_above(self, features: &Features) -> bool {
        let feature = features.0[usize::from(self.feature).min(FEATURES - 1)];
        self.threshold < f32::INFINITY && (feature > self.threshold || feature.is_nan())
    }
}

impl From<SavedForest> for Forest {
    fn from(saved: SavedForest) -> Self {
        let scorer = Scorer::new(&saved.questions, usize::from(saved.depth).max(1));
        Self { saved, scorer }
    }
}

impl From<Forest> for SavedForest {
    fn from(forest: Forest) -> Self {
        forest.saved
    }
}

impl Forest {
    /// Puts trees of one depth together.
    pub(crate) fn new(base: Leaf, depth: usize, trees: &[Tree]) -> Self {
        let padded = |tree: &Tree| -> Vec<Question> {
            let never = std::iter::repeat(Question::NEVER);
            tree.questions.iter().copied().chain(never).take(depth).collect()
        };
        let mut questions: Vec<Question> = trees.iter().flat_map(padded).collect();
        let steps = steps(trees);
        let in_steps =
            |leaf: &Leaf| i16x8::new(std::array::from_fn(|head| (leaf[head] / steps[head]).round() as i16));
        let mut leaves: Vec<i16x8> = trees.iter().flat_map(|tree| &tree.leaves).map(in_steps).collect();
        // What is missing to a whole number of steps are trees that answer 0.
        let stored = trees.len().next_multiple_of(ABREAST);
        questions.resize(stored * depth, Question::NEVER);
        leaves.resize(stored << depth, i16x8::ZERO);
        Self::from(SavedForest { base, steps, depth: depth as u8, questions, leaves })
    }

    /// The same with what the trees add to these heads times a factor.
    pub(crate) fn scaled(mut self, heads: [usize; 2], factor: f32) -> Self {
        heads.iter().for_each(|&head| self.saved.steps[head] *= factor);
        self
    }

    /// Where a head starts.
    pub(crate) fn base(&self, head: usize) -> f32 {
        self.saved.base[head]
    }

    /// Base values plus the sums of the leaves that the features lead to, by head.
    pub(crate) fn sums(&self, features: &Features) -> Leaf {
        // With the number of leaves known when compiled no place needs a check.
        match self.saved.depth {
            1 => self.added::<2>(features),
            2 => self.added::<4>(features),
            3 => self.added::<8>(features),
            4 => self.added::<16>(features),
            5 => self.added::<32>(features),
            6 => self.added::<64>(features),
            7 => self.added::<128>(features),
            8 => self.added::<256>(features),
            _ => [f32::NAN; LANES],
        }
    }

    /// [`Self::sums`] for trees of so many leaves.
    fn added<const LEAVES: usize>(&self, features: &Features) -> Leaf {
        let trees = self.saved.leaves.as_chunks::<LEAVES>().0.as_chunks::<ABREAST>().0;
        // Several sums, so that no addition waits for the one before it.
        let mut sums = [i16x8::ZERO; ABREAST];
        for (block, trees) in self.scorer.blocks().zip(trees.chunks(TREES / ABREAST)) {
            let places = block.places(features);
            for (places, trees) in places.as_chunks::<ABREAST>().0.iter().zip(trees) {
                for ((sum, &place), leaves) in sums.iter_mut().zip(places).zip(trees) {
                    *sum = sum.saturating_add(leaves[usize::from(place) % LEAVES]);
                }
            }
        }
        let total = sums.iter().fold(i16x8::ZERO, |total, &sum| total.saturating_add(sum)).to_array();
        let SavedForest { base, steps, .. } = &self.saved;
        std::array::from_fn(|head| base[head] + f32::from(total[head]) * steps[head])
    }

    /// Whether the arrays have the lengths that they are read by and all answers are finite; a file may be wrong.
    pub(crate) fn is_sound(&self) -> bool {
        let SavedForest { base, steps, depth, questions, leaves } = &self.saved;
        let depth = usize::from(*depth);
        if depth == 0 || depth > MAX_DEPTH || base.iter().chain(steps).any(|value| !value.is_finite()) {
            return false;
        }
        leaves.len().is_multiple_of(ABREAST << depth)
            && questions.len() == (leaves.len() >> depth) * depth
            && questions
                .iter()
                .all(|asked| !asked.threshold.is_nan() && usize::from(asked.feature) < FEATURES)
    }

    /// A forest without trees that answers NaN.
    pub(crate) fn not_a_number() -> Self {
        Self::from(SavedForest {
            base: [f32::NAN; LANES],
            steps: [0.0; LANES],
            depth: 1,
            questions: Vec::new(),
            leaves: Vec::new(),
        })
    }

    /// Which feature moved one head's answer by how much: the change of the expected leaf (all leaves that are left weighing
    /// the same) with each answer, added to the feature that was asked about. With the base and
    /// the trees' own means they sum to the answer (path attribution after Saabas, 2014).
    pub(crate) fn contributions(&self, features: &Features, head: usize) -> ([f32; FEATURES], f32) {
        let SavedForest { base, steps, depth, questions, leaves } = &self.saved;
        let mut moved = [0f32; FEATURES];
        let mut bias = base[head];
        let depth = usize::from(*depth);
        for (questions, leaves) in questions.chunks_exact(depth).zip(leaves.chunks_exact(1 << depth)) {
            let asked = questions.iter().take_while(|asked| asked.threshold < f32::INFINITY).count();
            let leaves = &leaves[..1 << asked];
            let mut place = 0;
            let mut expected = steps[head] * expected_leaf(leaves, place, 0, head);
            bias += expected;
            for (level, question) in questions[..asked].iter().enumerate() {
                place |= usize::from(question.is_above(features)) << level;
                let next = steps[head] * expected_leaf(leaves, place, level + 1, head);
                moved[usize::from(question.feature).min(FEATURES - 1)] += next - expected;
                expected = next;
            }
        }
        (moved, bias)
    }
}

/// The smallest steps in which the sum of any leaves of all trees fits 16 bits, by head.
fn steps(trees: &[Tree]) -> Leaf {
    // A NaN counts as the largest, so that the steps are none either, and the forest is not sound.
    let largest =
        |tree: &Tree, head: usize| tree.leaves.iter().map(|leaf| leaf[head].abs()).max_by(f32::total_cmp);
    std::array::from_fn(|head| {
        let most: f32 = trees.iter().filter_map(|tree| largest(tree, head)).sum();
        // Each leaf may be rounded up by half a step.
        let step = most / (f32::from(i16::MAX) - trees.len() as f32);
        if step < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { step }
    })
}

/// Mean, in steps, of the leaves that the first `known` answers, in `place`, leave open.
fn expected_leaf(leaves: &[i16x8], place: usize, known: usize, head: usize) -> f32 {
    let open = leaves[place..].iter().step_by(1 << known);
    let count = leaves.len() >> known;
    open.map(|leaf| f32::from(leaf.as_array()[head])).sum::<f32>() / count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(feature: u8, threshold: f32, left: f32, right: f32) -> Tree {
        let leaf = |value: f32| std::array::from_fn(|head| value * (head + 1) as f32);
        Tree { questions: vec![Question { threshold, feature }], leaves: vec![leaf(left), leaf(right)] }
    }

    /// `largest`: sum of the largest leaves of all trees; a leaf is rounded to about 2^-15 of that, and the errors of so many equal trees add up.
    fn assert_close(found: f32, wanted: f32, largest: f32) {
        assert!((found - wanted).abs() <= 2e-3 * largest, "{found} instead of {wanted}");
    }

    #[test]
    fn leaves_add_up_and_equality_is_not_above() {
        let trees: Vec<Tree> = (0..9).map(|f| stump(f, 1.0, 0.0, f32::from(1u16 << f))).collect();
        let forest = Forest::new([10.0; LANES], 1, &trees);
        assert!(forest.is_sound());
        let mut features = Features([0.0; FEATURES]);
        assert_eq!(forest.sums(&features), [10.0; LANES]);
        features.0[0] = 2.0;
        features.0[8] = 1.5;
        features.0[3] = 1.0;
        (features.0[4], features.0[5]) = (-f32::NAN, f32::NAN);
        (features.0[6], features.0[7]) = (f32::NEG_INFINITY, f32::INFINITY);
        assert_close(forest.sums(&features)[LOG], 10.0 + 1.0 + 16.0 + 32.0 + 128.0 + 256.0, 511.0);
        assert_close(forest.sums(&features)[MEAN], 10.0 + 5.0 * 433.0, 5.0 * 511.0);
    }

    #[test]
    fn every_leaf_is_reached_by_its_own_answers() {
        for depth in 1..=MAX_DEPTH {
            let questions = (0..depth as u8).map(|feature| Question { threshold: 0.0, feature }).collect();
            let leaves = (0..1 << depth).map(|number| [number as f32; LANES]).collect();
            // More trees than a block holds.
            let forest = Forest::new([0.0; LANES], depth, &vec![Tree { questions, leaves }; TREES + 7]);
            for number in 0..1 << depth {
                let mut features = Features([0.0; FEATURES]);
                (0..depth).for_each(|level| features.0[level] = (number >> level & 1) as f32);
                let (wanted, largest) = ((TREES + 7) as f32 * number as f32, ((TREES + 7) << depth) as f32);
                forest.sums(&features).iter().for_each(|&sum| assert_close(sum, wanted, largest));
            }
        }
    }

    #[test]
    fn contributions_sum_to_the_answer() {
        let questions =
            vec![Question { threshold: 0.0, feature: 1 }, Question { threshold: 5.0, feature: 2 }];
        let leaves = [1.0, 2.0, 1.0, 8.0, 0.0, 0.0, 0.0, 0.0].map(|value| [value; LANES]).to_vec();
        // The third level asks nothing.
        let forest = Forest::new([1.0; LANES], 3, &[Tree { questions, leaves }]);
        let mut features = Features([0.0; FEATURES]);
        features.0[1] = 3.0;
        features.0[2] = 9.0;
        let (moved, bias) = forest.contributions(&features, LOG);
        // Not above 0: 1, else (2 + 8) / 2 = 5; the tree's mean is 3.
        for (found, wanted) in [(bias, 4.0), (moved[1], 2.0), (moved[2], 3.0)] {
            assert_close(found, wanted, 8.0);
        }
        assert_close(bias + moved.iter().sum::<f32>(), forest.sums(&features)[LOG], 8.0);
    }

    #[test]
    fn what_is_saved_answers_the_same() {
        let forest = Forest::new([1.0; LANES], 1, &[stump(3, 0.5, 1.0, 2.0), stump(56, -1.0, 4.0, 8.0)]);
        let bytes = postcard::to_allocvec(&forest).unwrap();
        assert_eq!(postcard::from_bytes::<Forest>(&bytes).unwrap(), forest);
    }

    #[test]
    fn crooked_arrays_are_recognised_and_do_no_harm() {
        let spoilt = |spoil: fn(&mut SavedForest)| {
            let mut saved = Forest::new([0.0; LANES], 1, &[stump(0, 0.0, 1.0, 2.0)]).saved;
            spoil(&mut saved);
            let forest = Forest::from(saved);
            assert!(!forest.is_sound());
            forest.sums(&Features([0.0; FEATURES]))
        };
        spoilt(|saved| saved.leaves.truncate(1));
        spoilt(|saved| saved.questions.clear());
        spoilt(|saved| saved.questions[0].feature = 255);
        spoilt(|saved| saved.questions[0].threshold = f32::NAN);
        spoilt(|saved| saved.depth = 0);
        spoilt(|saved| saved.depth = 200);
        let broken = Forest::new([0.0; LANES], 1, &[stump(0, 0.0, 1.0, f32::NAN)]);
        assert!(!broken.is_sound(), "a leaf that is no number is not stored as 0");
        assert!(!Forest::not_a_number().is_sound());
        assert!(Forest::not_a_number().sums(&Features([0.0; FEATURES]))[LOG].is_nan());
    }
}
