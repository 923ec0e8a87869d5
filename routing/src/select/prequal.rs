//! Prequal (Wydrowski, Kleinberg, Rumble, Archer: "Load is not what you should balance", NSDI 2024), see
//! [`foretide_steering::prequal`] for the rule, with the published defaults: a pool of 16 answers, three probes a request,
//! Q_RIF 0.84, each answer used as often as its formula says, every second request the worst answer taken out.
//!
//! What is different here: **a probe asks the proxy's own counters**, not the instance. It reads what this proxy has in
//! flight on an instance drawn at random, and the peak EWMA of the latencies it saw there. That is what a probe would
//! answer where one proxy fronts a pool, at no message and no wait; with several proxies each knows its own part only, and
//! Prequal's gain over least-request is smaller than published. An instance that was never heard of has latency 0 and so
//! is tried first, until its requests in flight make it hot.
//!
//! Hot is who has at least the 0.84 quantile of the requests in flight *in the pool of answers*. An answer is one word, so
//! threads never see half of one; of two that change the same answer one loses, which costs a count.
//!
//! Known weakness: with few instances the pool covers them all, and a full scan would do the same with fresher numbers.

use crate::select::eligible::{Eligible, below};
use crate::select::reactive;
use crate::select::shortlist::{Score, Shortlist};
use crate::select::weighted::Schedule;
use crate::table::InstanceEntry;
use foretide_predictor::hash::{self, mix};
use foretide_steering::prequal::{HOT_QUANTILE, POOL, PROBES, uses};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// No answer: an answer has a bit that says that it is one.
const EMPTY: u64 = 0;
const IS_ANSWER: u64 = 1 << 31;
const RIF_SHIFT: u32 = 16;
const USES_SHIFT: u32 = 26;
/// More in flight are all alike.
const MOST_RIF: u32 = (1 << (USES_SHIFT - RIF_SHIFT)) - 1;
/// An answer that may be used more often may be used for ever.
const MOST_USES: u32 = (1 << (31 - USES_SHIFT)) - 1;
/// Hot ones rank behind every cold one: above any latency in microseconds.
const HOT: f32 = 1e18;

/// The pool of answers; outlives generations while the members are the same.
#[derive(Debug)]
pub struct Probes {
    answers: [AtomicU64; POOL],
    /// Where the next answer goes: the oldest one's place.
    next: AtomicUsize,
    uses: u32,
    members: u64,
}

/// Latency as f32 bits, a bit, times used, requests in flight, index.
#[derive(Clone, Copy)]
struct Answer(u64);

impl Answer {
    fn new(index: u16, rif: u32, latency_us: f32) -> Self {
        let rif = u64::from(rif.min(MOST_RIF)) << RIF_SHIFT;
        Self(u64::from(latency_us.to_bits()) << 32 | IS_ANSWER | rif | u64::from(index))
    }

    fn index(self) -> usize {
        usize::from(self.0 as u16)
    }

    fn rif(self) -> u32 {
        (self.0 >> RIF_SHIFT) as u32 & MOST_RIF
    }

    fn uses(self) -> u32 {
        (self.0 >> USES_SHIFT) as u32 & MOST_USES
    }

    fn latency_us(self) -> f32 {
        f32::from_bits((self.0 >> 32) as u32)
    }

    /// A request went there; `None`: the answer is used up. `chosen`: it was this answer that sent it.
    fn after(self, chosen: bool, most: u32) -> Option<Self> {
        let uses = (self.uses() + u32::from(chosen)).min(MOST_USES);
        let counted = Self::new(self.index() as u16, self.rif() + 1, self.latency_us());
        (!chosen || uses < most || most > MOST_USES)
            .then_some(Self(counted.0 | u64::from(uses) << USES_SHIFT))
    }
}

