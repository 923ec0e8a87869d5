//! Whom a scan of a large pool looks at: the best few of the last scan, a window that moves on with every request, and some
//! at random from the rest, 64 instances at most, however many there are. What still grows with the pool is what falls out of
//! caches: 500 take a tenth to a fifth longer than 200 in the bench of decisions.
//!
//! The window finds whoever has become better within `instances / 48` requests, and the memory keeps the good ones until they
//! are not the best any more. The random ones, one from each twelfth of the rest, are there for proxies whose windows would
//! move in step.
//!
//! Known weakness: races between threads lose a memory, nothing else.

use crate::decide::CANDIDATES;
use crate::select::shortlist::Shortlist;
use foretide_predictor::hash::mix;
use foretide_steering::four::LANES;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};

/// Instances of a large pool that a request looks at: half of those that a full scan may.
const MOST_PICKED: usize = 64;
/// At random ...
const RANDOM: usize = 12;
/// ... with the best of the last scan ...
const SINGLE: usize = RANDOM + CANDIDATES;
/// ... and in the moving window.
const WINDOW: usize = MOST_PICKED - SINGLE;

/// What large pools remember from one scan to the next.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    cursor: AtomicUsize,
    best: [AtomicU16; CANDIDATES],
}

/// Whom to look at: two stretches of neighbours, and single ones.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) window: [Range<usize>; 2],
    single: [u16; SINGLE],
    found: usize,
}

impl Picked {
    /// Those that are no neighbours.
    pub(crate) fn single(&self) -> &[u16] {
        &self.single[..self.found]
    }
}

impl Sample {
    /// Some of `count` instances, more than [`MOST_PICKED`] and at most 65,536, each once.
    #[inline(never)]
    pub(crate) fn pick(&self, count: usize, chance: u64) -> Picked {
        // In whole fours, of which the pool's last may lack some.
        let fours = count.div_ceil(LANES);
        let start = self.cursor.fetch_add(WINDOW / LANES, Relaxed) % fours * LANES;
        let beyond = (start + WINDOW).saturating_sub(fours * LANES);
        let window = [start..(start + WINDOW).min(count), 0..beyond];
        let round = |place: usize| if place < count { place } else { place - count };
        let (mut single, mut found) = ([0; SINGLE], 0);
        let mut pick = |index: u16| {
            single[found % SINGLE] = index;
            found += 1;
        };
        let remembered = self.best.each_ref().map(|best| best.load(Relaxed));
        for (place, &index) in remembered.iter().enumerate() {
            let known = usize::from(index) < count && !remembered[..place].contains(&index);
            if known && !window.iter().any(|part| part.contains(&usize::from(index))) {
                pick(index);
            }
        }
        // A few of the rest are left over; the window will come to them.
        let width = (count - WINDOW) / RANDOM;
        let (mut from, mut draw) = (start + WINDOW, chance);
        for _ in 0..RANDOM / 2 {
            draw = mix(draw);
            for half in [draw >> 32, draw & u64::from(u32::MAX)] {
                let index = round(from + ((half * width as u64) >> 32) as usize) as u16;
                from += width;
                if !remembered.contains(&index) {
                    pick(index);
                }
            }
        }
        Picked { window, single, found }
    }

    /// Who was best of what was picked.
    pub(crate) fn remember(&self, list: &Shortlist) {
        for (index, best) in list.indices().zip(&self.best) {
            // All threads read this line: it is written only when it changes.
            if best.load(Relaxed) != index as u16 {
                best.store(index as u16, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::shortlist::Score;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn everybody_is_looked_at_in_turn_and_the_best_every_time() {
        let sample = Sample::default();
        let mut list = Shortlist::new(1);
        list.offer(150, Score { cost: 1.0, in_flight: 0 });
        sample.remember(&list);
        let mut seen = BTreeSet::new();
        for chance in 0..7 {
            let picked = sample.pick(300, chance);
            assert!(everybody(&picked).any(|index| index == 150));
            seen.extend(picked.window.into_iter().flatten());
        }
        assert_eq!(seen.len(), 300);
    }

    fn everybody(picked: &Picked) -> impl Iterator<Item = usize> {
        picked.window.clone().into_iter().flatten().chain(picked.single().iter().map(|&one| usize::from(one)))
    }

    proptest! {
        #[test]
        fn nobody_is_picked_twice(count in MOST_PICKED + 1..70_000, chance: u64, best: [u16; CANDIDATES], turns in 0..5) {
            let count = count.min(1 << 16);
            let sample = Sample { best: best.map(AtomicU16::new), ..Sample::default() };
            for _ in 0..turns {
                let picked = sample.pick(count, chance);
                let once: BTreeSet<usize> = everybody(&picked).collect();
                prop_assert_eq!(once.len(), everybody(&picked).count());
                prop_assert!(once.len() >= MOST_PICKED - 2 * CANDIDATES);
                prop_assert!(once.iter().all(|&index| index < count));
            }
        }
    }
}
