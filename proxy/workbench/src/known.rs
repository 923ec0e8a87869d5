//! What a column's name tells: when its value is known, and whether it is another column in other clothes.

use std::collections::BTreeSet;

/// When the value of a column is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Before the request is forwarded, as far as its name tells.
    OnArrival,
    /// Only with the response.
    WithResponse,
}

/// Words in names that only the response can fill, wherever they stand.
const LATE: [&str; 9] =
    ["status", "response", "duration", "dur", "latency", "elapsed", "took", "upstream", "measured"];
/// Words that mean the response in a log, and may mean anything in a table.
const LATE_IN_LOGS: [&str; 9] =
    ["sent", "outcome", "flags", "tries", "retries", "bytes", "size", "end", "error"];
/// Words that tell of the request all the same: `bytes_received`, `predicted_duration`.
const EARLY: [&str; 5] = ["received", "length", "predicted", "referer", "agent"];
/// Words that change a quantity's unit or shape, not what it is about.
const CLOTHES: [&str; 26] = [
    "us",
    "ms",
    "ns",
    "s",
    "sec",
    "secs",
    "seconds",
    "millis",
    "micros",
    "nanos",
    "usec",
    "msec",
    "nsec",
    "log",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "norm",
    "normalized",
    "scaled",
    "bucket",
    "class",
    "rank",
    "raw",
    "rounded",
];

/// When a column of this name is usually known; `in_log`: its name was given by a server, not by whoever made the table.
pub fn known_by_name(name: &str, in_log: bool) -> Known {
    let words = words(name);
    let holds = |some: &[&str]| some.iter().any(|word| words.contains(*word));
    let late = holds(&LATE) || (in_log && (holds(&LATE_IN_LOGS) || name == "request_time"));
    let asked = name.starts_with("query.");
    if late && !asked && !holds(&EARLY) { Known::WithResponse } else { Known::OnArrival }
}

/// Whether `name` is `other` in another unit or shape: `dur_ms`, `log_dur` and `DurNorm` are all `dur_us`.
pub fn is_variant(name: &str, other: &str) -> bool {
    let bare = |name: &str| -> BTreeSet<String> {
        words(name).into_iter().filter(|word| !CLOTHES.contains(&word.as_str())).collect()
    };
    let bare_other = bare(other);
    !bare_other.is_empty() && bare(name) == bare_other
}

/// `bytesSent`, `bytes-sent` and `BYTES_SENT` are `bytes`, `sent`.
fn words(name: &str) -> BTreeSet<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (letter.is_uppercase() && after_small) {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("never empty").extend(letter.to_lowercase());
        }
        after_small = letter.is_lowercase() || letter.is_numeric();
    }
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_only_the_response_knows() {
        for name in
            ["status", "bytes_sent", "upstream_ms", "measured_ms", "responseFlags", "request_time", "end_us"]
        {
            assert_eq!(known_by_name(name, true), Known::WithResponse, "{name}");
        }
        for name in [
            "bytes_received",
            "request_length",
            "endpoint",
            "tenant",
            "predicted_ms",
            "query.size",
            "user_agent",
        ] {
            assert_eq!(known_by_name(name, true), Known::OnArrival, "{name}");
        }
    }

    #[test]
    fn tables_are_given_the_benefit_of_the_doubt() {
        assert_eq!(known_by_name("size", false), Known::OnArrival);
        assert_eq!(known_by_name("http_status", false), Known::WithResponse);
    }

    #[test]
    fn a_quantity_is_known_in_other_clothes() {
        for name in ["dur_us", "dur_ms", "log_dur", "DurNorm", "dur_class", "DUR"] {
            assert!(is_variant(name, "dur_us"), "{name}");
        }
        for name in ["dur_predicted", "us", "caller", "body_len"] {
            assert!(!is_variant(name, "dur_us"), "{name}");
        }
        assert!(!is_variant("ns", "ms"), "units alone are nothing");
        assert!(!is_variant("ContextTokens", "GeneratedTokens"));
    }
}
