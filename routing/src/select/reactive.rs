//! Policies that know only what has happened: requests in flight and latency.

use crate::select::eligible::Eligible;
use crate::select::shortlist::{Score, Shortlist};
use crate::select::weighted::Schedule;
use foretide_predictor::hash::mix;
use foretide_predictor::time::Timestamp;

/// Fewest requests in flight over weight and warm-up factor, of all instances; ties at random, each with the probability of
/// its weight. The score is the number of requests with the newcomer, or without it where weights differ: counted with it,
/// an idle pool would send everything to the heaviest.
pub(crate) fn least_request(eligible: &Eligible<'_>, weights: Option<&Schedule>, chance: u64) -> Shortlist {
    let mut list = Shortlist::new(chance);
    let favourite = weights.and_then(|schedule| schedule.draw(mix(chance)));
    for index in (0..eligible.all().len()).filter(|&index| eligible.allows(index)) {
        let (load, in_flight) = load(eligible, index, weights.is_some());
        // Between equals in flight over weight, requests in flight alone would prefer the lightest.
        let tie = if favourite.is_some() { u32::from(favourite != Some(index)) } else { in_flight };
        put(&mut list, index, Score { cost: load as f32, in_flight: tie });
    }
    list
}

/// Two at random, fewer requests in flight over the warm-up factor (Mitzenmacher, "The power of two choices", 2001). Where
/// weights differ both draws are made by weight, and weight divides what is in flight; two different ones are preferred, so an
/// idle fleet is shared nearly by weight: 56, 32 and 12 % for 6, 3 and 1.
pub(crate) fn p2c(eligible: &Eligible<'_>, weights: Option<&Schedule>, chance: u64) -> Shortlist {
    let mut list = Shortlist::new(chance);
    if let Some((first, second)) = two(eligible, weights, chance) {
        for index in [first, second] {
            offer(&mut list, index, load(eligible, index, weights.is_some()));
        }
    }
    list
}

/// Two at random, smaller peak EWMA of latency × requests with the newcomer (Finagle). An instance never heard of
/// counts as the other one: Finagle's large start value would keep it idle, zero would flood it.
pub(crate) fn peak_ewma(
    eligible: &Eligible<'_>,
    weights: Option<&Schedule>,
    now: Timestamp,
    chance: u64,
) -> Shortlist {
    let mut list = Shortlist::new(chance);
    let Some((first, second)) = two(eligible, weights, chance) else { return list };
    let latency_us = |index: usize| eligible.all()[index].live.peak_latency_us(now);
    let known_us = |own: f64, other: f64| if own > 0.0 { own } else { other.max(1.0) };
    let (first_us, second_us) = (latency_us(first), latency_us(second));
    for (index, latency) in [(first, known_us(first_us, second_us)), (second, known_us(second_us, first_us))]
    {
        // Latency tells what an instance is worth; its weight has been in the draw.
        let (load, in_flight) = load(eligible, index, false);
        offer(&mut list, index, (latency * load, in_flight));
    }
    list
}

fn two(eligible: &Eligible<'_>, weights: Option<&Schedule>, chance: u64) -> Option<(usize, usize)> {
    match weights {
        None => eligible.two(chance),
        Some(schedule) => eligible.two_weighted(schedule, chance),
    }
}

/// Requests with the newcomer over the warm-up factor; if `weighted`, all over weight, and without the newcomer where
/// nothing is being ramped up. And requests in flight.
fn load(eligible: &Eligible<'_>, index: usize, weighted: bool) -> (f64, u32) {
    let entry = &eligible.all()[index];
    let in_flight = entry.live.in_flight().requests;
    let load = (f64::from(in_flight) + 1.0) / eligible.warmth(entry);
    (if weighted { (load - 1.0) / f64::from(entry.weight) } else { load }, in_flight)
}

/// Both draws are the same where only one is left.
fn offer(list: &mut Shortlist, index: usize, (load, in_flight): (f64, u32)) {
    if !list.holds(index) {
        put(list, index, Score { cost: load as f32, in_flight });
    }
}

/// A list of one without a score.
pub(crate) fn only(index: Option<usize>) -> Shortlist {
    let mut list = Shortlist::new(0);
    if let Some(index) = index {
        put(&mut list, index, Score { cost: 0.0, in_flight: 0 });
    }
    list
}

/// Considers an instance, as far as it can be ranked.
pub(crate) fn put(list: &mut Shortlist, index: usize, score: Score) {
    if let Ok(index) = u16::try_from(index) {
        list.offer(index, score);
    }
}
