//! Whether a request may be sent to a second instance while the first still owes its answer, when, and how often.
//!
//! Hedging (Dean and Barroso, "The Tail at Scale", 2013; gRPC's proposal A6): most requests are answered soon, so one
//! that has waited for longer than nearly all others probably waits for something that another instance does not have.
//! The first answer counts, the other is called off. Only what is safe to repeat and predicted light is hedged: the second
//! copy of a heavy request costs as much as the wait it saves.
//!
//! - **When**: after a fixed time, or after the time within which a share p of first instances answer. That quantile q is
//!   tracked in its logarithm, `ln q += STEP · (p − [x ≤ q])` (Robbins and Monro, 1951), because that needs to know of an
//!   answer only whether it came within q: exactly what is still known of a try that was called off. A histogram of
//!   the answers that came would lose the slowest ones, and the delay would creep down.
//! - **How often**: as a share of the requests that might have been, over ten seconds, as retries are ([`RetryBudget`]);
//!   and each draws on the budget of retries too, since both are load that an outage would feed.
//!
//! Known weakness: the delay is the pool's, whatever the route; where light requests differ a lot in latency, the
//! slower kind takes most of the budget.

use crate::retry::RetryBudget;
use crate::settings::{HedgeAfter, HedgeSettings, RetrySettings};
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::cost::query::{CostBasis, CostClass};
use foretide_predictor::time::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Step of the tracked quantile, in its logarithm: an answer beyond it moves it by up to 5 %.
const STEP: f64 = 0.05;
/// A quantile is trusted when so many answers beyond it are to be expected: a hundred answers for the 95th percentile.
const BEYOND: f64 = 5.0;
/// A skill gate that lets less than this of a prediction through knows no light request from a heavy one.
const LEAST_WEIGHT: f32 = 0.1;

/// What a pool hedges by; shared by all generations. Atomics only.
#[derive(Debug)]
pub struct Hedging {
    after: HedgeAfter,
    budget: RetryBudget,
    tracked: Tracked,
}

/// A quantile of the times that first instances take, in one word: answers seen, and ln of microseconds as an `f32`.
#[derive(Debug, Default)]
struct Tracked(AtomicU64);

impl Hedging {
    /// Nothing is known yet.
    pub fn new(settings: HedgeSettings) -> Self {
        // There is no floor: a share of nothing is nothing.
        let share = RetrySettings { attempts: 2, budget_ratio: settings.budget, budget_floor_per_s: 0.0 };
        Self { after: settings.after, budget: RetryBudget::new(share), tracked: Tracked::default() }
    }

    /// A request that might be hedged is sent: pays in. How long to wait for its answer; `None`: not known yet.
    pub fn sent(&self, now: Timestamp) -> Option<Duration> {
        self.budget.deposit(now);
        match self.after {
            HedgeAfter::Fixed(delay) => Some(delay),
            HedgeAfter::Quantile(share) => self.tracked.at(share),
        }
    }

    /// A hedge draws; `false`: not now.
    pub fn draw(&self, now: Timestamp) -> bool {
        self.budget.withdraw(now)
    }

    /// The first instance answered after so long, or was called off then.
    pub fn first_took(&self, time: Duration) {
        if let HedgeAfter::Quantile(share) = self.after {
            self.tracked.observe(share, time);
        }
    }
}

impl Tracked {
    /// Answers that make up the largest of a first handful, a fair guess at the quantile.
    fn first_handful(share: f64) -> u32 {
        (1.0 / (1.0 - share)).ceil() as u32
    }

    fn at(&self, share: f64) -> Option<Duration> {
        let (count, log_us) = unpack(self.0.load(Relaxed));
        let enough = f64::from(count) >= BEYOND / (1.0 - share);
        enough.then(|| Duration::from_micros(f64::from(log_us).exp() as u64))
    }

    fn observe(&self, share: f64, time: Duration) {
        let taken = (time.as_secs_f64() * 1e6).max(1.0).ln() as f32;
        let _always_changed = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let (count, log_us) = unpack(word);
            let next = if count < Self::first_handful(share) {
                log_us.max(taken)
            } else if taken > log_us {
                log_us + (STEP * share) as f32
            } else {
                log_us - (STEP * (1.0 - share)) as f32
            };
            Some(u64::from(count.saturating_add(1)) << 32 | u64::from(next.max(0.0).to_bits()))
        });
    }
}

fn unpack(word: u64) -> (u32, f32) {
    ((word >> 32) as u32, f32::from_bits(word as u32))
}

/// Whether a request is known to be light: by what was learned of its like, not by a guess.
pub fn is_cheap(prediction: &CostPrediction) -> bool {
    let known = match prediction.estimate.basis {
        CostBasis::Model | CostBasis::KeyMean => prediction.steering.weight >= LEAST_WEIGHT,
        CostBasis::RouteMean => true,
        CostBasis::GlobalMean | CostBasis::Prior => false,
    };
    known && !prediction.model_failed && prediction.estimate.class == CostClass::Light
}

