//! A bounded, evenly spaced series of load.
//!
//! Steps are counted from the epoch, so equal steps of different series line up. The newest `capacity` steps are kept
//! in one contiguous slice: the buffer grows to twice that before its older half is dropped, which makes `put`
//! constant time on average. Known weakness: a clock that jumps ahead by more than the capacity empties the series.

use std::time::Duration;

use foretide_predictor::time::Timestamp;

/// Evenly spaced values, oldest first; NaN marks a gap. Bounded: the oldest fall out.
#[derive(Clone, Debug)]
pub struct Series {
    step_us: u64,
    capacity: usize,
    /// The last `capacity` of these count.
    buffer: Vec<f64>,
    /// Number of the step after the last one held, counted from the epoch.
    next: u64,
}

impl Series {
    /// Steps of `step` (at least 1 µs), at most `capacity` of them (at least 1).
    pub fn new(step: Duration, capacity: usize) -> Self {
        let step_us = u64::try_from(step.as_micros()).unwrap_or(u64::MAX).max(1);
        Self { step_us, capacity: capacity.max(1), buffer: Vec::new(), next: 0 }
    }

    /// Puts the value of the step that starts at `at` (rounded down to a step). Skipped steps become gaps; a value
    /// for a step already held replaces it; one older than the series is ignored. What is not finite is a gap.
    pub fn put(&mut self, at: Timestamp, value: f64) {
        let index = at.as_us() / self.step_us;
        let value = if value.is_finite() { value } else { f64::NAN };
        let held = self.values().len() as u64;
        if held == 0 || index >= self.next.saturating_add(self.capacity as u64) {
            self.buffer.clear();
            self.next = index;
        } else if index < self.next {
            let back = self.next - index;
            if back <= held {
                let slot = self.buffer.len() - back as usize;
                self.buffer[slot] = value;
            }
            return;
        }
        let skipped = (index - self.next) as usize;
        self.buffer.extend(std::iter::repeat_n(f64::NAN, skipped));
        self.buffer.push(value);
        self.next = index + 1;
        if self.buffer.len() >= 2 * self.capacity {
            self.buffer.drain(..self.buffer.len() - self.capacity);
        }
    }

    /// The same load in steps of another width: a wider step has the mean of the old ones that begin in it, a narrower one
    /// the value of the old one that it begins in. The newest `capacity` steps.
    #[must_use]
    pub fn rescaled(&self, step: Duration, capacity: usize) -> Self {
        let mut rescaled = Self::new(step, capacity);
        let (Some(start), Some(end)) = (self.start(), self.end()) else { return rescaled };
        let width = rescaled.step_us;
        let oldest = end.as_us().saturating_sub(width.saturating_mul(rescaled.capacity as u64));
        let mut wide = (0, 0.0, 0u32);
        for (index, &value) in self.values().iter().enumerate() {
            let from = start.as_us() + index as u64 * self.step_us;
            let until = from.saturating_add(self.step_us);
            if until <= oldest || !value.is_finite() {
                continue;
            }
            if width < self.step_us {
                let first = from.max(oldest).div_ceil(width);
                (first..until.div_ceil(width)).for_each(|step| rescaled.put(rescaled.begin(step), value));
                continue;
            }
            let step = from / width;
            wide = if wide.0 == step { (step, wide.1 + value, wide.2 + 1) } else { (step, value, 1) };
            rescaled.put(rescaled.begin(step), wide.1 / f64::from(wide.2));
        }
        rescaled
    }

    /// Width of a step.
    pub fn step(&self) -> Duration {
        Duration::from_micros(self.step_us)
    }

    /// Start of the first step held.
    pub fn start(&self) -> Option<Timestamp> {
        let held = self.values().len() as u64;
        (held > 0).then(|| self.begin(self.next - held))
    }

    /// End of the last step held.
    pub fn end(&self) -> Option<Timestamp> {
        (!self.buffer.is_empty()).then(|| self.begin(self.next))
    }

    /// Values, oldest first.
    pub fn values(&self) -> &[f64] {
        &self.buffer[self.buffer.len().saturating_sub(self.capacity)..]
    }

    fn begin(&self, index: u64) -> Timestamp {
        Timestamp::from_us(index.saturating_mul(self.step_us))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(n: u64) -> Timestamp {
        Timestamp::from_us(n * 1_000_000)
    }

    #[test]
    fn gaps_replacements_and_late_comers() {
        let mut series = Series::new(Duration::from_secs(1), 4);
        assert_eq!((series.start(), series.end()), (None, None));
        series.put(Timestamp::from_us(10_700_000), 1.0);
        series.put(second(12), 3.0);
        series.put(second(12), 4.0);
        series.put(second(9), 9.0);
        assert_eq!((series.start(), series.end()), (Some(second(10)), Some(second(13))));
        assert_eq!(series.values()[0], 1.0);
        assert!(series.values()[1].is_nan());
        assert_eq!(series.values()[2], 4.0);
        series.put(second(100), 7.0);
        assert_eq!(series.values(), [7.0]);
    }

    #[test]
    fn another_width_of_steps_keeps_the_load() {
        let mut series = Series::new(Duration::from_secs(2), 100);
        for (at, value) in [(10, 1.0), (12, 3.0), (14, 5.0), (18, 7.0)] {
            series.put(second(at), value);
        }
        let wide = series.rescaled(Duration::from_secs(4), 100);
        assert_eq!((wide.start(), wide.values()), (Some(second(8)), &[1.0, 4.0, 7.0][..]));
        let narrow = series.rescaled(Duration::from_secs(1), 4);
        assert_eq!((narrow.start(), narrow.values()), (Some(second(18)), &[7.0, 7.0][..]), "of 16 to 20");
        assert_eq!(series.rescaled(Duration::from_secs(2), 2).values().last(), Some(&7.0));
        assert!(
            Series::new(Duration::from_secs(1), 5).rescaled(Duration::from_micros(1), 5).values().is_empty()
        );
    }

    proptest! {
        #[test]
        fn holds_what_a_map_of_steps_would(puts in prop::collection::vec((0u64..60, 0.0..10.0f64), 0..80),
                                           capacity in 1usize..20) {
            let mut series = Series::new(Duration::from_secs(1), capacity);
            let mut model = std::collections::BTreeMap::new();
            let mut newest = 0;
            for (at, value) in puts {
                series.put(second(at), value);
                let first = series.start().map_or(0, |start| start.as_us() / 1_000_000);
                newest = newest.max(at);
                if at >= first {
                    model.insert(at, value);
                }
                prop_assert!(series.values().len() <= capacity);
                prop_assert_eq!(series.end(), Some(second(newest + 1)));
                for (index, held) in series.values().iter().enumerate() {
                    let expected = model.get(&(first + index as u64)).copied();
                    prop_assert_eq!(expected, (!held.is_nan()).then_some(*held));
                }
            }
        }
    }
}
