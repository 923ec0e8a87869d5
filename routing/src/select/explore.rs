//! Now and then a request goes to an instance that has had none for a while.
//!
//! With one proxy, what is in flight is known exactly and never stale. What is *learned* is: an instance that was slow once
//! has a speed residual that only requests can change, so in a fleet with room to spare it would be avoided for good. One
//! request in a hundred is a bounded price for that: with a hundred instances of which one is avoided, it costs what
//! round robin would, and nothing where all instances get requests anyway. Never on a retry, which has had its bad luck.
//!
//! Known weakness: it does not ask how bad the instance was. Health checks, ejection and the score of those it meets
//! there bound the harm.

use crate::select::eligible::{Eligible, below};
use foretide_predictor::hash::mix;
use foretide_predictor::time::Timestamp;
use std::time::Duration;

/// One request of so many.
const ONE_IN: usize = 100;
/// What is known of an instance is stale after this without a request: the memory of the peak latency, too.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// Instances looked at, from a random one on.
const LOOKED_AT: usize = 128;
/// Draws of their own, independent of the other uses of the request's random bits.
const SALT: u64 = 0x6578_706c_6f72_6521;

/// The stale instance whose turn it is; `None`: not this request, or nobody is stale.
#[inline(always)]
pub(crate) fn turn(eligible: &Eligible<'_>, chance: u64, now: Timestamp) -> Option<usize> {
    let draw = mix(chance ^ SALT);
    if below(draw, ONE_IN) != 0 || !eligible.is_first_try() {
        return None;
    }
    stale(eligible, draw, now)
}

/// Kept out of the way of the other ninety-nine.
#[inline(never)]
fn stale(eligible: &Eligible<'_>, draw: u64, now: Timestamp) -> Option<usize> {
    let all = eligible.all();
    let start = below(mix(draw), all.len());
    let places = (start..all.len()).chain(0..start).take(LOOKED_AT);
    places.into_iter().find(|&index| {
        let live = &all[index].live;
        let heard_at = live.heard_at();
        // A request that is still under way will tell, and of an instance that never had one nothing was learned.
        let silent = live.in_flight().requests == 0 && heard_at > Timestamp::ZERO;
        silent && now.since(heard_at) > STALE_AFTER
    })
}