/// Whether two instances may do it at the same time: safe by RFC 9110 §9.2.1, which is more than idempotent.
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_predictor::cost::estimator::predict;
    use foretide_predictor::cost::query::CostQuery;
    use foretide_predictor::cost::table::KeyTable;
    use foretide_predictor::id::RouteId;
    use proptest::prelude::*;

    fn hedging(after: HedgeAfter, budget: f64) -> Hedging {
        Hedging::new(HedgeSettings { after, budget })
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_us(1_700_000_000_000_000 + ms * 1_000)
    }

    #[test]
    fn a_fixed_delay_is_known_at_once_and_a_quantile_when_enough_was_seen() {
        let delay = Duration::from_millis(20);
        assert_eq!(hedging(HedgeAfter::Fixed(delay), 0.1).sent(at(0)), Some(delay));
        let tracked = hedging(HedgeAfter::Quantile(0.95), 0.1);
        (0..99).for_each(|_| tracked.first_took(delay));
        assert_eq!(tracked.sent(at(0)), None);
        tracked.first_took(delay);
        tracked.first_took(delay);
        assert!(tracked.sent(at(0)).is_some_and(|after| after <= delay && after >= delay / 2));
    }

    #[test]
    fn hedges_are_a_share_of_what_might_be_hedged() {
        let hedging = hedging(HedgeAfter::Fixed(Duration::ZERO), 0.05);
        assert!(!hedging.draw(at(0)), "a share of nothing");
        for _ in 0..1_000 {
            hedging.sent(at(0));
        }
        assert_eq!((0..1_000).filter(|_| hedging.draw(at(1))).count(), 50);
    }

    #[test]
    fn only_what_was_learned_to_be_light_is_cheap() {
        let table = KeyTable::new(256);
        let query = |key| CostQuery::new(RouteId(0), key, key);
        let ask = |key| predict(&table, None, &query(key), Timestamp::ZERO);
        assert!(!is_cheap(&ask(1)), "a guess");
        for _ in 0..50 {
            table.observe(&query(1), 500.0, Timestamp::ZERO);
            table.observe(&query(2), 90_000.0, Timestamp::ZERO);
        }
        let light = ask(1);
        assert!(is_cheap(&light));
        assert!(!is_cheap(&ask(2)), "heavy");
        assert!(!is_cheap(&ask(3)), "nobody has seen its like");
        let mut worthless = light;
        worthless.steering.weight = 0.0;
        worthless.estimate.basis = CostBasis::KeyMean;
        assert!(!is_cheap(&worthless));
        let mut failed = light;
        failed.model_failed = true;
        assert!(!is_cheap(&failed));
    }

    #[test]
    fn only_safe_methods() {
        assert!(is_safe("GET") && is_safe("HEAD"));
        assert!(!["POST", "PUT", "DELETE", "OPTIONS", "get", ""].into_iter().any(is_safe));
    }

    proptest! {
        /// Also where those beyond the delay are called off as soon as they are beyond it: no drift.
        #[test]
        fn the_share_beyond_the_delay_is_as_wanted(
            seed in 1u64..u64::MAX,
            middle_us in 300.0f64..100_000.0,
            share in 0.8f64..0.97,
        ) {
            let hedging = hedging(HedgeAfter::Quantile(share), 1.0);
            let mut bits = seed;
            let (mut beyond, mut counted) = (0.0, 0.0);
            for turn in 0..20_000u64 {
                bits ^= bits << 13;
                bits ^= bits >> 7;
                bits ^= bits << 17;
                // Log-uniform over a factor of a hundred.
                let unit = (bits >> 11) as f64 * 2f64.powi(-53);
                let took = Duration::from_secs_f64(middle_us / 1e6 * 100f64.powf(unit - 0.5));
                let delay = hedging.sent(at(turn));
                let called_off = delay.filter(|delay| *delay < took).map(|delay| delay + Duration::from_micros(2));
                if turn > 4_000 {
                    counted += 1.0;
                    beyond += f64::from(u8::from(called_off.is_some()));
                }
                hedging.first_took(called_off.unwrap_or(took));
            }
            prop_assert!((beyond / counted - (1.0 - share)).abs() < 0.02, "{beyond} of {counted}, wanted {share}");
        }

        #[test]
        fn no_input_breaks_it(times in prop::collection::vec(any::<u64>(), 0..300), share in 0.5f64..0.999) {
            let hedging = hedging(HedgeAfter::Quantile(share), 0.05);
            for time in times {
                hedging.first_took(Duration::from_nanos(time));
                let _ = hedging.sent(Timestamp::from_us(time));
            }
        }
    }
}
