//! How an instance says what it has in flight: two named metrics of an ORCA response header.
//!
//! ```text
//! endpoint-load-metrics: JSON {"named_metrics":{"fa":4398046511103,"fb":4398046511103}}      at most 62 bytes
//! ```
//!
//! 84 bits in two numbers of 42, which a double holds exactly: 16 nibbles with the requests of each bucket, 12 bits with
//! the number of all of them, 8 with the speed residual. Where a bucket has more than 15, all nibbles are scaled down
//! together, none of them to zero, and the total restores the scale. ORCA (Open Request Cost Aggregation, known to
//! Envoy and gRPC) ignores named metrics it does not know, so the header harms nobody who reads it for something else.
//!
//! Reading is for hostile input: whatever is not two numbers in range is no report. Nothing it can say does worse than
//! make one instance look busy or idle.
//!
//! Known weakness: above 15 requests in a bucket, small buckets are known to one part in fifteen of the largest.

use crate::buckets::BUCKETS;
use crate::sight::Report;
use std::fmt::Write as _;

/// The header's name, lower case.
pub const HEADER: &str = "endpoint-load-metrics";
/// Longest value written, bytes.
pub const MOST_BYTES: usize = 62;
/// Longest value read, bytes: others put more metrics into the same header.
const MOST_READ: usize = 4_096;

const NAMES: [&str; 2] = ["fa", "fb"];
const HALF_BITS: u32 = 42;
const NIBBLE: u16 = 15;
const COUNT_BITS: u32 = 12;
const MOST_COUNT: u32 = (1 << COUNT_BITS) - 1;
/// Residual of this byte: not measured. Others are hundredths and a bit: 0 to 254 for -1.5 to 1.5.
const UNMEASURED: u8 = 255;
const RESIDUAL_STEPS: f32 = 127.0;
const RESIDUAL_LIMIT: f32 = 1.5;

/// Appends the header's value to `out`, which needs [`MOST_BYTES`] of room.
pub fn write(report: &Report, out: &mut String) {
    let packed = pack(report);
    let half = (1u128 << HALF_BITS) - 1;
    let (low, high) = (packed & half, packed >> HALF_BITS & half);
    // Writing to a string cannot fail.
    let _ = write!(out, "JSON {{\"named_metrics\":{{\"{}\":{low},\"{}\":{high}}}}}", NAMES[0], NAMES[1]);
}

/// The report in a header's value, in its JSON or its text form; `None`: there is none, or it is broken.
pub fn read(value: &str) -> Option<Report> {
    let value = value.get(..value.len().min(MOST_READ))?;
    let [low, high] = NAMES.map(|name| number(value, name));
    Some(unpack(u128::from(low?) | u128::from(high?) << HALF_BITS))
}

/// The number of a metric: `"name":123` or `named_metrics.name=123`.
fn number(value: &str, name: &str) -> Option<u64> {
    let starts = value.match_indices(name).find(|(at, _)| {
        let (before, after) = (&value[..*at], &value[at + name.len()..]);
        (before.ends_with('"') && after.starts_with("\":"))
            || (before.ends_with("named_metrics.") && after.starts_with('='))
    });
    let after = &value[starts?.0 + name.len()..];
    let text = after.trim_start_matches(['"', ':', '=', ' ']);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    // A serialiser of doubles may add a fraction of zero.
    let rest = text[digits..].trim_start_matches(".0");
    let ends = rest.is_empty() || rest.starts_with([',', '}', ' ']);
    text[..digits].parse().ok().filter(|&number: &u64| ends && number >> HALF_BITS == 0)
}

/// The 84 bits of a report.
pub fn pack(report: &Report) -> u128 {
    let largest = report.counts.iter().copied().max().unwrap_or(0).max(1);
    let nibble = |count: u16| {
        if largest <= NIBBLE {
            return u128::from(count);
        }
        let scaled = (u32::from(count) * u32::from(NIBBLE)).div_ceil(u32::from(largest));
        u128::from(scaled)
    };
    let nibbles = report.counts.iter().rev().fold(0u128, |packed, &count| packed << 4 | nibble(count));
    let count = u128::from(report.requests().min(MOST_COUNT));
    let residual = report.residual.filter(|residual| residual.is_finite()).map_or(UNMEASURED, |residual| {
        let share = residual.clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT) / RESIDUAL_LIMIT;
        ((share + 1.0) * RESIDUAL_STEPS).round() as u8
    });
    nibbles | count << 64 | u128::from(residual) << (64 + COUNT_BITS)
}

