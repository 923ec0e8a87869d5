//! How a pool serves, found out from what its requests took.
//!
//! Of each finished request there are two measurements of its service, one per form (`live::Ticket::finish`): what it
//! attained if everybody shares the instance, and what it took from its turn on if requests wait in order of arrival. Where
//! nobody waited they agree and say nothing. Where they differ, the right one scatters about what was expected by no more
//! than costs do; the wrong one scatters with whatever happened to be ahead of the request as well:
//!
//! ```text
//! residual of a form   ln(service by that form / expected), its difference to the other's at most a factor of 20
//! ratio                variance of it in order of arrival / under processor sharing
//! early                share of requests that ended before their turn had come, which no worker pool allows
//!
//! worker pool          early < 0.02 and ratio < 4
//! processor sharing    early > 0.05 or ratio > 6
//! ```
//!
//! Where sizes differ, light requests overtake heavy ones as soon as they share, and `early` alone tells: 0.4 to 0.8 under
//! processor sharing, 0 in worker pools, whatever the predictor knows. Where all sizes are alike nobody overtakes, and
//! the right form hardly scatters at all. In between everything stays as it is. Each variance
//! is about its own mean, because a predictor that has learned from the wrong form is biased.
//!
//! States: undecided (fewer than [`ENOUGH`] requests have waited: the form that is assumed), decided. A later change needs
//! [`MEMORY`] requests since the last one, so it cannot flap.
//!
//! Known weaknesses: where all requests cost the same and come one after another the two agree, and nothing is found out;
//! pools of more workers than configured look like processor sharing; behind a queue of our own nobody waits at an
//! instance, and there is nothing to find out.

use crate::score::Form;

/// Requests that waited before anything is said: a share of 2 % is then told from one of 5 %, nearly always.
pub const ENOUGH: u64 = 200;
/// Requests that waited which are remembered: costs are heavy-tailed, and a variance of fewer wanders.
pub const MEMORY: u64 = 1_000;
/// Requests on their way at the same time may swap their places in a queue: so many, perhaps.
const SWAPPED: f64 = 0.02;
/// So many have overtaken.
const OVERTAKEN: f64 = 0.05;
/// Where a predictor knows nothing, the right form scatters more than the wrong one by up to this ...
const ALIKE: f64 = 4.0;
/// ... and where all requests are alike, the wrong one by more than this.
const FAR: f64 = 6.0;
/// Measurements closer than this factor's logarithm are the same: ln 1.25.
const SAME: f64 = 0.223;
/// A factor of 20 is as bad as any larger one.
const MOST: f64 = 3.0;

/// Added to both variances: costs that scatter by less than 1 % are all alike.
const EXACT: f64 = 1e-4;

/// What a pool's requests have shown so far.
#[derive(Clone, Debug)]
pub struct Serving {
    form: Form,
    spreads: [Spread; 2],
    early: f64,
    seen: u64,
    since_change: u64,
    decided: bool,
}

/// Running mean and variance.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    mean: f64,
    variance: f64,
}

impl Spread {
    fn observe(&mut self, value: f64, weight: f64) {
        let off = (value - self.mean).clamp(-MOST, MOST);
        self.mean += weight * off;
        self.variance += weight * ((1.0 - weight) * off * off - self.variance);
    }
}

impl Serving {
    /// Assumes this form until requests show another.
    pub fn assuming(form: Form) -> Self {
        Self { form, spreads: [Spread::default(); 2], early: 0.0, seen: 0, since_change: 0, decided: false }
    }

    /// The form that fits.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether it was found out; else it is assumed.
    pub fn is_found(&self) -> bool {
        self.decided
    }

    /// Requests so far of which the two measurements differed.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Variance by order of arrival over variance by processor sharing: below 1 speaks for a worker pool. `None`: too few
    /// requests have waited.
    pub fn ratio(&self) -> Option<f64> {
        let [sharing, in_turn] = self.spreads.map(|spread| spread.variance + EXACT);
        (self.seen >= ENOUGH).then(|| in_turn / sharing)
    }

