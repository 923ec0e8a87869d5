//! Work in flight as 16 log2 buckets of predicted work, count and sum of each in one word.
//!
//! ```text
//! I(x) = Σ min(r_i, x)  ≈  Σ_{buckets below x's} work  +  min(work, count · x) of x's own  +  x · Σ_{above} count
//! ```
//!
//! One addition takes a request on, one subtraction takes it off, and a reader never sees a count without its work.
//! Additions and subtractions are exact opposites, so what is idle reads exactly zero whatever happened before, even if
//! a field had overflowed in between. Production keeps the words in atomics, the laboratory in plain values.
//!
//! Known weakness: inside x's own bucket requests may be smaller or larger than x; the interference with them is an
//! upper bound, at most twice the truth.

/// Buckets of predicted work. Bucket 0 ends at 256 µs, each further one is twice as wide, the last begins at 4.2 s:
/// below a quarter of a millisecond waiting is network noise, above some seconds one queue is as bad as another.
pub const BUCKETS: usize = 16;
/// log2 of the first bucket's upper end in microseconds.
const FIRST_BUCKET_LOG2: u32 = 8;
/// Low bits of a packed word hold work: 2^44 µs are 200 days. The 20 above hold a count of up to a million.
pub(crate) const WORK_BITS: u32 = 44;
/// No single request is counted with more than an hour: beyond lies a broken prediction, not a request.
const MOST_WORK_US: f64 = 3.6e9;

/// One request of so many microseconds of work as a word to add or subtract.
pub const fn word(work_us: u64) -> u64 {
    1 << WORK_BITS | work_us
}

/// Count and work, microseconds, of a word.
pub const fn split(word: u64) -> (u64, u64) {
    (word >> WORK_BITS, word & ((1 << WORK_BITS) - 1))
}

/// Work as whole microseconds from 1 to an hour; NaN is 1.
pub fn whole_us(work_us: f64) -> u64 {
    // A NaN stays one through clamp and becomes 0 as an integer; an hour fits into 32 bits, which are converted in fewer steps.
    u64::from((work_us.clamp(1.0, MOST_WORK_US) as u32).max(1))
}

/// The bucket of so many microseconds of work, 0 to 15.
pub fn bucket_of(work_us: u64) -> usize {
    ((work_us >> FIRST_BUCKET_LOG2).checked_ilog2().map_or(0, |log2| log2 as usize + 1)).min(BUCKETS - 1)
}

/// Microseconds that stand for a bucket whose requests are only counted: its middle on the scale of logarithms.
pub fn typical_us(bucket: usize) -> f32 {
    let upper = FIRST_BUCKET_LOG2 + bucket.min(BUCKETS - 1) as u32;
    (1u64 << upper) as f32 * std::f32::consts::FRAC_1_SQRT_2
}

/// A request's predicted work, prepared once for a scan of many instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    work_us: u64,
    bucket: usize,
}

impl Newcomer {
    /// Of so many microseconds of predicted work, from 1 to an hour; NaN is 1.
    pub fn of(work_us: f64) -> Self {
        let work_us = whole_us(work_us);
        Self { work_us, bucket: bucket_of(work_us) }
    }

    /// Its bucket, 0 to 15.
    pub fn bucket(self) -> usize {
        self.bucket
    }

    /// Its work, microseconds.
    pub fn work_us(self) -> u64 {
        self.work_us
    }

    /// What it meets, from the words of what lies in buckets `below` its own, in those `up_to` it, and in `all`. They may have
    /// been read one after another while others changed them: then what comes or goes meanwhile may be missed.
    #[inline(always)]
    pub fn meets(self, below: u64, up_to: u64, all: u64) -> Met {
        let ((below, lighter_us), (up_to, up_to_us), (all, _)) = (split(below), split(up_to), split(all));
        // Those of x's own bucket may be on either side of it.
        let (alike, alike_us) = (up_to.saturating_sub(below), up_to_us.saturating_sub(lighter_us));
        let larger = all.saturating_sub(up_to);
        let [lighter_us, larger, alike, alike_us] = [lighter_us, larger, alike, alike_us].map(single);
        let work_us = single(self.work_us);
        Met { lighter_us, others_us: alike_us.min(alike * work_us) + larger * work_us }
    }
}

/// A whole number below 2^63, rounded; two steps where an unsigned one takes six.
fn single(whole: u64) -> f32 {
    whole as i64 as f32
}

/// Interference of a newcomer with what is in flight, microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Met {
    lighter_us: f32,
    others_us: f32,
}

impl Met {
    /// `Σ min(r_i, x)`.
    #[inline(always)]
    pub fn interference_us(self) -> f32 {
        self.lighter_us + self.others_us
    }

    /// The same, with the work of lighter requests counted so many times more.
    #[inline(always)]
    pub fn yielding_us(self, heavy_yields: f32) -> f32 {
        self.interference_us() + heavy_yields * self.lighter_us
    }
}

/// Work in flight as plain values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    total: u64,
    words: [u64; BUCKETS],
}

