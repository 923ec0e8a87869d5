//! What a request may expect when there is too much: until when its answer is worth something, and how important it is.
//!
//! The route says so. Where the pool has admission, the request may say so itself, in `x-slo-latency-ms` (whole
//! milliseconds, 1 to an hour) and `x-priority` (`low`, `normal`, `high`); anything else in them is as if it were not there.
//!
//! | hints | deadline | priority |
//! |---|---|---|
//! | `Ignore` | the route's | the route's |
//! | `Lower` | the earlier of both | the lower of both |
//! | `Trust` | the request's | the request's |
//!
//! `Lower` is the default, because with it strangers can only harm themselves: a tighter deadline or a lower priority is
//! refused earlier and served later, never at the cost of others. `Trust` lets whoever writes the headers pass before
//! everybody else; it is for clients of one's own, behind a gateway that sets or removes them.

use crate::extract::RequestHead;
use crate::settings::{ClientHints, PoolSettings, RouteSettings};
use foretide_steering::admission::Priority;
use std::time::Duration;

/// Header with the latency that a client still has use for.
const LATENCY: &str = "x-slo-latency-ms";
/// Header with a client's priority.
const PRIORITY: &str = "x-priority";
/// Nobody waits longer than an hour, milliseconds.
const MOST_MS: u64 = 3_600_000;

/// What a request may expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// From its arrival; later its answer is worth nothing. `None`: it can wait for ever.
    pub deadline: Option<Duration>,
    /// How important it is.
    pub priority: Priority,
}

impl Claim {
    /// Of a request with this head on this route to this pool. Allocates nothing, cannot fail.
    pub fn of(route: &RouteSettings, pool: &PoolSettings, head: &impl RequestHead) -> Self {
        let mut claim = Self { deadline: route.level.latency, priority: route.level.priority };
        let Some(admission) = &pool.admission else { return claim };
        claim.deadline = claim.deadline.or(Some(pool.objective));
        let asked = || (head.header(LATENCY).and_then(latency), head.header(PRIORITY).and_then(priority));
        match admission.client_hints {
            ClientHints::Ignore => {}
            ClientHints::Lower => {
                let (latency, priority) = asked();
                claim.deadline = claim.deadline.into_iter().chain(latency).min();
                claim.priority = claim.priority.min(priority.unwrap_or(claim.priority));
            }
            ClientHints::Trust => {
                let (latency, priority) = asked();
                claim.deadline = latency.or(claim.deadline);
                claim.priority = priority.unwrap_or(claim.priority);
            }
        }
        claim
    }
}

fn latency(value: &[u8]) -> Option<Duration> {
    let digits = value.trim_ascii();
    // A sign is none of its digits, and seven of them cannot overflow.
    if digits.is_empty() || digits.len() > 7 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let ms = digits.iter().fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0'));
    (1..=MOST_MS).contains(&ms).then(|| Duration::from_millis(ms))
}

fn priority(value: &[u8]) -> Option<Priority> {
    let words = [("low", Priority::Low), ("normal", Priority::Normal), ("high", Priority::High)];
    let value = value.trim_ascii();
    words
        .into_iter()
        .find(|(word, _)| value.eq_ignore_ascii_case(word.as_bytes()))
        .map(|(_, priority)| priority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_whole_milliseconds_up_to_an_hour_are_a_latency() {
        let ms = |text: &str| latency(text.as_bytes()).map(|latency| latency.as_millis());
        assert_eq!(ms(" 250 "), Some(250));
        assert_eq!(ms("3600000"), Some(3_600_000));
        for hostile in ["", "0", "-1", "+5", "1e3", "2.5", "3600001", "99999999999999999999", "0x10", "١٢"]
        {
            assert_eq!(ms(hostile), None, "{hostile}");
        }
    }

    #[test]
    fn only_three_words_are_priorities() {
        assert_eq!(priority(b"High"), Some(Priority::High));
        assert_eq!(priority(b" low"), Some(Priority::Low));
        assert_eq!(priority(b"highest"), None);
        assert_eq!(priority(b"9"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_not(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let bounds = Duration::from_millis(1)..=Duration::from_millis(MOST_MS);
            prop_assert!(latency(&value).is_none_or(|latency| bounds.contains(&latency)));
            let _ = priority(&value);
        }
    }
}