    /// Share of those that ended before their turn in order of arrival.
    pub fn early(&self) -> f64 {
        self.early
    }

    /// A request ended: its service by either form, 0 where its turn had not come, and what it was expected to take,
    /// microseconds. What is not finite or says nothing is ignored. Whether the form has changed.
    pub fn observe(&mut self, sharing_us: f64, in_turn_us: f64, expected_us: f64) -> bool {
        let sharing = (sharing_us / expected_us).ln();
        let apart = (in_turn_us / sharing_us).ln().clamp(-MOST, MOST);
        if !sharing.is_finite() || apart.is_nan() || apart.abs() < SAME {
            return false;
        }
        self.seen += 1;
        self.since_change += 1;
        let weight = 1.0 / self.seen.min(MEMORY) as f64;
        self.early += weight * (f64::from(u8::from(in_turn_us <= 0.0)) - self.early);
        let [by_sharing, by_turn] = &mut self.spreads;
        by_sharing.observe(sharing, weight);
        by_turn.observe(sharing + apart, weight);
        self.decide()
    }

    fn decide(&mut self) -> bool {
        let fits = match self.ratio() {
            Some(ratio) if self.early > OVERTAKEN || ratio > FAR => Form::ProcessorSharing,
            Some(ratio) if self.early < SWAPPED && ratio < ALIKE => Form::WorkerPool,
            _ => return false,
        };
        if fits == self.form {
            self.decided = true;
            return false;
        }
        if self.decided && self.since_change < MEMORY {
            return false;
        }
        (self.form, self.decided, self.since_change) = (fits, true, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected 1 ms; true service 0.8 to 1.2 ms; the wrong form off by up to a factor of 8.
    fn feed(serving: &mut Serving, right: Form, count: u64) -> u32 {
        let draw = |n: u64| (foretide_predictor::hash::mix(n) >> 40) as f64 / (1u64 << 24) as f64;
        let changes = (0..count).filter(|&n| {
            let service_us = 800.0 + 400.0 * draw(n);
            let wrong_us = service_us * 8f64.powf(draw(n ^ 0x5eed));
            match right {
                Form::ProcessorSharing => serving.observe(service_us, wrong_us, 1_000.0),
                Form::WorkerPool => serving.observe(wrong_us, service_us, 1_000.0),
            }
        });
        changes.count() as u32
    }

    #[test]
    fn the_form_that_scatters_less_is_found_once_and_kept() {
        for (assumed, right) in [
            (Form::ProcessorSharing, Form::WorkerPool),
            (Form::WorkerPool, Form::ProcessorSharing),
            (Form::WorkerPool, Form::WorkerPool),
        ] {
            let mut serving = Serving::assuming(assumed);
            assert_eq!(feed(&mut serving, right, ENOUGH / 2), 0, "too few to say");
            assert!(!serving.is_found() && serving.ratio().is_none());
            let changes = feed(&mut serving, right, 5_000);
            assert_eq!(changes, u32::from(assumed != right));
            assert!(serving.is_found() && serving.form() == right, "{:?}", serving.ratio());
        }
    }

    #[test]
    fn who_ends_before_its_turn_speaks_against_workers() {
        let mut serving = Serving::assuming(Form::WorkerPool);
        for n in 0..1_000 {
            serving.observe(1_000.0, if n % 4 == 0 { 0.0 } else { 700.0 }, 1_000.0);
        }
        assert_eq!(serving.form(), Form::ProcessorSharing);
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        let mut serving = Serving::assuming(Form::ProcessorSharing);
        for value in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            serving.observe(value, 5.0, 5.0);
            serving.observe(5.0, 5.0, value);
        }
        assert!((0..1_000).all(|_| !serving.observe(1_000.0, 1_100.0, 50.0)));
        assert_eq!((serving.seen(), serving.is_found()), (0, false));
    }
}
