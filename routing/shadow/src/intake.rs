//! From finished requests to arrivals in order, as many as the time allows.
//!
//! Requests are reported when they finish. They are held until nobody is expected any more who came before them: one and a
//! half times the longest latency seen lately, at most a minute. Who is later than that joins at the present, with all
//! its work, and is counted as late.
//!
//! Above a rate that costs too much, whole *slices* of time are left out, never single requests: a fleet that sees every
//! third request is another fleet. One slice in so many is taken, by the rate of the slice before; after a gap the fleets
//! begin anew, and the first quarter of the slice only fills them.

use crate::agenda::Agenda;
use crate::shadow::Finished;

/// Length of a slice: hundreds of services of requests that come so often that slices must be left out.
const SLICE_US: u64 = 4_000_000;
/// Of which this much fills the fleets.
const FILLING_US: u64 = SLICE_US / 4;
/// Slices of which it is remembered whether they are taken: longer than anything is held.
const REMEMBERED: usize = 32;
/// Requests held at most; beyond, the oldest are taken as they are.
const MOST_HELD: usize = 32_768;
/// A request is waited for no longer.
const LONGEST_US: f64 = 60e6;
/// Shortest wait, and over the longest latency seen lately.
const LEAST_WAIT_US: f64 = 500_000.0;
const PATIENCE: f64 = 1.5;
/// Part of the longest latency that each request leaves of it.
const FADING: f64 = 0.999;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// After a gap: begin with empty fleets.
    Begin,
    /// This request comes in.
    Arrive {
        request: Finished,
        /// Whether it is counted.
        counted: bool,
    },
}

/// Requests on their way to the fleets.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    held: Agenda<Finished>,
    longest_us: f64,
    /// Arrival of the last one that was handed on.
    last_us: u64,
    counted_from_us: u64,
    /// One slice in so many is taken; by slice.
    strides: [u32; REMEMBERED],
    slice: u64,
    seen_in_slice: u64,
    begun: bool,
    pub(crate) late: u64,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            held: Agenda::default(),
            longest_us: 0.0,
            last_us: 0,
            counted_from_us: 0,
            strides: [1; REMEMBERED],
            slice: 0,
            seen_in_slice: 0,
            begun: false,
            late: 0,
        }
    }
}

impl Intake {
    /// A request finished now; `most_per_s`: requests a second that are not too many.
    pub(crate) fn take(&mut self, request: Finished, now_us: u64, most_per_s: f64) {
        self.turn(now_us, most_per_s);
        self.seen_in_slice += 1;
        if !self.takes(request.at_us / SLICE_US) {
            return;
        }
        let latency_us = now_us.saturating_sub(request.at_us) as f64;
        self.longest_us = latency_us.max(self.longest_us * FADING);
        self.held.push(request.at_us as f64, request);
    }

    /// What comes next by now, if anything is due.
    pub(crate) fn next(&mut self, now_us: u64) -> Option<Step> {
        let due_us = now_us as f64 - self.wait_us();
        if self.held.next_at() > due_us && self.held.len() <= MOST_HELD {
            return None;
        }
        let at_us = self.held.next_at() as u64;
        let slice = at_us / SLICE_US;
        let gap = slice > self.last_us / SLICE_US && !self.takes(slice.saturating_sub(1));
        if !self.begun || gap {
            self.begun = true;
            self.last_us = at_us;
            self.counted_from_us = at_us + FILLING_US;
            return Some(Step::Begin);
        }
        let mut request = self.held.pop()?;
        if request.at_us < self.last_us {
            self.late += 1;
            request.at_us = self.last_us;
        }
        self.last_us = request.at_us;
        Some(Step::Arrive { request, counted: request.at_us >= self.counted_from_us })
    }

    /// The time up to which everything is known.
    pub(crate) fn known_us(&self, now_us: u64) -> u64 {
        (now_us as f64 - self.wait_us()).max(self.last_us as f64) as u64
    }

    /// Everything anew, as after a gap.
    pub(crate) fn restart(&mut self) {
        self.begun = false;
    }

    /// One slice in so many is taken now.
    pub(crate) fn stride(&self) -> u32 {
        self.strides[self.slice as usize % REMEMBERED]
    }

    fn wait_us(&self) -> f64 {
        (LEAST_WAIT_US + PATIENCE * self.longest_us).min(LONGEST_US)
    }

    fn takes(&self, slice: u64) -> bool {
        slice.is_multiple_of(u64::from(self.strides[slice as usize % REMEMBERED]))
    }

    /// Into the slice of `now_us`, if that is a new one.
    fn turn(&mut self, now_us: u64, most_per_s: f64) {
        let slice = now_us / SLICE_US;
        if slice <= self.slice {
            return;
        }
        let rate =
            if slice == self.slice + 1 { self.seen_in_slice as f64 / (SLICE_US as f64 / 1e6) } else { 0.0 };
        let stride = (rate / most_per_s).ceil().clamp(1.0, 1e6) as u32;
        for skipped in (self.slice + 1..=slice).rev().take(REMEMBERED) {
            self.strides[skipped as usize % REMEMBERED] = stride;
        }
        self.slice = slice;
        self.seen_in_slice = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at_us: u64) -> Finished {
        Finished { at_us, latency_us: 1.0, work_us: 1.0, steered_us: 1.0 }
    }

    fn arrivals(intake: &mut Intake, now_us: u64) -> Vec<u64> {
        let steps = std::iter::from_fn(|| intake.next(now_us));
        let arrival = |step| if let Step::Arrive { request, .. } = step { Some(request.at_us) } else { None };
        steps.filter_map(arrival).collect()
    }

    #[test]
    fn arrivals_are_put_in_order_and_late_ones_join_at_the_present() {
        let mut intake = Intake::default();
        for (at, now) in [(100, 200), (50, 300), (400, 401)] {
            intake.take(request(at), now, 1e9);
        }
        assert_eq!(arrivals(&mut intake, 500), []);
        assert_eq!(arrivals(&mut intake, 2_000_000), [50, 100, 400]);
        intake.take(request(10), 2_000_000, 1e9);
        assert_eq!(arrivals(&mut intake, 9_000_000), [400]);
        assert_eq!(intake.late, 1);
    }

    #[test]
    fn too_many_leave_out_whole_slices() {
        let mut intake = Intake::default();
        let mut taken = std::collections::BTreeMap::new();
        let mut begun = 0;
        // 1,000 a second, of which 300 are not too many: one slice in four.
        for number in 0..100_000 {
            let now_us = number * 1_000;
            intake.take(request(now_us), now_us, 300.0);
            while let Some(step) = intake.next(now_us) {
                match step {
                    Step::Begin => begun += 1,
                    Step::Arrive { request, .. } => *taken.entry(request.at_us / SLICE_US).or_insert(0) += 1,
                }
            }
        }
        assert!(taken.keys().all(|slice| slice.is_multiple_of(4)), "{taken:?}");
        assert!(taken.values().take(6).all(|count| *count == 4_000), "{taken:?}");
        assert_eq!((taken.len(), begun), (7, 7), "{taken:?}");
    }
}
