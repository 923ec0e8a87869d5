//! Events that operators announce: what they multiply the usual load by, and when.

use serde::{Deserialize, Serialize};

use foretide_predictor::time::Timestamp;

/// The product of ratios stays within 1/1,000 and 1,000: more is a typing error, and must not become a fleet.
const RATIO_LIMIT: f64 = 1_000.0;

/// Something announced that will change load: a sale, a broadcast, a batch run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduledEvent {
    /// For people.
    pub name: String,
    /// When it starts.
    pub start: Timestamp,
    /// When it ends; this moment itself is no longer part of it.
    pub end: Timestamp,
    /// Load expected during it as a multiple of the usual, > 0.
    pub ratio: f64,
}

/// Product of the ratios of all events on at `at`, 1.0 if none. Ratios that are not finite or not > 0 do not count;
/// the product stays within 1/1,000 and 1,000.
pub fn ratio_at(events: &[ScheduledEvent], at: Timestamp) -> f64 {
    let on = events.iter().filter(|event| event.start <= at && at < event.end);
    on.filter(|event| event.ratio.is_finite() && event.ratio > 0.0)
        .fold(1.0, |product: f64, event| (product * event.ratio).clamp(1.0 / RATIO_LIMIT, RATIO_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(start: u64, end: u64, ratio: f64) -> ScheduledEvent {
        let (start, end) = (Timestamp::from_us(start), Timestamp::from_us(end));
        ScheduledEvent { name: "sale".to_owned(), start, end, ratio }
    }

    #[test]
    fn overlapping_events_multiply_and_nonsense_does_not_count() {
        let events = [event(10, 20, 3.0), event(15, 30, 2.0), event(0, 99, f64::NAN), event(0, 99, -1.0)];
        let ratios = [9, 10, 15, 20, 30].map(|at| ratio_at(&events, Timestamp::from_us(at)));
        assert_eq!(ratios, [1.0, 3.0, 6.0, 2.0, 1.0]);
        assert_eq!(ratio_at(&[event(0, 9, 1e300), event(0, 9, 1e300)], Timestamp::ZERO), RATIO_LIMIT);
    }
}
