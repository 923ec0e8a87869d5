//! The best few of a scan, best first.
//!
//! Ties go to the one with fewer requests in flight, then to chance: a fixed order would send every request that
//! finds an idle fleet to the first instance. The chance of an instance is a hash of the request's random bits and its
//! index, so the order in which instances are looked at does not matter: a multiplication (Dietzfelbinger et al. 1997) of 16
//! bits each, and more random bits on top, without which some instances would win a fifth more often than others.
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
use wide::{f32x4, f64x2, u16x8, u32x4};

const SCORE_SHIFT: u32 = 32;
const IN_FLIGHT_SHIFT: u32 = 28;
const HASH_SHIFT: u32 = 16;
/// More in flight than this are all alike to the tie-break.
const MOST_IN_FLIGHT: u32 = (1 << (SCORE_SHIFT - IN_FLIGHT_SHIFT)) - 1;
/// Bits of the hash, in their place, and how far they are moved there.
const LOT: u32 = (1 << IN_FLIGHT_SHIFT) - (1 << HASH_SHIFT);
const LOT_CUT: u32 = u32::BITS - IN_FLIGHT_SHIFT;
/// Bits of the index.
const INDEX: u32 = (1 << HASH_SHIFT) - 1;
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
    pub(crate) fn new(lottery: Lottery, place: Place, score: Score) -> Self {
        let cost = score.cost.min(f32::INFINITY);
        let load = score.in_flight.min(MOST_IN_FLIGHT) << IN_FLIGHT_SHIFT;
        let [index, tag] = [place.0 & INDEX, place.0 >> HASH_SHIFT];
        let drawn = (tag.wrapping_mul(lottery.factor) << HASH_SHIFT) ^ lottery.salt;
        let low = load | drawn >> LOT_CUT & LOT | index;
        Self(f64::from_bits(u64::from(cost.to_bits()) << SCORE_SHIFT | u64::from(low)))
    }

    /// Of four instances with scores from 0 to infinity, in pairs.
    #[inline(always)]
    pub(crate) fn four(lottery: Lottery, places: [Place; 4], cost: f32x4, in_flight: f32x4) -> [f64x2; 2] {
        let most = f32x4::splat(MOST_IN_FLIGHT as f32);
        let load: u32x4 = cast(in_flight.fast_min(most).fast_round_int());
        let places: u16x8 = cast(each(places, |place| place.0));
        // Indices times one, tags times the factor.
        let factors: u16x8 = cast(u32x4::splat(lottery.factor << HASH_SHIFT | 1));
        let drawn = cast::<_, u32x4>(places * factors) ^ u32x4::splat(lottery.salt);
        let lot = drawn >> LOT_CUT & u32x4::splat(LOT);
        let low = load << IN_FLIGHT_SHIFT | lot | drawn & u32x4::splat(INDEX);
        let cost: u32x4 = cast(cost);
        [cast(low.unpack_lo(cost)), cast(low.unpack_hi(cost))]
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

/// An instance's place in its pool: its index in the lower half, and in the upper one what it is known by in the lottery, which is
/// odd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(u32);

impl Place {
    /// At this index, below [`MOST_RANKED`].
    pub(crate) fn new(index: usize) -> Self {
        let tag = (mix(index as u64 + 1) >> 48) as u32 | 1;
        Self(tag << HASH_SHIFT | index as u32 & INDEX)
    }

    /// The index.
    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        (self.0 & INDEX) as usize
    }
}

/// A request's part in the lottery, from its random bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lottery {
    /// 16 bits, odd.
    factor: u32,
    /// In the upper half.
    salt: u32,
}

impl Lottery {
    /// Of 64 random bits.
    #[inline(always)]
    pub(crate) fn new(chance: u64) -> Self {
        // Mixed, because the same bits may have chosen who is compared.
        let bits = mix(chance);
        Self { factor: (bits >> 48) as u32 | 1, salt: (bits >> 16) as u32 & !INDEX }
    }
}

/// Two lists that grow together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves([f64x2; CANDIDATES]);

impl Halves {
    /// Both empty.
    pub(crate) const NOBODY: Self = Self([f64x2::new([Rank::NOBODY.0; 2]); CANDIDATES]);

    /// Considers four instances.
    #[inline(always)]
    pub(crate) fn offer(&mut self, pairs: [f64x2; 2]) {
        for mut pair in pairs {
            for held in &mut self.0 {
                (*held, pair) = (held.fast_min(pair), held.fast_max(pair));
            }
        }
    }

    /// The best of both: of two sorted lists, one of them backwards, the smaller ones place by place are the smallest of all, and
    /// two rounds of comparisons sort them (Batcher 1968).
    #[inline(always)]
    pub(crate) fn merge(self, lottery: Lottery) -> Shortlist {
        let held = self.0.map(f64x2::to_array);
        let mut ranks: [Rank; CANDIDATES] =
            std::array::from_fn(|place| Rank(held[place][0]).better(Rank(held[CANDIDATES - 1 - place][1])));
        for (one, other) in [(0, 2), (1, 3), (0, 1), (2, 3)] {
            (ranks[one], ranks[other]) = ranks[one].sorted(ranks[other]);
        }
        Shortlist { ranks, lottery }
    }
}

/// At most [`CANDIDATES`] instances by ascending score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortlist {
    ranks: [Rank; CANDIDATES],
    lottery: Lottery,
}

impl Shortlist {
    /// Empty; `chance` breaks ties.
    pub(crate) fn new(chance: u64) -> Self {
        Self { ranks: [Rank::NOBODY; CANDIDATES], lottery: Lottery::new(chance) }
    }

    /// Considers an instance that is not listed yet. A score that is not a finite number >= 0 is not considered.
    pub(crate) fn offer(&mut self, index: u16, score: Score) {
        if score.cost.is_sign_negative() {
            return;
        }
        let mut rank = Rank::new(self.lottery, Place::new(usize::from(index)), score);
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
        for count in [2, 5, 20, 100] {
            let mut wins = vec![0u32; usize::from(count)];
            for chance in 0..2_000 * u64::from(count) {
                let mut list = Shortlist::new(mix(chance));
                (0..count).for_each(|index| list.offer(index, score(1.0)));
                wins[list.best().unwrap()] += 1;
            }
            assert!(wins.iter().all(|&won| (1_800..2_200).contains(&won)), "{wins:?}");
        }
    }

    proptest! {
        #[test]
        fn four_at_once_rank_as_one(
            chance: u64,
            indices in prop::array::uniform4(0usize..MOST_RANKED),
            costs in prop::array::uniform4(prop_oneof![0f32..1e9, Just(f32::INFINITY)]),
            in_flight in prop::array::uniform4(0u32..40),
        ) {
            let (lottery, places) = (Lottery::new(chance), indices.map(Place::new));
            let found = Rank::four(lottery, places, f32x4::new(costs), f32x4::new(in_flight.map(|one| one as f32)));
            let ranks: [f64; 4] = cast(found);
            for lane in 0..4 {
                let score = Score { cost: costs[lane], in_flight: in_flight[lane] };
                prop_assert_eq!(ranks[lane].to_bits(), Rank::new(lottery, places[lane], score).0.to_bits());
            }
        }

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
