//! Who is refused when there is too much: few heavy requests rather than many light ones.
//!
//! ```text
//! admit  ⇔  predicted latency · correction ≤ share(priority) · deadline   and   in flight < room(priority) · limit
//! ```
//!
//! With more work than capacity something is lost. A limit on the number refuses blindly, as many light requests as
//! heavy ones. A deadline asked of the *predicted* latency refuses those that would be late anyway: under shortest-first
//! these are the heavy ones, a few of which hold most of the work. Only a share of the deadline is given away (0.6 where
//! nothing else is set), because a request that is admitted can still be overtaken. *Correction* is what past predictions
//! were off by. Low priority gets a smaller share, high priority a larger one, so low ones are refused first; the same
//! holds for the limit.
//!
//! The *limit* is a backstop for what nobody predicts (instances that hang): Netflix's gradient rule (concurrency-limits,
//! `Gradient2Limit`), `limit ← limit · clamp(2 · long / short, 0.5, 1) + √limit`, smoothed, on a long and a short
//! average of latency. It moves only while at least half of it is used.
//!
//! Fallbacks: a request without a usable prediction meets the limit only.
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
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// Share of its deadline that a request's predicted latency may take, where the usual one's is `margin`.
    fn share(self, margin: f64) -> f64 {
        match self {
            Self::Low => margin * 2.0 / 3.0,
            Self::Normal => margin,
            Self::High => (1.0 + margin) / 2.0,
        }
    }

    /// Share of the limit up to which it may come in.
    fn room(self) -> f64 {
        match self {
            Self::Low => 0.75,
            Self::Normal => 1.0,
            Self::High => 1.25,
        }
    }

    /// How much a microsecond of its waiting weighs in a queue, against a usual one's.
    pub fn weight(self) -> f64 {
        match self {
            Self::Low => 0.25,
            Self::Normal => 1.0,
            Self::High => 4.0,
        }
    }
}

/// Share of the deadline that the predicted latency of a usual request may take, where nothing else is set.
pub const MARGIN: f64 = 0.6;
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

/// A request that wants to come in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Applicant {
    /// Predicted latency, waiting included, microseconds; `None`: nobody knows.
    pub predicted_us: Option<f64>,
    /// Later than this its answer is worth nothing, microseconds from now; `None`: it can wait for ever.
    pub deadline_us: Option<f64>,
    /// What it may expect.
    pub priority: Priority,
}

