//! The best few of a scan, best first.
//!
//! Ties go to the one with fewer requests in flight, then to chance: a fixed order would send every request that
//! finds an idle fleet to the first instance. The chance of an instance is a hash of the request's random bits and its
//! index, so the order in which instances are looked at does not matter.

use crate::decide::{CANDIDATES, Candidate};
use crate::table::InstanceEntry;
use foretide_predictor::hash::mix;

/// At most [`CANDIDATES`] instances by ascending score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortlist {
    places: [Place; CANDIDATES],
    chance: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    score: f64,
    in_flight: u32,
}

impl Place {
    /// Nobody: every finite score beats it.
    const EMPTY: Self = Self { index: usize::MAX, score: f64::INFINITY, in_flight: u32::MAX };

    fn is_taken(&self) -> bool {
        self.score < f64::INFINITY
    }
}

impl Shortlist {
    /// Empty; `chance` breaks ties.
    pub(crate) fn new(chance: u64) -> Self {
        Self { places: [Place::EMPTY; CANDIDATES], chance }
    }

    /// Considers an instance. A score that is not a finite number is not considered, nor is one already listed.
    #[inline]
    pub(crate) fn offer(&mut self, index: usize, score: f64, in_flight: u32) {
        // Most of a large pool ends here; NaN compares false.
        if score <= self.places[CANDIDATES - 1].score {
            self.insert(Place { index, score, in_flight });
        }
    }

    fn insert(&mut self, place: Place) {
        let listed = self.places.iter().any(|held| held.index == place.index);
        if listed || !place.score.is_finite() || !self.beats(place, self.places[CANDIDATES - 1]) {
            return;
        }
        let mut slot = CANDIDATES - 1;
        while slot > 0 && self.beats(place, self.places[slot - 1]) {
            self.places[slot] = self.places[slot - 1];
            slot -= 1;
        }
        self.places[slot] = place;
    }

    fn beats(&self, a: Place, b: Place) -> bool {
        if a.score != b.score {
            return a.score < b.score;
        }
        if a.in_flight != b.in_flight {
            return a.in_flight < b.in_flight;
        }
        mix(self.chance ^ a.index as u64) < mix(self.chance ^ b.index as u64)
    }

    /// Index of the best; `None`: nobody had a usable score.
    pub(crate) fn best(&self) -> Option<usize> {
        self.places[0].is_taken().then_some(self.places[0].index)
    }

    /// Indices, best first.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> {
        self.places.into_iter().filter(Place::is_taken).map(|place| place.index)
    }

    /// For the decision record.
    pub(crate) fn candidates(&self, instances: &[InstanceEntry]) -> [Option<Candidate>; CANDIDATES] {
        self.places.map(|place| {
            place.is_taken().then(|| Candidate {
                instance: instances[place.index].id,
                score_us: place.score as f32,
                in_flight: place.in_flight,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut list = Shortlist::new(7);
        list.offer(0, f64::NAN, 0);
        list.offer(1, f64::INFINITY, 0);
        assert_eq!(list.best(), None);
        list.offer(2, 5.0, 0);
        list.offer(2, 5.0, 0);
        assert_eq!(list.indices().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn exact_ties_are_shared_evenly() {
        let mut wins = [0u32; 5];
        for chance in 0..10_000 {
            let mut list = Shortlist::new(mix(chance));
            (0..5).for_each(|index| list.offer(index, 1.0, 0));
            wins[list.best().unwrap()] += 1;
        }
        assert!(wins.iter().all(|&count| (1_800..2_200).contains(&count)), "{wins:?}");
    }

    proptest! {
        #[test]
        fn holds_the_best_whatever_the_order(scores in prop::collection::vec(0u8..20, 0..40), chance: u64) {
            let mut forward = Shortlist::new(chance);
            let mut backward = Shortlist::new(chance);
            scores.iter().enumerate().for_each(|(index, &score)| forward.offer(index, f64::from(score), 0));
            scores.iter().enumerate().rev().for_each(|(index, &score)| backward.offer(index, f64::from(score), 0));
            let found: Vec<usize> = forward.indices().collect();
            prop_assert_eq!(&found, &backward.indices().collect::<Vec<_>>());
            let mut sorted = scores.clone();
            sorted.sort_unstable();
            sorted.truncate(CANDIDATES);
            prop_assert_eq!(found.iter().map(|&index| scores[index]).collect::<Vec<_>>(), sorted);
        }
    }
}