/// The report in 84 bits.
pub fn unpack(packed: u128) -> Report {
    let nibbles: [u32; BUCKETS] = std::array::from_fn(|bucket| (packed >> (4 * bucket)) as u32 & 15);
    let (count, sum) = ((packed >> 64) as u32 & MOST_COUNT, nibbles.iter().sum::<u32>());
    // Nibbles that do not add up to the total were scaled down.
    let scaled = |nibble: u32| {
        let restored = if sum > 0 && count > sum { (nibble * count + sum / 2) / sum } else { nibble };
        restored as u16
    };
    let byte = (packed >> (64 + COUNT_BITS)) as u8;
    let residual = (byte != UNMEASURED).then(|| (f32::from(byte) / RESIDUAL_STEPS - 1.0) * RESIDUAL_LIMIT);
    Report { counts: nibbles.map(scaled), residual }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(report: &Report) -> (usize, Report) {
        let mut value = String::new();
        write(report, &mut value);
        (value.len(), read(&value).expect("a report"))
    }

    #[test]
    fn is_read_among_other_metrics_and_in_both_forms() {
        let report = Report { counts: std::array::from_fn(|bucket| bucket as u16), residual: Some(0.3) };
        let mut value = String::new();
        write(&report, &mut value);
        let number = |name| super::number(&value, name).expect("its number");
        let (low, high) = (number("fa"), number("fb"));
        let text = format!("TEXT cpu_utilization=0.3,named_metrics.fa={low},named_metrics.fb={high}");
        let json = format!(
            "JSON {{\"named_metrics\": {{\"fax\": 1, \"fb\": {high}, \"fa\": {low}.0 }}, \"eps\": 3}}"
        );
        assert_eq!(read(&text), read(&value));
        assert_eq!(read(&json), read(&value));
        assert_eq!(read(&value).expect("a report").counts, report.counts);
    }

    #[test]
    fn what_is_broken_is_no_report() {
        for value in [
            "",
            "JSON {}",
            "JSON {\"named_metrics\":{\"fa\":1}}",
            "TEXT named_metrics.fa=-1,named_metrics.fb=2",
            "TEXT named_metrics.fa=1e300,named_metrics.fb=2",
            "TEXT named_metrics.fa=4398046511104,named_metrics.fb=2",
            "TEXT fa=1,fb=2",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn small_counts_arrive_exactly(counts in prop::array::uniform16(0u16..16), residual in prop::option::of(-1.5f32..1.5)) {
            let report = Report { counts, residual };
            let (bytes, heard) = sent(&report);
            prop_assert!(bytes <= MOST_BYTES);
            prop_assert_eq!(heard.counts, counts);
            prop_assert_eq!(heard.residual.is_some(), residual.is_some());
            prop_assert!((heard.residual.unwrap_or(0.0) - residual.unwrap_or(0.0)).abs() < 0.007);
        }

        #[test]
        fn large_counts_keep_their_scale_and_nobody_vanishes(counts in any::<[u16; BUCKETS]>()) {
            let report = Report { counts, residual: Some(f32::NAN) };
            let (bytes, heard) = sent(&report);
            prop_assert!(bytes <= MOST_BYTES && heard.residual.is_none());
            prop_assert!(counts.iter().zip(heard.counts).all(|(&said, heard)| (said == 0) == (heard == 0) || report.requests() > MOST_COUNT));
            let total = report.requests().min(MOST_COUNT) as f32;
            prop_assert!((heard.requests() as f32 - total).abs() <= 16.0 + 0.1 * total);
        }

        #[test]
        fn anything_may_be_sent(value in "\\PC*", low: u64, high: u64) {
            let _ = read(&value);
            if let Some(report) = read(&format!("TEXT named_metrics.fa={low},named_metrics.fb={high}")) {
                prop_assert!(report.requests() <= 16 * 4_096);
            }
        }
    }
}