impl Load {
    /// Takes a request on. The same `work_us` takes it off again.
    pub fn add(&mut self, work_us: u64) {
        self.add_as(work_us, work_us);
    }

    /// Takes a request off.
    pub fn remove(&mut self, work_us: u64) {
        self.remove_as(work_us, work_us);
    }

    /// Takes a request of this work on in the bucket of another size, where the order is not by work alone.
    pub fn add_as(&mut self, size_us: u64, work_us: u64) {
        self.total = self.total.wrapping_add(word(work_us));
        let held = &mut self.words[bucket_of(size_us)];
        *held = held.wrapping_add(word(work_us));
    }

    /// Takes off what [`Self::add_as`] took on.
    pub fn remove_as(&mut self, size_us: u64, work_us: u64) {
        self.total = self.total.wrapping_sub(word(work_us));
        let held = &mut self.words[bucket_of(size_us)];
        *held = held.wrapping_sub(word(work_us));
    }

    /// The word of what lies below a bucket, 0 to 16: at 16, of all.
    #[inline(always)]
    pub fn below(&self, bucket: usize) -> u64 {
        self.words[..bucket.min(BUCKETS)].iter().fold(0, |sum: u64, word| sum.wrapping_add(*word))
    }

    /// Requests in flight.
    pub fn requests(&self) -> u64 {
        split(self.total).0
    }

    /// Their predicted work, microseconds.
    pub fn work_us(&self) -> u64 {
        split(self.total).1
    }

    /// Requests of a bucket, 0 to 15.
    pub fn count(&self, bucket: usize) -> u64 {
        split(self.words[bucket.min(BUCKETS - 1)]).0
    }

    /// What a newcomer meets.
    #[inline(always)]
    pub fn meets(&self, newcomer: Newcomer) -> Met {
        let below = self.below(newcomer.bucket);
        newcomer.meets(below, below.wrapping_add(self.words[newcomer.bucket]), self.total)
    }

    /// Interference with a newcomer, microseconds.
    #[inline(always)]
    pub fn interference_us(&self, newcomer: Newcomer) -> f32 {
        self.meets(newcomer).interference_us()
    }

    /// Work of the newcomer's bucket and of all below, microseconds: what a shortest-first queue serves before it.
    pub fn up_to_us(&self, newcomer: Newcomer) -> f32 {
        split(self.below(newcomer.bucket + 1)).1 as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_begin_at_powers_of_two() {
        let ends: Vec<usize> =
            [1, 255, 256, 511, 512, 1 << 21, (1 << 22) - 1, 1 << 22, u64::MAX >> 20].map(bucket_of).to_vec();
        assert_eq!(ends, [0, 0, 1, 1, 2, 14, 14, 15, 15]);
        assert!((0..BUCKETS).all(|bucket| bucket_of(typical_us(bucket) as u64) == bucket));
    }

    #[test]
    fn small_ones_count_whole_and_large_ones_up_to_the_newcomers_size() {
        let mut load = Load::default();
        [1_000, 2_000, 1_000_000].into_iter().for_each(|work| load.add(work));
        let newcomer = Newcomer::of(10_000.0);
        assert_eq!(load.interference_us(newcomer), 1_000.0 + 2_000.0 + 10_000.0);
        assert_eq!(load.meets(newcomer).yielding_us(2.0), 13_000.0 + 2.0 * 3_000.0);
        assert_eq!(load.up_to_us(newcomer), 3_000.0);
        assert_eq!((load.requests(), load.work_us(), load.count(bucket_of(1_000))), (3, 1_003_000, 1));
    }

    proptest! {
        #[test]
        fn any_order_of_ends_leaves_exactly_nothing(works in prop::collection::vec(any::<f64>(), 0..200), seed: u64) {
            let mut load = Load::default();
            let mut held: Vec<u64> = works.iter().map(|&work| whole_us(work)).collect();
            held.iter().for_each(|&work| load.add(work));
            prop_assert_eq!(load.work_us(), held.iter().sum::<u64>());
            let mut pick = seed;
            while !held.is_empty() {
                pick = foretide_predictor::hash::mix(pick);
                load.remove(held.swap_remove((pick % held.len() as u64) as usize));
            }
            prop_assert_eq!(load, Load::default());
            prop_assert_eq!(load.interference_us(Newcomer::of(1e9)), 0.0);
        }

        #[test]
        fn interference_bounds_the_exact_sum_within_a_factor_of_two(works in prop::collection::vec(1.0..4e6f64, 1..60), x in 1.0..4e6f64) {
            let mut load = Load::default();
            works.iter().for_each(|&work| load.add(whole_us(work)));
            let exact: f64 = works.iter().map(|&work| work.floor().min(x.floor())).sum();
            let found = f64::from(load.interference_us(Newcomer::of(x)));
            // Bucket 0 is wider than a factor of two: leave it 256 µs a request.
            prop_assert!(exact <= 1.000_001 * found && found <= 2.0 * exact + 256.0 * works.len() as f64, "{exact} {found}");
        }
    }
}
