//! The best few of a scan, best first.
//!
//! Ties go to the one with fewer requests in flight, then to chance: a fixed order would send every request that
//! finds an idle fleet to the first instance. The chance of an instance is a hash of the request's random bits and its
//! index, so the order in which instances are looked at does not matter.
//!
//! All of that is one word, the *rank*: the bits of the score (those of non-negative floats are ordered as the floats
//! are), 4 bits of requests in flight, 12 of the hash, 16 of the index. Keeping the best four is then a handful of minima
//! and maxima without a branch: to leave out who is worse than the fourth would save half of them, but whether somebody is
//! cannot be foretold, and that made a scan of 20 idle instances half as slow again (of 100 busy ones it would have saved
//! a seventh). What is no usable score (infinite, NaN, negative) ranks behind an empty place.
//!
//! Known weakness: an instance beyond the first 65,536 of a pool is never ranked.

use crate::decide::{CANDIDATES, Candidate};
use crate::table::InstanceEntry;

const SCORE_SHIFT: u32 = 32;
const IN_FLIGHT_SHIFT: u32 = 28;
const HASH_SHIFT: u32 = 16;
/// More in flight than this are all alike to the tie-break.
const MOST_IN_FLIGHT: u32 = (1 << (SCORE_SHIFT - IN_FLIGHT_SHIFT)) - 1;
/// Instances of a pool that can be ranked.
pub(crate) const MOST_RANKED: usize = 1 << HASH_SHIFT;
/// Nobody: every finite score ranks before it.
const EMPTY: u64 = (f32::INFINITY.to_bits() as u64) << SCORE_SHIFT;

/// What an instance is ranked by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// Smaller is better.
    pub(crate) cost: f32,
    /// Requests in flight there, which decide between equals.
    pub(crate) in_flight: u32,
}

/// At most [`CANDIDATES`] instances by ascending score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortlist {
    ranks: [u64; CANDIDATES],
    chance: u64,
}

impl Shortlist {
    /// Empty; `chance` breaks ties.
    pub(crate) fn new(chance: u64) -> Self {
        Self { ranks: [EMPTY; CANDIDATES], chance }
    }

    /// Considers an instance that is not listed yet. A score that is not a finite number >= 0 is not considered.
    #[inline(always)]
    pub(crate) fn offer(&mut self, index: u16, score: Score) {
        let load = u64::from(score.in_flight.min(MOST_IN_FLIGHT)) << IN_FLIGHT_SHIFT;
        let score = u64::from(score.cost.to_bits()) << SCORE_SHIFT;
        let mut rank = score | load | self.lot(index) << HASH_SHIFT | u64::from(index);
        for held in &mut self.ranks {
            (*held, rank) = ((*held).min(rank), (*held).max(rank));
        }
    }

    /// 12 bits of chance for an instance; the steps of [`mix`] that so few bits need.
    ///
    /// [`mix`]: foretide_predictor::hash::mix
    #[inline(always)]
    fn lot(&self, index: u16) -> u64 {
        let product = (self.chance ^ u64::from(index)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (product ^ product >> 32).wrapping_mul(0x94d0_49bb_1331_11eb)
            >> (u64::BITS + HASH_SHIFT - IN_FLIGHT_SHIFT)
    }

    /// Whether an instance is listed.
    pub(crate) fn holds(&self, index: usize) -> bool {
        self.indices().any(|held| held == index)
    }

    /// Index of the best; `None`: nobody had a usable score.
    pub(crate) fn best(&self) -> Option<usize> {
        self.indices().next()
    }

    /// Indices, best first.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> {
        self.ranks.iter().filter(|&&rank| rank < EMPTY).map(|&rank| usize::from(rank as u16))
    }

    /// For the decision record.
    pub(crate) fn candidates(&self, instances: &[InstanceEntry]) -> [Option<Candidate>; CANDIDATES] {
        self.ranks.map(|rank| {
            let entry = instances.get(usize::from(rank as u16)).filter(|_| rank < EMPTY)?;
            Some(Candidate {
                instance: entry.id,
                score_us: f32::from_bits((rank >> SCORE_SHIFT) as u32),
                in_flight: entry.live.in_flight().requests,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_predictor::hash::mix;
    use proptest::prelude::*;

    fn score(cost: f32) -> Score {
        Score { cost, in_flight: 0 }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut list = Shortlist::new(7);
        list.offer(0, score(f32::NAN));
        list.offer(1, score(f32::INFINITY));
        list.offer(3, score(-1.0));
        assert_eq!(list.best(), None);
        list.offer(2, score(5.0));
        assert_eq!(list.indices().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn among_equals_the_less_loaded_one_wins() {
        let mut list = Shortlist::new(7);
        for (in_flight, index) in [2, 0, 1_000_000].into_iter().zip(0..) {
            list.offer(index, Score { cost: 1.0, in_flight });
        }
        assert_eq!(list.indices().collect::<Vec<_>>(), [1, 0, 2]);
        assert!(list.holds(1) && !list.holds(3));
    }

    #[test]
    fn exact_ties_are_shared_evenly() {
        let mut wins = [0u32; 5];
        for chance in 0..10_000 {
            let mut list = Shortlist::new(mix(chance));
            (0..5).for_each(|index| list.offer(index, score(1.0)));
            wins[list.best().unwrap()] += 1;
        }
        assert!(wins.iter().all(|&count| (1_800..2_200).contains(&count)), "{wins:?}");
    }

    proptest! {
        #[test]
        fn holds_the_best_whatever_the_order(scores in prop::collection::vec(0u8..20, 0..40), chance: u64) {
            let mut forward = Shortlist::new(chance);
            let mut backward = Shortlist::new(chance);
            scores.iter().enumerate().for_each(|(index, &cost)| forward.offer(index as u16, score(f32::from(cost))));
            scores.iter().enumerate().rev().for_each(|(index, &cost)| backward.offer(index as u16, score(f32::from(cost))));
            let found: Vec<usize> = forward.indices().collect();
            prop_assert_eq!(&found, &backward.indices().collect::<Vec<_>>());
            let mut sorted = scores.clone();
            sorted.sort_unstable();
            sorted.truncate(CANDIDATES);
            prop_assert_eq!(found.iter().map(|&index| scores[index]).collect::<Vec<_>>(), sorted);
        }
    }
}
