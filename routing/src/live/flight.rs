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

/// Count and work in one word.
pub(crate) type Word = AtomicU64;

/// The first line has all that a scan reads where nobody waits: what is in flight, and how the instance is measured.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Flight {
    /// The last of the sums once more.
    all: Word,
    pub(crate) speed: Speed,
    came: Word,
    went: Word,
    sums: Sums,
    buckets: Buckets,
}

/// What lies below each bucket, and below no more.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Sums([Word; BUCKETS + 1]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Buckets([Word; BUCKETS]);

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

    /// The words of all buckets.
    pub(crate) fn buckets(&self) -> &[Word; BUCKETS] {
        &self.buckets.0
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    /// Words as they must be when nobody is at it.
    fn assert_right(flight: &Flight) {
        let mut sum = 0u64;
        for bucket in 0..BUCKETS {
            assert_eq!(buckets::split(flight.below(bucket)), buckets::split(sum), "below {bucket}");
            sum = sum.wrapping_add(flight.bucket(bucket));
        }
        assert_eq!([flight.below(BUCKETS), flight.all()].map(buckets::split), [buckets::split(sum); 2]);
        assert_eq!(flight.counted().in_flight(), buckets::split(sum));
        assert_eq!(flight.counted_at_once(), flight.counted());
    }

    /// All have come so far, again and again, without a scheduler's delay.
    struct Start(AtomicUsize);

    impl Start {
        fn wait_for(&self, arrived: usize) {
            self.0.fetch_add(1, SeqCst);
            let began = Instant::now();
            while self.0.load(SeqCst) < arrived {
                assert!(began.elapsed() < Duration::from_secs(60), "the other thread has failed");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn two_changes_at_the_same_moment_leave_the_sums_right() {
        const THREADS: usize = 2;
        let (flight, start) = (Flight::default(), Start(AtomicUsize::new(0)));
        std::thread::scope(|scope| {
            for work in [100.0, 90_000.0] {
                let (flight, start) = (&flight, &start);
                scope.spawn(move || {
                    let newcomer = Newcomer::of(work);
                    for round in 1..20_000 {
                        start.wait_for((2 * round - 1) * THREADS);
                        if round % 2 == 1 {
                            flight.add(newcomer, flight.counted());
                        } else {
                            flight.remove(newcomer.work_us());
                        }
                        start.wait_for(2 * round * THREADS);
                        assert_right(flight);
                    }
                });
            }
        });
    }

    #[test]
    fn many_at_once_end_at_exactly_what_is_left() {
        let flight = Flight::default();
        let works = [100.0, 700.0, 90_000.0, 5e6];
        std::thread::scope(|scope| {
            for work in works {
                let flight = &flight;
                scope.spawn(move || {
                    let newcomer = Newcomer::of(work);
                    for _ in 0..10_000 {
                        flight.add(newcomer, flight.counted());
                        flight.add(newcomer, flight.counted());
                        flight.remove(newcomer.work_us());
                        flight.remove(newcomer.work_us());
                    }
                    flight.add(newcomer, flight.counted());
                });
            }
        });
        assert_eq!(flight.counted().in_flight(), (4, 5_090_800));
        assert_right(&flight);
        works.iter().for_each(|&work| flight.remove(Newcomer::of(work).work_us()));
        assert!((0..=BUCKETS).all(|bucket| flight.below(bucket) == 0));
    }
}
