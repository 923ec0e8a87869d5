//! Whom a scan of a large pool looks at: the best few of the last scan, a window that moves on with every request, and some
//! at random from the rest, 64 instances at most. So a decision costs the same whether there are 200 instances or 2,000, and
//! less than in the largest pool of which all are looked at.
//!
//! The window finds whoever has become better within `instances / 44` requests, and the memory keeps the good ones until they
//! are not the best any more. The random ones, one from each sixteenth of the rest, are there for proxies whose windows would
//! move in step.
//!
//! Known weakness: races between threads lose a memory, nothing else.

use crate::decide::CANDIDATES;
use crate::select::eligible::below;
use crate::select::shortlist::Shortlist;
use foretide_predictor::hash::mix;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};

/// Instances of a large pool that a request looks at: half of those that a full scan may.
pub(crate) const MOST_PICKED: usize = 64;
/// At random ...
const RANDOM: usize = 16;
/// ... and in the moving window, next to the best of the last scan.
const WINDOW: usize = MOST_PICKED - RANDOM - CANDIDATES;

/// What large pools remember from one scan to the next.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    cursor: AtomicUsize,
    best: [AtomicU16; CANDIDATES],
}

impl Sample {
    /// Some of `count` instances, more than [`MOST_PICKED`], each once; in `room`.
    pub(crate) fn pick<'a>(&self, count: usize, chance: u64, room: &'a mut [u16; MOST_PICKED]) -> &'a [u16] {
        let start = self.cursor.fetch_add(WINDOW, Relaxed) % count;
        let round = |place: usize| if place < count { place } else { place - count };
        for (step, picked) in room[..WINDOW].iter_mut().enumerate() {
            *picked = round(start + step) as u16;
        }
        let mut found = WINDOW;
        let mut pick = |index: u16| {
            room[found] = index;
            found += 1;
        };
        let remembered = self.best.each_ref().map(|best| best.load(Relaxed));
        for (place, &index) in remembered.iter().enumerate() {
            let in_window = round(usize::from(index) + count - start) < WINDOW;
            if usize::from(index) < count && !in_window && !remembered[..place].contains(&index) {
                pick(index);
            }
        }
        let rest = count - WINDOW;
        let mut draw = chance;
        for part in 0..RANDOM {
            draw = mix(draw);
            let Range { start: from, end } = rest * part / RANDOM..rest * (part + 1) / RANDOM;
            let index = round(start + WINDOW + from + below(draw, end - from)) as u16;
            if !remembered.contains(&index) {
                pick(index);
            }
        }
        &room[..found]
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
            let mut room = [0; MOST_PICKED];
            let picked = sample.pick(300, chance, &mut room);
            assert!(picked.contains(&150));
            seen.extend(picked[..WINDOW].iter().copied());
        }
        assert_eq!(seen.len(), 300);
    }

    proptest! {
        #[test]
        fn nobody_is_picked_twice(count in MOST_PICKED + 1..70_000, chance: u64, best: [u16; CANDIDATES], turns in 0..5) {
            let count = count.min(1 << 16);
            let sample = Sample { best: best.map(AtomicU16::new), ..Sample::default() };
            for _ in 0..turns {
                let mut room = [0; MOST_PICKED];
                let picked = sample.pick(count, chance, &mut room);
                let once: BTreeSet<u16> = picked.iter().copied().collect();
                prop_assert_eq!(once.len(), picked.len());
                prop_assert!(picked.len() >= MOST_PICKED - 2 * CANDIDATES);
                prop_assert!(picked.iter().all(|&index| usize::from(index) < count));
            }
        }
    }
}
