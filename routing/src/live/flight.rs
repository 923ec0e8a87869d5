//! What is in flight on an instance: requests and predicted work, by bucket, in words of which each has count and work of one
//! bucket (see [`foretide_steering::buckets`]).
//!
//! | words | changed | read by |
//! |---|---|---|
//! | what came and what went, since the start | one addition a request, never taken back | demand; their difference is what is in flight |
//! | buckets | one addition when a request comes, the opposite when it goes | whoever makes the sums |
//! | sums: what lies below each bucket | written anew with every change | scans, two of them where they would add up eight buckets |
//!
//! Buckets and counters are the truth: additions and their opposites, so what is idle reads exactly zero whatever happened
//! before, even if a field had overflowed in between. Sums are made from it by whoever changed it, *before* the change
//! is counted. If the counters are then not what they were at the start, somebody else was at it too, each may have written
//! sums that lack the other's change, and they are made again. Counters never return to an earlier value, and counting is
//! a barrier: of two, the one that counts last knows of the other, and sees its change. Nobody waits; to write again means
//! that another got on. After [`ROUNDS`] it is left to the next change, and the controller makes all sums anew with every step.
//!
//! A scan may read words of different times. Each is whole; that they contradict each other is minded where they are put
//! together ([`foretide_steering::four`]), and the next scan reads better ones.

use crate::live::speed::Speed;
use foretide_steering::buckets::{self, BUCKETS, Newcomer, bucket_of};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

/// So often in a row others would have to change the same instance within some nanoseconds.
const ROUNDS: usize = 8;

/// The first line has all that a scan reads where nobody waits: what is in flight, and how the instance is measured.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Flight {
    /// The last of the sums once more.
    all: AtomicU64,
    pub(crate) speed: Speed,
    came: AtomicU64,
    went: AtomicU64,
    sums: Sums,
    buckets: Buckets,
}

/// What lies below each bucket, and below no more.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Sums([AtomicU64; BUCKETS + 1]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Buckets([AtomicU64; BUCKETS]);

/// The counters at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    went: u64,
    came: u64,
}

impl Counted {
    /// Requests in flight and their work, microseconds.
    #[inline(always)]
    pub(crate) fn in_flight(self) -> (u64, u64) {
        buckets::split(self.came.wrapping_sub(self.went))
    }
}

impl Flight {
    /// Who went is read first: then nobody has gone who has not come. Who comes and goes between the two is in it, too.
    #[inline(always)]
    pub(crate) fn counted(&self) -> Counted {
        let went = self.went.load(SeqCst);
        Counted { went, came: self.came.load(SeqCst) }
    }

    /// Both at one time, unless others are at it all the while.
    pub(crate) fn counted_at_once(&self) -> Counted {
        let mut counted = self.counted();
        for _ in 0..ROUNDS {
            let again = self.counted();
            if again.went == counted.went {
                break;
            }
            counted = again;
        }
        counted
    }

    /// The word of all that has come; it overflows.
    pub(crate) fn came(&self) -> u64 {
        self.came.load(Relaxed)
    }

    /// The word of a bucket, 0 to 15.
    #[inline(always)]
    pub(crate) fn bucket(&self, bucket: usize) -> u64 {
        self.buckets.0[bucket].load(Relaxed)
    }

    /// The word of all, as the sums have it.
    #[inline(always)]
    pub(crate) fn all(&self) -> u64 {
        self.all.load(Relaxed)
    }

    /// The word of what lies below a bucket, 0 to 16: at 16, of all.
    #[inline(always)]
    pub(crate) fn below(&self, bucket: usize) -> u64 {
        self.sums.0[bucket].load(Relaxed)
    }

    /// A request comes. `before`: the counters just now.
    #[inline(always)]
    pub(crate) fn add(&self, newcomer: Newcomer, before: Counted) {
        let word = buckets::word(newcomer.work_us());
        self.buckets.0[newcomer.bucket() % BUCKETS].fetch_add(word, SeqCst);
        self.write_sums();
        let came = self.came.fetch_add(word, SeqCst);
        if before != (Counted { came, went: self.went.load(SeqCst) }) {
            self.renew_sums();
        }
    }

    /// A request of so much work goes.
    #[inline(always)]
    pub(crate) fn remove(&self, work_us: u64) {
        let (word, before) = (buckets::word(work_us), self.counted());
        self.buckets.0[bucket_of(work_us)].fetch_sub(word, SeqCst);
        self.write_sums();
        let went = self.went.fetch_add(word, SeqCst);
        if before != (Counted { went, came: self.came.load(SeqCst) }) {
            self.renew_sums();
        }
    }

    /// Makes the sums until nothing has changed meanwhile.
    #[inline(never)]
    pub(crate) fn renew_sums(&self) {
        for _ in 0..ROUNDS {
            let before = self.counted();
            self.write_sums();
            // What was written is there for others before it is looked what they have done.
            fence(SeqCst);
            if self.counted() == before {
                return;
            }
        }
    }

    #[inline(always)]
    fn write_sums(&self) {
        let mut sum = 0u64;
        for (bucket, place) in self.sums.0[1..].iter().enumerate() {
            sum = sum.wrapping_add(self.bucket(bucket));
            place.store(sum, Relaxed);
        }
        self.all.store(sum, Relaxed);
    }
}
