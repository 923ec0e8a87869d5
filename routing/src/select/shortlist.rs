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
//! A rank is compared as the double that has its bits: the order is the same, because a score up to infinity makes a finite
//! double, and processors take the minimum of two pairs of doubles at once. So a scan keeps two lists side by side
//! (`Halves`) and merges them at its end.
//!
//! Known weakness: an instance beyond the first 65,536 of a pool is never ranked.

use crate::decide::{CANDIDATES, Candidate};
use crate::table::InstanceEntry;
use bytemuck::cast;
use foretide_predictor::hash::mix;
use foretide_steering::four::each;
use std::ops::{Shl, Shr};
use wide::{f32x4, u32x4};

const SCORE_SHIFT: u32 = 32;
const IN_FLIGHT_SHIFT: u32 = 28;
const HASH_SHIFT: u32 = 16;
/// More in flight than this are all alike to the tie-break.
const MOST_IN_FLIGHT: u32 = (1 << (SCORE_SHIFT - IN_FLIGHT_SHIFT)) - 1;
/// Instances of a pool that can be ranked.
pub(crate) const MOST_RANKED: usize = 1 << HASH_SHIFT;

/// What an instance is ranked by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// Smaller is better.
    pub(crate) cost: f32,
    /// Requests in flight there, which decide between equals.
    pub(crate) in_flight: u32,
}

/// An instance and how good it is; smaller is better.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rank(f64);

impl Rank {
    /// Nobody: every finite score ranks before it.
    pub(crate) const NOBODY: Self = Self(f64::from_bits((f32::INFINITY.to_bits() as u64) << SCORE_SHIFT));

    /// Of an instance. A score that is infinite or NaN ranks as nobody does; it must not be negative.
    #[inline(always)]
    pub(crate) fn new(chance: u64, index: usize, score: Score) -> Self {
        let cost = score.cost.min(f32::INFINITY);
        let load = score.in_flight.min(MOST_IN_FLIGHT) << IN_FLIGHT_SHIFT;
        let low = load | lot(draw(chance).wrapping_mul(tag(index as u32))) | index as u32;
        Self(f64::from_bits(u64::from(cost.to_bits()) << SCORE_SHIFT | u64::from(low)))
    }

    /// Of four instances with scores from 0 to infinity.
    #[inline(always)]
    pub(crate) fn four(chance: u64, places: [Place; 4], cost: f32x4, in_flight: f32x4) -> [Self; 4] {
        let most = f32x4::splat(MOST_IN_FLIGHT as f32);
        let load: u32x4 = cast(in_flight.fast_min(most).fast_round_int());
        let lot = lot(u32x4::new(each(places, |place| place.tag)) * u32x4::splat(draw(chance)));
        let low = load << IN_FLIGHT_SHIFT | lot | u32x4::new(each(places, |place| place.index));
        let cost: u32x4 = cast(cost);
        each(cast::<_, [f64; 4]>([low.unpack_lo(cost), low.unpack_hi(cost)]), Self)
    }

    /// The better one. This comparison, as that of [`Rank::worse`], is one that processors have an instruction for.
    #[inline(always)]
    fn better(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }

    #[inline(always)]
    fn worse(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }

    #[inline(always)]
    fn sorted(self, other: Self) -> (Self, Self) {
        (self.better(other), self.worse(other))
    }

    /// Its index; `None`: nobody's.
    fn index(self) -> Option<usize> {
        let word = self.0.to_bits();
        (word < Self::NOBODY.0.to_bits()).then_some(usize::from(word as u16))
    }

    fn cost(self) -> f32 {
        f32::from_bits((self.0.to_bits() >> SCORE_SHIFT) as u32)
    }
}

/// An instance's place in its pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    index: u32,
    tag: u32,
}

impl Place {
    /// At this index, below [`MOST_RANKED`].
    pub(crate) fn new(index: usize) -> Self {
        Self { index: index as u32, tag: tag(index as u32) }
    }

