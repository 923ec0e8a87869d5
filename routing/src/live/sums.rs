//! Running sums over the buckets of work in flight, so that a scan reads two words of an instance where it would add up eight.
//!
//! Buckets are the truth, changed by one atomic addition each; sums are made from them by whoever changed one, and are what
//! scans read. Two who change an instance at once may each write sums that the other's change is missing from, so who has
//! written looks whether the total is still what it was, and else writes again. The last to write has then seen every change.
//! Nobody waits: to write again means that somebody else got on. After [`ROUNDS`] it is left to the next change, and the
//! controller makes all sums anew with every step.
//!
//! A scan may read two words of different times. Each is whole; what they mean together is kept from being negative
//! ([`foretide_steering::four`]), and the next scan reads better ones.

use crate::live::Packed;
use foretide_steering::buckets::BUCKETS;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

/// So often in a row others would have to change the same instance within some nanoseconds.
const ROUNDS: usize = 8;

/// What lies below each bucket, as packed words, and at last what lies in all.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Sums([AtomicU64; BUCKETS + 1]);

impl Sums {
    /// The word of all requests in buckets below this one, 0 to 16.
    #[inline(always)]
    pub(crate) fn below(&self, bucket: usize) -> u64 {
        self.0[bucket].load(Relaxed)
    }

    /// Makes the sums of these buckets, until `total` did not change meanwhile.
    #[inline(always)]
    pub(crate) fn renew(&self, buckets: &[Packed; BUCKETS], total: &Packed) {
        for _ in 0..ROUNDS {
            let before = total.word();
            let mut sum = 0u64;
            for (place, bucket) in self.0[1..].iter().zip(buckets) {
                sum = sum.wrapping_add(bucket.word());
                place.store(sum, Relaxed);
            }
            // What was written is there for others before the total is read again.
            fence(SeqCst);
            if total.word() == before {
                return;
            }
        }
    }
}
