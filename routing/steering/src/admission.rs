//! Who is refused when there is too much: few heavy requests rather than many light ones.
//!
//! ```text
//! admit  ⇔  predicted latency · correction ≤ share(priority) · deadline   and   in flight < limit
//! ```
//!
//! With more work than capacity something is lost. A limit on the number refuses blindly, as many light requests as
//! heavy ones. A deadline asked of the *predicted* latency refuses those that would be late anyway: under shortest-first
//! these are the heavy ones, a few of which hold most of the work. Only 0.6 of the deadline is given away, because a
//! request that is admitted can still be overtaken. *Correction* is what past predictions were off by.
//!
//! The *limit* is a backstop for what nobody predicts (instances that hang): Netflix's gradient rule (concurrency-limits,
//! `Gradient2Limit`), `limit ← limit · clamp(2 · long / short, 0.5, 1) + √limit`, smoothed, on a long and a short
//! average of latency. It moves only while at least half of it is used.
//!
//! Known weakness: where latencies have no mean worth the name, the limit wanders; it is bounded either way.

/// What a request may expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Is refused first.
    Low,
    /// Usual.
    #[default]
    Normal,
    /// Is refused last.
    High,
}

impl Priority {
    /// Share of its deadline that a request's predicted latency may take.
    fn share(self) -> f64 {
        match self {
            Self::Low => 0.4,
            Self::Normal => 0.6,
            Self::High => 0.8,
        }
    }
}

/// Memory of the correction, and of the short average of latency, in requests.
const SHORT: f64 = 100.0;
/// Memory of the long average.
const LONG: f64 = 1_000.0;
/// How much longer than usual latencies may get before the limit shrinks.
const TOLERANCE: f64 = 2.0;
/// Part of the way the limit goes at each answer.
const SMOOTHING: f64 = 0.2;
/// The correction stays within a factor of so much.
const MOST_CORRECTION: f64 = 4.0;

/// Admission to one pool.
#[derive(Clone, Debug)]
pub struct Admission {
    correction: f64,
    short_us: f64,
    long_us: f64,
    limit: f64,
    bounds: (f64, f64),
}

impl Admission {
    /// With a concurrency limit that stays between `least` and `most` and starts in their (geometric) middle.
    pub fn new(least: u32, most: u32) -> Self {
        let least = f64::from(least.max(1));
        let most = f64::from(most).max(least);
        Self {
            correction: 1.0,
            short_us: 0.0,
            long_us: 0.0,
            limit: (least * most).sqrt(),
            bounds: (least, most),
        }
    }

    /// Whether a request may come in: predicted to take so long, waiting included, with so many in the pool already.
    /// `deadline_us`: `None` for one that can wait for ever.
    pub fn admits(
        &self,
        predicted_us: f64,
        deadline_us: Option<f64>,
        priority: Priority,
        in_flight: u32,
    ) -> bool {
        let in_time = deadline_us
            .is_none_or(|deadline_us| predicted_us * self.correction <= priority.share() * deadline_us);
        in_time && f64::from(in_flight) < self.limit
    }

    /// Requests the pool is thought to bear.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// A request came back: predicted and measured latency, microseconds; `in_flight`: in the pool when it did. What is not
    /// finite and positive is ignored.
    pub fn observe(&mut self, predicted_us: f64, latency_us: f64, in_flight: u32) {
        let ratio = (latency_us / predicted_us).ln();
        if !(ratio.is_finite() && latency_us > 0.0) {
            return;
        }
        let most = MOST_CORRECTION.ln();
        let correction = self.correction.ln() + (ratio.clamp(-most, most) - self.correction.ln()) / SHORT;
        self.correction = correction.clamp(0.0, most).exp();
        for (average, memory) in [(&mut self.short_us, SHORT), (&mut self.long_us, LONG)] {
            *average = if *average == 0.0 { latency_us } else { *average + (latency_us - *average) / memory };
        }
        if f64::from(in_flight) * 2.0 < self.limit {
            return;
        }
        let gradient = (TOLERANCE * self.long_us / self.short_us).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.limit += SMOOTHING * (wanted - self.limit);
        self.limit = self.limit.clamp(self.bounds.0, self.bounds.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heavy_and_unimportant_ones_are_refused_first() {
        let admission = Admission::new(10, 1_000);
        let admits = |predicted_us, priority| admission.admits(predicted_us, Some(100.0), priority, 5);
        assert!(admits(60.0, Priority::Normal) && !admits(61.0, Priority::Normal));
        assert!(!admits(60.0, Priority::Low) && admits(80.0, Priority::High));
        assert!(admission.admits(1e12, None, Priority::Low, 5), "who has no deadline can wait");
        assert!(!admission.admits(1.0, None, Priority::High, 100), "the limit is for everybody");
    }

    #[test]
    fn it_learns_that_it_was_too_hopeful() {
        let mut admission = Admission::new(10, 1_000);
        (0..1_000).for_each(|_| admission.observe(10.0, 20.0, 0));
        assert!(!admission.admits(35.0, Some(100.0), Priority::Normal, 0));
        (0..1_000).for_each(|_| admission.observe(10.0, 5.0, 0));
        assert!(admission.admits(60.0, Some(100.0), Priority::Normal, 0), "never below what was predicted");
    }

    #[test]
    fn the_limit_falls_when_answers_take_longer_and_comes_back() {
        let mut admission = Admission::new(10, 1_000);
        (0..5_000).for_each(|_| admission.observe(10.0, 10.0, 1_000));
        assert_eq!(admission.limit(), 1_000.0);
        (0..200).for_each(|_| admission.observe(10.0, 400.0, 1_000));
        let pressed = admission.limit();
        assert!(pressed < 200.0, "{pressed}");
        (0..20_000).for_each(|_| admission.observe(10.0, 10.0, 1_000));
        assert!(admission.limit() > 900.0);
    }

    proptest! {
        #[test]
        fn no_input_leaves_the_bounds(seen in prop::collection::vec((any::<f64>(), any::<f64>(), any::<u32>()), 0..200)) {
            let mut admission = Admission::new(5, 50);
            for (predicted, latency, in_flight) in seen {
                admission.observe(predicted, latency, in_flight);
                prop_assert!((5.0..=50.0).contains(&admission.limit()));
            }
        }
    }
}