    /// The index.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

/// What an instance is known by in the lottery: odd, and unlike any other's.
fn tag(index: u32) -> u32 {
    (mix(u64::from(index) + 1) >> 32) as u32 | 1
}

/// A request's part in the lottery.
#[inline(always)]
fn draw(chance: u64) -> u32 {
    (chance >> 32) as u32 | 1
}

/// 12 bits of chance, in their place, from the product of a draw and a tag (multiplicative hashing, Dietzfelbinger et al. 1997).
#[inline(always)]
fn lot<T: Shr<u32, Output = T> + Shl<u32, Output = T>>(product: T) -> T {
    product >> (u32::BITS + HASH_SHIFT - IN_FLIGHT_SHIFT) << HASH_SHIFT
}

/// Two lists that grow together.
#[derive(Debug)]
pub(crate) struct Halves([[Rank; 2]; CANDIDATES]);

impl Halves {
    /// Both empty.
    pub(crate) fn new() -> Self {
        Self([[Rank::NOBODY; 2]; CANDIDATES])
    }

    /// Considers some instances, an even number. Kept by itself: among other code the compiler does not see the pairs.
    #[inline(never)]
    pub(crate) fn offer(&mut self, ranks: &[Rank]) {
        let mut lists = self.0;
        for pair in ranks.chunks_exact(2) {
            let mut pair = [pair[0], pair[1]];
            for held in &mut lists {
                let better = [held[0].better(pair[0]), held[1].better(pair[1])];
                pair = [held[0].worse(pair[0]), held[1].worse(pair[1])];
                *held = better;
            }
        }
        self.0 = lists;
    }

    /// The best of both: of two sorted lists, one of them backwards, the smaller ones place by place are the smallest of all, and
    /// two rounds of comparisons sort them (Batcher 1968).
    pub(crate) fn merge(self, chance: u64) -> Shortlist {
        let held = self.0;
        let mut ranks: [Rank; CANDIDATES] =
            std::array::from_fn(|place| held[place][0].sorted(held[CANDIDATES - 1 - place][1]).0);
        for (one, other) in [(0, 2), (1, 3), (0, 1), (2, 3)] {
            (ranks[one], ranks[other]) = ranks[one].sorted(ranks[other]);
        }
        Shortlist { ranks, chance }
    }
}

/// At most [`CANDIDATES`] instances by ascending score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortlist {
    ranks: [Rank; CANDIDATES],
    chance: u64,
}

impl Shortlist {
    /// Empty; `chance` breaks ties.
    pub(crate) fn new(chance: u64) -> Self {
        Self { ranks: [Rank::NOBODY; CANDIDATES], chance }
    }

    /// Considers an instance that is not listed yet. A score that is not a finite number >= 0 is not considered.
    pub(crate) fn offer(&mut self, index: u16, score: Score) {
        if score.cost.is_sign_negative() {
            return;
        }
        let mut rank = Rank::new(self.chance, usize::from(index), score);
        for held in &mut self.ranks {
            (*held, rank) = held.sorted(rank);
        }
    }

    /// Whether an instance is listed.
    pub(crate) fn holds(&self, index: usize) -> bool {
        self.indices().any(|held| held == index)
    }

    /// Index of the best; `None`: nobody had a usable score.
    pub(crate) fn best(&self) -> Option<usize> {
        self.ranks[0].index()
    }

    /// Indices, best first.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> {
        self.ranks.iter().filter_map(|rank| rank.index())
    }

    /// For the decision record.
    pub(crate) fn candidates(&self, instances: &[InstanceEntry]) -> [Option<Candidate>; CANDIDATES] {
        self.ranks.map(|rank| {
            let entry = instances.get(rank.index()?)?;
            Some(Candidate {
                instance: entry.id,
                score_us: rank.cost(),
                in_flight: entry.live.in_flight().requests,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
