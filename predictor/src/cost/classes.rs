//! Which requests are heavy: the 50th, 80th and 95th percentile of the costs seen lately.
//!
//! A histogram of ln cost, eight bins an octave from 1/16 µs to 2^32 µs (over an hour), halved whenever it holds
//! [`MEMORY`] observations. Borders are interpolated inside a bin (error below 1 %), or put behind it where it is full of
//! equal costs, and kept ready to read. One writer, many readers, relaxed atomics. Known weakness: the percentiles are of
//! all routes together, as the class of a request is about what it does to its neighbours.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use wide::f32x4;

use crate::cost::cells::{load, store};
use crate::cost::lanes::{at_least, at_most};
use crate::cost::query::{CostClass, PRIOR_WORK_US};

/// Bins per factor of two.
const PER_OCTAVE: f32 = 8.0;
/// log2 of the lowest border.
const LOWEST_OCTAVE: f32 = -4.0;
/// From 2^-4 to 2^32 µs.
const BINS: usize = 288;
/// The histogram is halved at this many: it forgets about half within 8,000 requests.
const MEMORY: u32 = 16_384;
/// Borders are reckoned anew every so many observations; a scan of the bins costs as much as several observations, and so few
/// move no percentile of thousands by much.
const REFRESH: u32 = 128;
/// Cumulative shares of the three borders.
const SHARES: [f32; 3] = [0.50, 0.80, 0.95];

/// Recent distribution of costs.
#[derive(Debug)]
pub(crate) struct CostClasses {
    bins: Box<[AtomicU32]>,
    total: AtomicU32,
    borders: [AtomicU32; 3],
    pinned: AtomicBool,
}

/// A copy for the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CostClassesState {
    bins: Vec<u32>,
}

impl CostClasses {
    /// Nothing seen.
    pub(crate) fn new() -> Self {
        let classes = Self {
            bins: (0..BINS).map(|_| AtomicU32::new(0)).collect(),
            total: AtomicU32::new(0),
            borders: Default::default(),
            pinned: AtomicBool::new(false),
        };
        // Until something is known: everything up to the prior is light, then a factor of four each.
        for (slot, factor) in classes.borders.iter().zip([1.0, 4.0, 16.0]) {
            store(slot, PRIOR_WORK_US as f32 * factor);
        }
        classes
    }

    /// Adds a cost, by its natural logarithm.
    pub(crate) fn observe(&self, log_work: f32) {
        let octaves = log_work * std::f32::consts::LOG2_E - LOWEST_OCTAVE;
        let place = at_most(at_least(octaves * PER_OCTAVE, 0.0), (BINS - 1) as f32);
        let bin = place as i32 as usize % BINS;
        // There is one writer: adding and storing is enough, and much quicker than an atomic addition.
        self.bins[bin].store(self.bins[bin].load(Relaxed) + 1, Relaxed);
        let total = self.total.load(Relaxed) + 1;
        self.total.store(total, Relaxed);
        if total >= MEMORY {
            self.halve();
        }
        if total.is_multiple_of(REFRESH) || total < REFRESH {
            self.refresh();
        }
    }

    /// Class of a cost; not a number counts as light.
    pub(crate) fn class_of(&self, work_us: f64) -> CostClass {
        CostClass::between(self.borders_us(), work_us)
    }

    /// Upper ends of light, medium and heavy, µs.
    pub(crate) fn borders_us(&self) -> [f64; 3] {
        [0, 1, 2].map(|i| f64::from(load(&self.borders[i])))
    }

    /// The same behind infinity: the class borders as the gist of a cost has them.
    #[inline(always)]
    pub(crate) fn borders(&self) -> f32x4 {
        let [light, medium, heavy] = [0, 1, 2].map(|i| load(&self.borders[i]));
        f32x4::new([f32::INFINITY, light, medium, heavy])
    }

    /// Keeps the borders from now on where they are put.
    pub(crate) fn pin(&self, borders_us: [f64; 3]) {
        self.pinned.store(true, Relaxed);
        self.borders.iter().zip(borders_us).for_each(|(slot, border)| store(slot, border as f32));
    }

    /// For the state file.
    pub(crate) fn snapshot(&self) -> CostClassesState {
        CostClassesState { bins: self.bins.iter().map(|bin| bin.load(Relaxed)).collect() }
    }