impl Probes {
    /// For these instances: `previous` if they are the same in the same order.
    pub(crate) fn new(instances: &[InstanceEntry], previous: Option<&Arc<Self>>) -> Arc<Self> {
        let members = instances.iter().fold(0, |key, entry| hash::pair(key, u64::from(entry.id.0) + 1));
        match previous.filter(|probes| probes.members == members) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Self {
                answers: Default::default(),
                next: AtomicUsize::new(0),
                uses: uses(POOL, instances.len()),
                members,
            }),
        }
    }

    /// Probes, and ranks whom the pool of answers knows and the try may use; P2C if it knows nobody.
    pub(crate) fn rank(&self, eligible: &Eligible<'_>, weights: Option<&Schedule>, chance: u64) -> Shortlist {
        let turn = self.next.fetch_add(PROBES, Relaxed);
        self.probe(turn, eligible, weights, chance);
        // The newest first: of several answers from one instance it is the one that counts.
        let held: [Answer; POOL] = std::array::from_fn(|age| {
            Answer(self.answers[(turn + PROBES + POOL - 1 - age) % POOL].load(Relaxed))
        });
        let hot = hot_from(&held);
        let mut list = Shortlist::new(chance);
        let count = eligible.all().len();
        let known = held.iter().filter(|one| one.0 != EMPTY && one.index() < count);
        for one in known.filter(|one| eligible.allows(one.index())) {
            if !list.holds(one.index()) {
                let cost = if one.rif() >= hot { HOT * (1.0 + one.rif() as f32) } else { one.latency_us() };
                reactive::put(&mut list, one.index(), Score { cost, in_flight: one.rif() });
            }
        }
        match list.best() {
            Some(chosen) => self.count(turn, chosen, hot),
            None => return reactive::p2c(eligible, weights, chance),
        }
        list
    }

    /// Reads what some at random have in flight and how long they take. One that is being ramped up lets as many probes
    /// pass as its share is short of a whole one.
    fn probe(&self, turn: usize, eligible: &Eligible<'_>, weights: Option<&Schedule>, chance: u64) {
        let all = eligible.all();
        let mut draw = chance;
        for place in turn..turn + PROBES {
            draw = mix(draw);
            let index = weights.and_then(|schedule| schedule.draw(draw)).unwrap_or(below(draw, all.len()));
            let (Some(entry), Ok(short)) = (all.get(index), u16::try_from(index)) else { continue };
            draw = mix(draw);
            if (draw >> 11) as f64 * 2f64.powi(-53) >= eligible.warmth(entry) {
                continue;
            }
            let latency_us = entry.live.peak_latency_us(eligible.now()) as f32;
            let answer = Answer::new(short, entry.live.in_flight().requests, latency_us);
            self.answers[place % POOL].store(answer.0, Relaxed);
        }
    }

    /// Counts the request on the answers from where it goes; every second time the worst answer goes, too.
    fn count(&self, turn: usize, chosen: usize, hot: u32) {
        let mut sent = false;
        let mut worst = (0.0, None);
        for age in 0..POOL {
            let slot = &self.answers[(turn + PROBES + POOL - 1 - age) % POOL];
            let word = slot.load(Relaxed);
            let one = Answer(word);
            if word == EMPTY {
                continue;
            }
            if one.index() == chosen {
                let after = one.after(!sent, self.uses).map_or(EMPTY, |after| after.0);
                sent = true;
                let _lost_to_another_request = slot.compare_exchange(word, after, Relaxed, Relaxed);
                continue;
            }
            let rank = if one.rif() >= hot { HOT * (1.0 + one.rif() as f32) } else { one.latency_us() };
            if rank > worst.0 {
                worst = (rank, Some((slot, word)));
            }
        }
        // The oldest is where the next answer goes.
        if let (Some((slot, word)), 1) = (worst.1, turn / PROBES % 2) {
            let _lost_to_another_request = slot.compare_exchange(word, EMPTY, Relaxed, Relaxed);
        }
    }
}

/// Requests in flight from which on an instance is hot; an idle one never is.
fn hot_from(held: &[Answer; POOL]) -> u32 {
    let mut rifs = [u32::MAX; POOL];
    let mut count = 0;
    for one in held.iter().filter(|one| one.0 != EMPTY) {
        rifs[count] = one.rif();
        count += 1;
    }
    rifs[..count].sort_unstable();
    let at = (HOT_QUANTILE * count as f64).ceil() as usize;
    rifs[at.saturating_sub(1).min(POOL - 1)].max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_word_and_bounded() {
        let one = Answer::new(7, 3, 1_500.0);
        assert_eq!((one.index(), one.rif(), one.uses(), one.latency_us()), (7, 3, 0, 1_500.0));
        let two = one.after(true, 3).unwrap();
        assert_eq!((two.index(), two.rif(), two.uses(), two.latency_us()), (7, 4, 1, 1_500.0));
        assert_eq!(one.after(false, 1).unwrap().uses(), 0, "another answer sent it");
        assert!(one.after(true, 1).is_none(), "used up");
        let full = Answer::new(u16::MAX, u32::MAX, f32::MAX);
        assert_eq!((full.index(), full.rif(), full.uses()), (65_535, MOST_RIF, 0));
        let forever = (0..100).fold(full, |one, _| one.after(true, u32::MAX).unwrap());
        assert_eq!((forever.index(), forever.rif(), forever.uses()), (65_535, MOST_RIF, MOST_USES));
    }

    #[test]
    fn hot_is_the_upper_sixth_and_never_an_idle_one() {
        let held = |rifs: [u32; POOL]| rifs.map(|rif| Answer::new(0, rif, 0.0));
        assert_eq!(hot_from(&held([0; POOL])), 1);
        assert_eq!(hot_from(&held(std::array::from_fn(|at| at as u32 + 1))), 14, "0.84 of 16 is the 14th");
        assert_eq!(hot_from(&[Answer(EMPTY); POOL]), u32::MAX);
    }
}
