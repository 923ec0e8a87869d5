//! Requests a second per instance that rule `request-rate` aims at, learned when the operator names none.
//!
//! ```text
//! target = target_utilisation · capacity of one instance · requests per unit of work, over the first steady minute
//! ```
//!
//! Learned once and kept, as an operator's number would be: that is the rule's weakness (a change of mix makes it
//! wrong), and following the mix would turn it into the other rule.
use crate::meter::ClosedStep;
use std::collections::VecDeque;
use std::time::Duration;

/// The stretch it is learned from.
const STRETCH: Duration = Duration::from_secs(60);
/// ... in steps, at most: in scaled time a minute is a whole day.
const MOST_STEPS: usize = 60;
/// Steady: both halves within a quarter of each other.
const STEADY: f64 = 0.25;
/// After so many stretches without a steady one, the last is taken.
const PATIENCE: usize = 10;

/// Learns the target.
#[derive(Debug, Default)]
pub(crate) struct TargetRate {
    seen: VecDeque<ClosedStep>,
    waited: usize,
    /// Requests per second of work, once known.
    per_work: Option<f64>,
}

impl TargetRate {
    /// A step is over.
    pub(crate) fn close(&mut self, step: ClosedStep, width: Duration) {
        if self.per_work.is_some() || step.rate.requests <= 0.0 || step.rate.work_s <= 0.0 {
            return;
        }
        let wanted = (STRETCH.as_micros() / width.as_micros().max(1)).clamp(2, MOST_STEPS as u128) as usize;
        self.seen.push_back(step);
        if self.seen.len() < wanted {
            return;
        }
        self.waited += 1;
        let sum =
            |steps: &mut dyn Iterator<Item = &ClosedStep>| steps.map(|one| one.rate.requests).sum::<f64>();
        let first = sum(&mut self.seen.iter().take(wanted / 2));
        let second = sum(&mut self.seen.iter().rev().take(wanted / 2));
        if (first - second).abs() <= STEADY * first.max(second) || self.waited > PATIENCE * wanted {
            let work: f64 = self.seen.iter().map(|one| one.rate.work_s).sum();
            self.per_work = Some(sum(&mut self.seen.iter()) / work);
            self.seen.clear();
        } else {
            self.seen.pop_front();
        }
    }

    /// The target for an instance of this capacity; `None` until learned.
    pub(crate) fn for_instance(&self, capacity: f64, utilisation: f64) -> Option<f64> {
        self.per_work.map(|per_work| per_work * capacity * utilisation)
    }
}