    /// From the state file; a state of another shape is ignored.
    pub(crate) fn restore(&self, state: &CostClassesState) {
        if state.bins.len() != BINS || state.bins.iter().any(|&count| count > MEMORY) {
            return;
        }
        for (bin, &count) in self.bins.iter().zip(&state.bins) {
            bin.store(count, Relaxed);
        }
        let total: u32 = state.bins.iter().sum();
        self.total.store(total.min(MEMORY - 1), Relaxed);
        if total > 0 {
            self.refresh();
        }
    }

    fn halve(&self) {
        let mut total = 0;
        for bin in &self.bins {
            let left = bin.load(Relaxed) / 2;
            bin.store(left, Relaxed);
            total += left;
        }
        self.total.store(total, Relaxed);
    }

    fn refresh(&self) {
        if self.pinned.load(Relaxed) {
            return;
        }
        let total = self.total.load(Relaxed) as f32;
        let (mut index, mut below, mut count) = (0, 0, self.bins[0].load(Relaxed));
        for (border, share) in self.borders.iter().zip(SHARES) {
            let wanted = share * total;
            while ((below + count) as f32) < wanted && index + 1 < BINS {
                index += 1;
                below += count;
                count = self.bins[index].load(Relaxed);
            }
            let inside = (wanted - below as f32) / count.max(1) as f32;
            let inside = inside + is_one_cost(count as f32 / total) * (1.0 - inside);
            let octave = LOWEST_OCTAVE + (index as f32 + inside) / PER_OCTAVE;
            store(border, octave.exp2());
        }
    }
}

/// How far a bin that holds this share of all costs is taken for one cost that all of them are, 0 to 1: costs that merely scatter
/// by a fifth or more put about a sixth into one bin at most. What most requests cost must lie on one side of a border, and below it is
/// where [`CostClass`] puts it: a service whose requests all cost the same has light ones only.
fn is_one_cost(share: f32) -> f32 {
    ((share - 0.15) / 0.1).clamp(0.0, 1.0)
}

/// The likeliest class, given the shares above the three borders.
#[inline(always)]
pub(crate) fn likeliest_class(above: [f32; 3]) -> CostClass {
    // Borders are nested, so the shares must fall; separate heads may say otherwise.
    let first = above[0].clamp(0.0, 1.0);
    let second = above[1].clamp(0.0, first);
    let third = above[2].clamp(0.0, second);
    let shares = [1.0 - first, first - second, second - third, third];
    let (mut class, mut most) = (CostClass::Light, shares[0]);
    for (other, share) in [CostClass::Medium, CostClass::Heavy, CostClass::Huge].into_iter().zip(&shares[1..])
    {
        class = if *share > most { other } else { class };
        most = if *share > most { *share } else { most };
    }
    class
}

impl Clone for CostClasses {
    fn clone(&self) -> Self {
        let copy = Self::new();
        copy.restore(&self.snapshot());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_follow_the_percentiles() {
        let classes = CostClasses::new();
        for i in 0..9_984u32 {
            classes.observe((((i * 7919) % 10_000 + 1) as f32).ln());
        }
        let [light, medium, heavy] = classes.borders_us();
        assert!((light / 5_000.0 - 1.0).abs() < 0.03, "{light}");
        assert!((medium / 8_000.0 - 1.0).abs() < 0.03, "{medium}");
        assert!((heavy / 9_500.0 - 1.0).abs() < 0.03, "{heavy}");
        assert_eq!(classes.class_of(f64::NAN), CostClass::Light);
        assert_eq!(classes.class_of(f64::INFINITY), CostClass::Huge);
        assert_eq!(classes.clone().borders_us(), classes.borders_us(), "9,984 is a multiple of the refresh");
    }

    #[test]
    fn what_all_requests_cost_is_light_and_what_many_cost_is_not_above_itself() {
        for cost in (0..40).map(|step| 100.0 * 1.023f32.powi(step)) {
            let classes = CostClasses::new();
            (0..1_024).for_each(|_| classes.observe(cost.ln()));
            assert_eq!(classes.class_of(f64::from(cost)), CostClass::Light, "{cost}");
            // From now on two of three are lighter.
            (0..2_048).for_each(|_| classes.observe((cost / 10.0).ln()));
            assert_eq!(classes.class_of(f64::from(cost / 10.0)), CostClass::Light, "{cost}");
            assert_ne!(classes.class_of(f64::from(cost)), CostClass::Huge, "{cost}");
        }
    }

    #[test]
    fn old_costs_are_forgotten() {
        let classes = CostClasses::new();
        (0..50_000).for_each(|_| classes.observe(10f32.ln()));
        (0..50_000).for_each(|_| classes.observe(1_000f32.ln()));
        assert!(classes.borders_us()[0] > 900.0);
    }
}
