//! Policies that know only what has happened: requests in flight and latency.

use crate::select::eligible::Eligible;
use crate::select::shortlist::{Score, Shortlist};
use foretide_predictor::time::Timestamp;

/// Fewest requests in flight over the warm-up factor, of all instances; ties at random. The score is the number of
/// requests with the newcomer.
pub(crate) fn least_request(eligible: &Eligible<'_>, chance: u64) -> Shortlist {
    let mut list = Shortlist::new(chance);
    for index in (0..eligible.all().len()).filter(|&index| eligible.allows(index)) {
        offer(&mut list, eligible, index, 1.0);
    }
    list
}

/// Two at random, fewer requests in flight over the warm-up factor (Mitzenmacher, "The power of two choices", 2001).
pub(crate) fn p2c(eligible: &Eligible<'_>, chance: u64) -> Shortlist {
    let mut list = Shortlist::new(chance);
    if let Some((first, second)) = eligible.two(chance) {
        for index in [first, second] {
            offer(&mut list, eligible, index, 1.0);
        }
    }
    list
}

/// Requests with the newcomer over the warm-up factor, times `latency`.
fn offer(list: &mut Shortlist, eligible: &Eligible<'_>, index: usize, latency: f64) {
    let entry = &eligible.all()[index];
    let in_flight = entry.live.in_flight().requests;
    let cost = latency * (f64::from(in_flight) + 1.0) / eligible.warmth(entry);
    // Both draws are the same where only one is left.
    if !list.holds(index) {
        put(list, index, Score { cost: cost as f32, in_flight });
    }
}

/// Two at random, smaller peak EWMA of latency × requests with the newcomer (Finagle). An instance never heard of
/// counts as the other one: Finagle's large start value would keep it idle, zero would flood it.
pub(crate) fn peak_ewma(eligible: &Eligible<'_>, now: Timestamp, chance: u64) -> Shortlist {
    let mut list = Shortlist::new(chance);
    let Some((first, second)) = eligible.two(chance) else { return list };
    let latency_us = |index: usize| eligible.all()[index].live.peak_latency_us(now);
    let known_us = |own: f64, other: f64| if own > 0.0 { own } else { other.max(1.0) };
    let (first_us, second_us) = (latency_us(first), latency_us(second));
    for (index, latency) in [(first, known_us(first_us, second_us)), (second, known_us(second_us, first_us))]
    {
        offer(&mut list, eligible, index, latency);
    }
    list
}

/// The one whose turn it is. No score.
pub(crate) fn in_turn(eligible: &Eligible<'_>, turn: u64) -> Shortlist {
    let count = eligible.all().len().max(1) as u64;
    only(eligible.from((turn % count) as usize))
}

/// A list of one without a score.
pub(crate) fn only(index: Option<usize>) -> Shortlist {
    let mut list = Shortlist::new(0);
    if let Some(index) = index {
        put(&mut list, index, Score { cost: 0.0, in_flight: 0 });
    }
    list
}

fn put(list: &mut Shortlist, index: usize, score: Score) {
    if let Ok(index) = u16::try_from(index) {
        list.offer(index, score);
    }
}
