//! Consistent hashing of consumers to instances (Karger 1997; libketama's 160 points an instance).
//!
//! An instance's points depend on its address and weight alone, so a member that comes or goes moves only the
//! consumers between its own points and their predecessors: about one in n. Weight is concurrency over the pool's
//! smallest, rounded, at most 8: an instance with twice the slots gets twice the consumers.
//!
//! Known weakness: load is as uneven as consumers are; nothing here looks at it.

use crate::select::eligible::Eligible;
use crate::table::InstanceEntry;
use foretide_predictor::hash;

/// libketama's number: keeps shares within some 10 % of even.
const POINTS: u64 = 160;
/// Bounds the ring of a badly configured pool.
const MOST_WEIGHT: u32 = 8;

/// Points in ascending order, each with its owner's index.
#[derive(Debug)]
pub struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// Builds the ring; n · 160 points, sorted.
    pub fn new(instances: &[InstanceEntry]) -> Self {
        let smallest = instances.iter().map(|entry| entry.concurrency.max(1)).min().unwrap_or(1);
        let mut points = Vec::with_capacity(instances.len() * POINTS as usize);
        for (index, entry) in instances.iter().enumerate() {
            let weight = ((entry.concurrency.max(1) + smallest / 2) / smallest).min(MOST_WEIGHT);
            let name = hash::bytes(entry.address.as_bytes());
            points
                .extend((0..POINTS * u64::from(weight)).map(|point| (hash::pair(name, point), index as u32)));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The consumer's instance; the next on the ring if a try may not use it. `None` only for an empty ring.
    pub(crate) fn owner(&self, consumer_key: u64, eligible: &Eligible<'_>) -> Option<usize> {
        // Mixed once more: neighbouring keys (addresses) must not be neighbours on the ring.
        let place = hash::mix(consumer_key);
        let start = self.points.partition_point(|&(point, _)| point < place);
        let (before, from_start) = self.points.split_at(start);
        let owners = from_start.iter().chain(before).map(|&(_, index)| index as usize);
        owners.filter(|&index| index < eligible.all().len()).find(|&index| eligible.allows(index))
    }
}