/// Why a request may not come in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    /// It would probably be late, by so many microseconds.
    Late {
        /// Predicted latency beyond its share of the deadline.
        by_us: f64,
    },
    /// The pool has all it is thought to bear.
    Limit,
}

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
        let bounds = bounds(least, most);
        Self { correction: 1.0, short_us: 0.0, long_us: 0.0, limit: (bounds.0 * bounds.1).sqrt(), bounds }
    }

    /// The pool has grown or shrunk: the limit keeps its place between the new bounds.
    pub fn resize(&mut self, least: u32, most: u32) {
        let new = bounds(least, most);
        if new != self.bounds {
            self.limit = (self.limit * new.0 / self.bounds.0).clamp(new.0, new.1);
            self.bounds = new;
        }
    }

    /// Whether a request may come in with so many in the pool already. `margin`: share of its deadline that a usual
    /// request's predicted latency may take.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, applicant: Applicant, margin: f64, in_flight: u32) -> Result<(), Refused> {
        let Applicant { predicted_us, deadline_us, priority } = applicant;
        if let (Some(predicted_us), Some(deadline_us)) = (predicted_us, deadline_us) {
            let by_us = predicted_us * self.correction - priority.share(margin) * deadline_us;
            if by_us > 0.0 {
                return Err(Refused::Late { by_us });
            }
        }
        if f64::from(in_flight) < priority.room() * self.limit { Ok(()) } else { Err(Refused::Limit) }
    }

    /// Requests the pool is thought to bear.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// A request came back: predicted (`None`: it was not) and measured latency, microseconds; `in_flight`: in the pool when
    /// it did. What is not finite and positive is ignored.
    pub fn observe(&mut self, predicted_us: Option<f64>, latency_us: f64, in_flight: u32) {
        if !(latency_us.is_finite() && latency_us > 0.0) {
            return;
        }
        let ratio = predicted_us.map(|predicted_us| (latency_us / predicted_us).ln());
        if let Some(ratio) = ratio.filter(|ratio| ratio.is_finite()) {
            let most = MOST_CORRECTION.ln();
            let before = self.correction.ln();
            self.correction = (before + (ratio.clamp(-most, most) - before) / SHORT).clamp(0.0, most).exp();
        }
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

fn bounds(least: u32, most: u32) -> (f64, f64) {
    let least = f64::from(least.max(1));
    (least, f64::from(most).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Within 100 µs.
    fn applicant(predicted_us: f64, priority: Priority) -> Applicant {
        Applicant { predicted_us: Some(predicted_us), deadline_us: Some(100.0), priority }
    }

    #[test]
    fn heavy_and_unimportant_ones_are_refused_first() {
        let admission = Admission::new(10, 1_000);
        let admits =
            |predicted_us, priority| admission.admits(applicant(predicted_us, priority), MARGIN, 5).is_ok();
        assert!(admits(60.0, Priority::Normal) && !admits(61.0, Priority::Normal));
        assert!(!admits(60.0, Priority::Low) && admits(80.0, Priority::High));
        let late = admission.admits(applicant(75.0, Priority::Normal), MARGIN, 5);
        assert_eq!(late, Err(Refused::Late { by_us: 15.0 }));
        let patient = Applicant { predicted_us: Some(1e12), ..Applicant::default() };
        assert!(admission.admits(patient, MARGIN, 5).is_ok(), "who has no deadline can wait");
    }

    #[test]
    fn the_limit_is_for_everybody_and_first_for_the_unimportant() {
        let admission = Admission::new(10, 1_000);
        let admits = |priority, in_flight| {
            let unknown = Applicant { priority, deadline_us: Some(1.0), predicted_us: None };
            admission.admits(unknown, MARGIN, in_flight)
        };
        assert_eq!(admission.limit(), 100.0);
        assert!(admits(Priority::Low, 74).is_ok() && admits(Priority::Low, 75).is_err());
        assert!(admits(Priority::Normal, 99).is_ok() && admits(Priority::Normal, 100).is_err());
        assert!(admits(Priority::High, 124).is_ok());
        assert_eq!(admits(Priority::High, 125), Err(Refused::Limit));
    }

    #[test]
    fn it_learns_that_it_was_too_hopeful() {
        let mut admission = Admission::new(10, 1_000);
        (0..1_000).for_each(|_| admission.observe(Some(10.0), 20.0, 0));
        assert!(admission.admits(applicant(35.0, Priority::Normal), MARGIN, 0).is_err());
        (0..1_000).for_each(|_| admission.observe(Some(10.0), 5.0, 0));
        let hopeful = admission.admits(applicant(60.0, Priority::Normal), MARGIN, 0);
        assert!(hopeful.is_ok(), "never below what was predicted");
    }

    #[test]
    fn the_limit_falls_when_answers_take_longer_and_comes_back() {
        let mut admission = Admission::new(10, 1_000);
        (0..5_000).for_each(|_| admission.observe(Some(10.0), 10.0, 1_000));
        assert_eq!(admission.limit(), 1_000.0);
        (0..200).for_each(|_| admission.observe(None, 400.0, 1_000));
        let pressed = admission.limit();
        assert!(pressed < 200.0, "{pressed}");
        (0..20_000).for_each(|_| admission.observe(Some(10.0), 10.0, 1_000));
        assert!(admission.limit() > 900.0);
    }

    #[test]
    fn the_limit_grows_and_shrinks_with_the_pool() {
        let mut admission = Admission::new(10, 1_000);
        admission.resize(20, 2_000);
        assert_eq!(admission.limit(), 200.0);
        admission.resize(1, 8);
        assert_eq!(admission.limit(), 8.0);
    }

    proptest! {
        #[test]
        fn no_input_leaves_the_bounds(seen in prop::collection::vec((any::<f64>(), any::<f64>(), any::<u32>()), 0..200)) {
            let mut admission = Admission::new(5, 50);
            for (predicted, latency, in_flight) in seen {
                admission.observe(Some(predicted), latency, in_flight);
                prop_assert!((5.0..=50.0).contains(&admission.limit()));
                prop_assert!(admission.correction >= 1.0 && admission.correction <= MOST_CORRECTION + 1e-9);
            }
        }
    }
}
