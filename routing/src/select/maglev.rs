//! Maglev hashing of consumers to instances (Eisenbud et al., "Maglev", NSDI 2016, §3.4).
//!
//! Every instance has an order of its own in which it would like the places of one large table: place
//! `offset + n · skip` modulo a prime, both from a hash of its address. In turn each takes the first place it likes that is
//! still free, until all are taken; one of half the weight takes part in every other round. A consumer's hash is a place.
//!
//! Against the ring ([`crate::select::ring`]): shares are even to within a part in a thousand instead of a tenth, weights
//! count exactly, and a look-up is one load. The price: when a member goes, a few consumers of the others move too.
//!
//! The table's size is fixed (Envoy's 65,537): one that grew with the pool would move nearly everybody at the step.
//! Instances take their turns in the order of their hashes, so several proxies make the same table whatever order they
//! learned of the instances in.
//!
//! Known weakness: above some 600 instances shares differ by more than a hundredth.

use crate::select::eligible::{Eligible, below};
use crate::select::shortlist::MOST_RANKED;
use crate::table::InstanceEntry;
use foretide_predictor::hash;
use std::sync::Arc;

/// A prime; a hundred times the instances of any pool that hashes well.
const PLACES: usize = 65_537;
/// Places looked at per instance: one instance of many that would do is overlooked once in 3,000 times.
const LOOKED_AT: usize = 8;
/// No instance yet.
const FREE: u16 = u16::MAX;

/// Owner of each place.
#[derive(Debug)]
pub struct Maglev {
    places: Vec<u16>,
    members: u64,
}

struct Member {
    index: u16,
    name: u64,
    weight: u64,
    /// Its next wish, and the step to the one after.
    wish: usize,
    skip: usize,
    /// Places it has, times the largest weight.
    has: u64,
}

impl Maglev {
    /// The table of these instances: `previous` if it has the same members with the same weights in the same order.
    pub(crate) fn new(instances: &[InstanceEntry], previous: Option<&Arc<Self>>) -> Arc<Self> {
        let mut members: Vec<Member> = instances
            .iter()
            .take(MOST_RANKED - 1)
            .zip(0..)
            .map(|(entry, index)| Member::new(entry, index))
            .collect();
        let key = members.iter().fold(0, |key, one| hash::pair(hash::pair(key, one.name), one.weight));
        if let Some(same) = previous.filter(|table| table.members == key) {
            return Arc::clone(same);
        }
        members.sort_unstable_by_key(|one| one.name);
        Arc::new(Self { places: fill(&mut members), members: key })
    }

    /// The first at or after the consumer's place that `takes` it; the neighbours of a place are as good as random.
    /// `None`: hardly anybody does.
    pub(crate) fn owner(
        &self,
        consumer_key: u64,
        eligible: &Eligible<'_>,
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let start = below(hash::mix(consumer_key), self.places.len());
        let (before, from_start) = self.places.split_at(start);
        let owners = from_start.iter().chain(before).map(|&index| usize::from(index));
        let count = eligible.all().len();
        owners.take(LOOKED_AT * count).filter(|&index| index < count).find(|&index| takes(index))
    }
}

impl Member {
    fn new(entry: &InstanceEntry, index: u16) -> Self {
        let name = hash::bytes(entry.address.as_bytes());
        let offset = (hash::pair(name, 1) % PLACES as u64) as usize;
        let skip = (hash::pair(name, 2) % (PLACES as u64 - 1)) as usize + 1;
        Self { index, name, weight: u64::from(entry.weight.max(1)), wish: offset, skip, has: 0 }
    }

    /// Takes the first place it likes that is free; there must be one.
    fn take(&mut self, places: &mut [u16]) {
        while places[self.wish] != FREE {
            self.wish = (self.wish + self.skip) % PLACES;
        }
        places[self.wish] = self.index;
    }
}

fn fill(members: &mut [Member]) -> Vec<u16> {
    let Some(largest) = members.iter().map(|one| one.weight).max() else { return Vec::new() };
    let mut places = vec![FREE; PLACES];
    let mut left = PLACES;
    for round in 1.. {
        for member in members.iter_mut() {
            if round * member.weight < member.has + largest {
                continue;
            }
            if left == 0 {
                return places;
            }
            member.has += largest;
            member.take(&mut places);
            left -= 1;
        }
    }
    places
}
