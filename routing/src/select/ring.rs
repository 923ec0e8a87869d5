//! Consistent hashing of consumers to instances (Karger 1997; libketama's 160 points an instance).
//!
//! An instance's points depend on its address and weight alone, so a member that comes or goes moves only the
//! consumers between its own points and their predecessors: about one in n. Weight is concurrency times the endpoint's
//! weight over the pool's smallest, rounded, at most 8: an instance with twice the slots gets twice the consumers.
//!
//! Known weakness: load is as uneven as consumers are, unless it is bounded ([`crate::select::hashed`]).

use crate::select::eligible::Eligible;
use crate::table::InstanceEntry;
use foretide_predictor::hash;
use std::sync::Arc;

/// libketama's number: keeps shares within some 10 % of even.
const POINTS: u64 = 160;
/// Bounds the ring of a badly configured pool.
const MOST_WEIGHT: u64 = 8;

/// Points in ascending order, each with its owner's index.
#[derive(Debug)]
pub struct Ring {
    points: Vec<(u64, u32)>,
    members: u64,
}

impl Ring {
    /// The ring of these instances: `previous` if it has the same members with the same weights in the same order, else
    /// n · 160 points, sorted.
    pub(crate) fn new(instances: &[InstanceEntry], previous: Option<&Arc<Self>>) -> Arc<Self> {
        let smallest = instances.iter().map(slots).min().unwrap_or(1);
        let member = |entry: &InstanceEntry| {
            let weight = ((slots(entry) + smallest / 2) / smallest).min(MOST_WEIGHT);
            (hash::bytes(entry.address.as_bytes()), weight)
        };
        let members = instances.iter().map(member);
        let key = members.clone().fold(0, |key, (name, weight)| hash::pair(hash::pair(key, name), weight));
        if let Some(same) = previous.filter(|ring| ring.members == key) {
            return Arc::clone(same);
        }
        let mut points = Vec::with_capacity(instances.len() * POINTS as usize);
        for ((name, weight), index) in members.zip(0..) {
            points.extend((0..POINTS * weight).map(|point| (hash::pair(name, point), index)));
        }
        points.sort_unstable();
        Arc::new(Self { points, members: key })
    }

    /// The consumer's instance; the next on the ring that `takes` it if that one does not. `None`: nobody does.
    pub(crate) fn owner(
        &self,
        consumer_key: u64,
        eligible: &Eligible<'_>,
        takes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        // Mixed once more: neighbouring keys (addresses) must not be neighbours on the ring.
        let place = hash::mix(consumer_key);
        let start = self.points.partition_point(|&(point, _)| point < place);
        let (before, from_start) = self.points.split_at(start);
        let owners = from_start.iter().chain(before).map(|&(_, index)| index as usize);
        owners.filter(|&index| index < eligible.all().len()).find(|&index| takes(index))
    }
}

/// What an instance's share of the ring is measured in.
fn slots(entry: &InstanceEntry) -> u64 {
    u64::from(entry.concurrency.max(1)) * u64::from(entry.weight.max(1))
}
