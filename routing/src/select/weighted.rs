//! Turns in proportion to weights (nginx's smooth weighted round robin), as a schedule made when the generation is.
//!
//! At every turn each instance gains its weight, and the one that has gained most takes the turn and pays the sum of all
//! weights: `a a b a c a a` for weights 5, 1, 1, and not `a a a a a b c`. After as many turns as the sum (of the weights
//! without their common divisor) it repeats, so the turns are worked out once and a request takes the next by one atomic
//! addition: nginx keeps the gains under a lock. Round robin is the same with equal weights.
//!
//! The schedule is also what weighted random draws are made from: a random turn is an instance with the probability of
//! its weight, at one multiplication.
//!
//! Known weakness: schedules are cut at some 4,000: in large pools with very unequal weights the smallest are rounded
//! up to one turn.

use crate::select::eligible::{Eligible, below};
use crate::select::shortlist::MOST_RANKED;
use crate::table::InstanceEntry;
use foretide_predictor::hash::{self, mix};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Keeps making a schedule within milliseconds for a thousand instances.
const MOST_TURNS: u64 = 4_096;

/// Who has which turn.
#[derive(Debug)]
pub struct Schedule {
    turns: Vec<u16>,
    weights: u64,
}

impl Schedule {
    /// Of these weights; `previous` if it was made of the same.
    fn of(weights: &[u32], previous: Option<&Arc<Self>>) -> Arc<Self> {
        let key = weights.iter().fold(0, |key, &weight| hash::pair(key, u64::from(weight)));
        match previous.filter(|schedule| schedule.weights == key) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Self { turns: turns(&reduced(weights)), weights: key }),
        }
    }

    /// By the instances' weights; `None`: they are all alike, and nobody needs one.
    pub(crate) fn unequal(instances: &[InstanceEntry], previous: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let first = instances.first()?.weight;
        let unequal = instances.iter().any(|entry| entry.weight != first);
        unequal.then(|| Self::of(&weights(instances), previous))
    }

    /// An instance at random, each with the probability of its weight; `None` only if there is none.
    pub(crate) fn draw(&self, chance: u64) -> Option<usize> {
        self.turns.get(below(chance, self.turns.len())).map(|&index| usize::from(index))
    }
}

fn weights(instances: &[InstanceEntry]) -> Vec<u32> {
    instances.iter().take(MOST_RANKED).map(|entry| entry.weight.max(1)).collect()
}

/// The same proportions in numbers as small as can be, with a sum of `MOST_TURNS` or little more.
fn reduced(weights: &[u32]) -> Vec<i64> {
    let divisor = weights.iter().fold(0, |divisor, &weight| gcd(divisor, weight)).max(1);
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight / divisor)).sum();
    let share = |weight: u32| match u64::from(weight / divisor) {
        whole if sum <= MOST_TURNS => whole,
        cut => (cut * MOST_TURNS + sum / 2) / sum,
    };
    weights.iter().map(|&weight| share(weight).max(1) as i64).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn turns(weights: &[i64]) -> Vec<u16> {
    let sum: i64 = weights.iter().sum();
    let mut gained = vec![0i64; weights.len()];
    let mut turn = || {
        gained.iter_mut().zip(weights).for_each(|(gained, weight)| *gained += weight);
        // Of equals the first.
        let next = (0..gained.len()).max_by_key(|&index| (gained[index], std::cmp::Reverse(index)))?;
        gained[next] -= sum;
        u16::try_from(next).ok()
    };
    (0..sum).filter_map(|_| turn()).collect()
}

/// A schedule and whose turn is next.
#[derive(Debug)]
pub struct Turns {
    schedule: Arc<Schedule>,
    next: AtomicU64,
}

impl Turns {
    /// In proportion to the instances' weights, or all alike. `taken`: turns that these instances have had, so that a new
    /// generation every second does not always begin with the first instance.
    pub(crate) fn new(
        instances: &[InstanceEntry],
        weighted: bool,
        taken: u64,
        previous: Option<&Self>,
    ) -> Self {
        let mut weights = weights(instances);
        if !weighted {
            weights.fill(1);
        }
        let schedule = Schedule::of(&weights, previous.map(|turns| &turns.schedule));
        Self { schedule, next: AtomicU64::new(taken) }
    }

    /// The one whose turn it is. One that is being ramped up lets as many turns pass as its share is short of a whole one.
    pub(crate) fn take(&self, eligible: &Eligible<'_>, chance: u64) -> Option<usize> {
        let turns = &self.schedule.turns;
        let count = turns.len().max(1);
        let start = (self.next.fetch_add(1, Relaxed) % count as u64) as usize;
        let places = || (start..turns.len()).chain(0..start).map(|turn| usize::from(turns[turn]));
        let mut draw = chance;
        let mut takes = |index: usize| {
            draw = mix(draw);
            eligible.allows(index)
                && (draw >> 11) as f64 * 2f64.powi(-53) < eligible.warmth(&eligible.all()[index])
        };
        // Where all are being ramped up, whoever comes first.
        places().find(|&index| takes(index)).or_else(|| eligible.from(places().next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns_are_spread_and_not_in_a_row() {
        assert_eq!(turns(&reduced(&[5, 1, 1])), [0, 0, 1, 0, 2, 0, 0], "nginx's own example");
        assert_eq!(turns(&reduced(&[30, 20])), [0, 1, 0, 1, 0], "without the common divisor");
        assert_eq!(turns(&reduced(&[7, 7, 7])), [0, 1, 2], "round robin");
        assert!(turns(&reduced(&[])).is_empty());
    }

    proptest! {
        #[test]
        fn each_gets_its_share_in_every_stretch(weights in prop::collection::vec(1u32..60, 1..12)) {
            let turns = turns(&reduced(&weights));
            let divisor = weights.iter().fold(0, |a, &b| gcd(a, b));
            let sum: u32 = weights.iter().sum();
            prop_assert_eq!(turns.len() as u32, sum / divisor);
            for (index, &weight) in weights.iter().enumerate() {
                let mut had = 0.0;
                for (number, &turn) in (1..).zip(&turns) {
                    had += f64::from(u8::from(usize::from(turn) == index));
                    let fair = f64::from(number) * f64::from(weight) / f64::from(sum);
                    prop_assert!((had - fair).abs() <= weights.len() as f64, "{} after {} turns of {:?}", had, number, &weights);
                }
                prop_assert_eq!(had as u32, weight / divisor);
            }
        }

        #[test]
        fn a_schedule_is_bounded_and_forgets_nobody(weights in prop::collection::vec(1u32..=10_000, 1..300)) {
            let turns = turns(&reduced(&weights));
            prop_assert!(turns.len() as u64 <= MOST_TURNS + weights.len() as u64);
            prop_assert!((0..weights.len()).all(|index| turns.contains(&(index as u16))));
        }
    }
}
