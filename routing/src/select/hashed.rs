//! What ring and Maglev have in common: a consumer's own instance, and whom it goes to instead while that one has too much.
//!
//! Bounded load (Mirrokni, Thorup, Zadimoghaddam: "Consistent hashing with bounded loads", SODA 2018): no instance gets
//! more than `ceil(c · (m + 1) · share)` requests in flight, with `m` in flight on all of them; a consumer whose instance is
//! full goes to the next one of the ring or table, always the same one. With c = 1.25 a consumer that sends a hundred
//! times what the others do no longer takes its instance down. Somebody is always below the bound, because c is at least 1.
//!
//! Known weakness: an idle owner costs nothing, but else the bound takes a look at all instances, a microsecond for some
//! hundreds.

use crate::select::eligible::Eligible;
use std::cell::OnceCell;

/// The most each instance may have in flight for now.
pub(crate) struct Bound<'a> {
    eligible: &'a Eligible<'a>,
    factor: Option<f64>,
    /// In flight with the newcomer, over the sum of weights; read only if somebody is busy.
    per_weight: OnceCell<f64>,
}

impl<'a> Bound<'a> {
    /// `factor`: c; `None`: no bound.
    pub(crate) fn new(eligible: &'a Eligible<'a>, factor: Option<f64>) -> Self {
        Self { eligible, factor, per_weight: OnceCell::new() }
    }

    /// Whether the try may use it and it is not too busy.
    pub(crate) fn takes(&self, index: usize) -> bool {
        self.eligible.allows(index) && self.factor.is_none_or(|factor| self.is_below(index, factor))
    }

    fn is_below(&self, index: usize, factor: f64) -> bool {
        let entry = &self.eligible.all()[index];
        let requests = entry.live.in_flight().requests;
        if requests == 0 {
            return true;
        }
        let per_weight = *self.per_weight.get_or_init(|| self.per_weight());
        f64::from(requests) < (factor * per_weight * f64::from(entry.weight)).ceil()
    }

    fn per_weight(&self) -> f64 {
        let sums = self.eligible.all().iter().fold((1.0, 0.0), |(requests, weight), entry| {
            (requests + f64::from(entry.live.in_flight().requests), weight + f64::from(entry.weight))
        });
        sums.0 / sums.1
    }
}
