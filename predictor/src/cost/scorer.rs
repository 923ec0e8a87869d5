//! The answers of all symmetric trees at once: questions sorted by feature instead of by tree.
//!
//! Of thresholds in order, a number is above the first so many. So eight questions about one feature, of whichever trees, take
//! one comparison of eight numbers, a count of its bits, and the row of a table that holds, for each count, the bits that those
//! answers set in the places of all trees: [`TREES`] bytes, a cache line. The idea is QuickScorer's (Lucchese et al., SIGIR
//! 2015), which clears bits of leaves that are out of reach; with symmetric trees the bits are the place itself. What it costs
//! depends on how many different questions there are, and not on how often they are asked.

use wide::{f32x8, u8x16};

use crate::cost::features::{FEATURES, Features};
use crate::cost::forest::Question;

/// Trees whose places are found together.
pub(crate) const TREES: usize = 64;
/// Thresholds that are compared together.
const ABREAST: usize = 8;

/// Places of the leaves of so many trees, a byte each.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
struct Places([u8; TREES]);

/// Up to eight questions about one feature.
#[derive(Clone, Debug, PartialEq)]
#[repr(align(64))]
struct Group {
    /// In order; +∞ where there are fewer.
    thresholds: [f32; ABREAST],
    feature: usize,
    /// By how many of the thresholds the feature is above: what that sets in the places.
    set: [Places; ABREAST + 1],
}

/// The questions of up to [`TREES`] trees.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block(Vec<Group>);

/// The questions of a forest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scorer(Vec<Block>);

impl Scorer {
    /// From `depth` questions a tree.
    pub(crate) fn new(questions: &[Question], depth: usize) -> Self {
        Self(questions.chunks(TREES * depth).map(|questions| Block::new(questions, depth)).collect())
    }

    /// Of the first [`TREES`] trees, of the next, and so on.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.0.iter()
    }
}

impl Block {
    fn new(questions: &[Question], depth: usize) -> Self {
        let mut sorted: Vec<(Question, usize)> = questions.iter().copied().zip(0..).collect();
        // What nothing is above sets no bit.
        sorted.retain(|(asked, _)| asked.threshold < f32::INFINITY);
        sorted.sort_by(|(a, _), (b, _)| a.feature.cmp(&b.feature).then(a.threshold.total_cmp(&b.threshold)));
        let mut groups: Vec<Group> = Vec::new();
        let mut used = 0;
        for (asked, at) in sorted {
            let feature = usize::from(asked.feature);
            let same = groups.last().filter(|group| group.feature == feature);
            let repeats = same.is_some_and(|group| group.thresholds[used - 1] == asked.threshold);
            if !repeats && (same.is_none() || used == ABREAST) {
                groups.push(Group::empty(feature));
                used = 0;
            }
            let Some(group) = groups.last_mut() else { continue };
            if !repeats {
                group.thresholds[used] = asked.threshold;
                used += 1;
            }
            let (tree, level) = (at / depth, at % depth);
            // Whoever is above this threshold is above those before it as well.
            for places in &mut group.set[used..] {
                places.0[tree] |= 1u8.checked_shl(level as u32).unwrap_or(0);
            }
        }
        Self(groups)
    }

    /// Where the leaf lies in each tree that the features lead to.
    #[inline(always)]
    pub(crate) fn places(&self, features: &Features) -> [u8; TREES] {
        let mut found = [u8x16::new([0; 16]); TREES / 16];
        for group in &self.0 {
            let feature = features.0[group.feature.min(FEATURES - 1)];
            let not_above = f32x8::new(group.thresholds).simd_ge(f32x8::splat(feature));
            let count = (not_above.to_bitmask() as u8).trailing_zeros() as usize;
            let set: [u8x16; TREES / 16] = bytemuck::cast(group.set[count].0);
            found.iter_mut().zip(set).for_each(|(found, set)| *found |= set);
        }
        bytemuck::cast(found)
    }
}

impl Group {
    fn empty(feature: usize) -> Self {
        Self { thresholds: [f32::INFINITY; ABREAST], feature, set: [Places([0; TREES]); ABREAST + 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question() -> impl Strategy<Value = Question> {
        // Few thresholds, so that many are equal; some features are asked about more often than a group holds.
        let threshold = prop_oneof![(-20i8..20).prop_map(f32::from), Just(f32::INFINITY), Just(-0.0f32)];
        (threshold, 0..5u8).prop_map(|(threshold, feature)| Question { threshold, feature })
    }

    proptest! {
        #[test]
        fn all_at_once_are_answered_like_one_by_one(
            depth in 1..=8usize,
            questions in proptest::collection::vec(question(), 0..600),
            numbers in proptest::array::uniform5(prop_oneof![(-21i8..21).prop_map(f32::from), any::<f32>()]),
        ) {
            let trees = questions.len() / depth;
            let questions = &questions[..trees * depth];
            let mut features = Features([0.0; FEATURES]);
            features.0[..5].copy_from_slice(&numbers);
            let scorer = Scorer::new(questions, depth);
            let found = scorer.blocks().flat_map(|block| block.places(&features));
            for (place, asked) in found.zip(questions.chunks(depth)) {
                let answers = asked.iter().enumerate().map(|(level, asked)| {
                    u8::from(asked.is_above(&features)) << level
                });
                prop_assert_eq!(place, answers.sum::<u8>());
            }
        }
    }
}
