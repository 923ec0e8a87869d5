//! Counters of one instance that every request touches: plain atomics, never a lock.
//!
//! Four things are kept. *What is in flight* (`flight`), as 16 log2 buckets of predicted work and their running sums, so
//! that the interference `Σ min(r_i, x)` with a request of work `x` costs three loads instead of a walk over all
//! requests. *A service clock*
//! ([`clock`]), which tells how much service a request really got while it shared the instance, and the times of
//! the last ends ([`turns`]), which tell when it began where the instance serves in order of arrival. *Peak latency*
//! ([`latency`]), for the policy of that name.
//!
//! Known weakness: inside a bucket the work is spread by at most a factor of two, so the interference with a request
//! of the same bucket is an upper bound.

pub mod clock;
mod flight;
pub mod latency;
pub mod others;
pub mod question;
pub mod shown;
mod speed;
pub mod turns;

use crate::live::clock::ServiceClock;
use crate::live::flight::Flight;
use crate::live::latency::PeakLatency;
use crate::live::others::Others;
use crate::live::turns::Turns;
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::{self, BUCKETS, Newcomer};
use foretide_steering::score::Form;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Largest speed residual believed: a factor of 4.5 either way.
const MOST_RESIDUAL: f32 = 1.5;
/// Largest weight of it in the score.
const MOST_TEMPER: f32 = 2.0;
/// Most that heavy requests can yield.
const MOST_YIELDING: f32 = 10.0;

/// Live load of one instance; outlives generations of the table. Two instances share no cache line; a scan reads the first
/// line, and where requests wait one or two more.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct LiveLoad {
    flight: Flight,
    /// Beside the other part that scans read, not in another page.
    others: Others,
    clock: ServiceClock,
    latency: PeakLatency,
    /// Requests that have ended, or were given up.
    ended: AtomicU64,
    turns: Turns,
}

/// Requests and predicted work taken on since the start, in one word that overflows: only differences mean something,
/// of readings between which less than a million requests and 200 days of work were taken on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken(u64);

impl Taken {
    /// Requests and microseconds of work since an earlier reading.
    pub fn since(self, earlier: Self) -> (u64, u64) {
        buckets::split(self.0.wrapping_sub(earlier.0))
    }
}

/// A snapshot of what is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InFlight {
    /// Requests.
    pub requests: u32,
    /// Sum of their predicted work, microseconds.
    pub work_us: u64,
}

impl LiveLoad {
    /// What is in flight now.
    #[inline(always)]
    pub fn in_flight(&self) -> InFlight {
        let (requests, work_us) = self.flight.counted().in_flight();
        InFlight { requests: requests as u32, work_us }
    }

    /// Requests in flight, where it matters that not one more is counted: for limits.
    pub fn requests_at_once(&self) -> u32 {
        self.flight.counted_at_once().in_flight().0 as u32
    }

    /// Requests in flight by bucket of predicted work.
    pub fn counts(&self) -> [u16; BUCKETS] {
        std::array::from_fn(|bucket| self.count(bucket).min(u64::from(u16::MAX)) as u16)
    }

    /// Requests of a bucket, 0 to 15.
    fn count(&self, bucket: usize) -> u64 {
        buckets::split(self.flight.bucket(bucket)).0
    }

    /// What others have here.
    #[inline(always)]
    fn others(&self) -> &Others {
        &self.others
    }

    /// Interference `Σ min(r_i, x)` of the work in flight with a request of predicted work `x`, microseconds.
    pub fn interference_us(&self, newcomer: Newcomer) -> f32 {
        let bucket = newcomer.bucket();
        newcomer.meets(self.word_below(bucket), self.word_below(bucket + 1), self.word()).interference_us()
    }

    /// The word of what is in flight, as a scan sees it: see `flight`.
    #[inline(always)]
    pub(crate) fn word(&self) -> u64 {
        self.flight.all()
    }

    /// The word of what is in flight below a bucket, 0 to 16.
    #[inline(always)]
    pub(crate) fn word_below(&self, bucket: usize) -> u64 {
        self.flight.below(bucket)
    }

    /// Whether fewer than so many are in flight, as a scan sees it.
    #[inline(always)]
    pub(crate) fn has_below(&self, requests: u32) -> bool {
        buckets::split(self.word()).0 < u64::from(requests)
    }

    /// Slowness and `heavy_yields`, see [`foretide_steering::four::Loads`].
    #[inline(always)]
    pub(crate) fn measured(&self) -> u64 {
        self.flight.speed.measured()
    }

    /// Speed residual: EWMA of ln(observed / predicted work), 0 before 50 samples, within ±1.5. Written by control.
    pub fn speed_residual(&self) -> f32 {
        self.flight.speed.residual()
    }

    /// Puts the speed residual, clamped to ±1.5, and its weight `temper` in the score, from 0 to 2; NaN counts as 0. For
    /// control only.
    pub fn set_speed_residual(&self, residual: f32, temper: f32) {
        let residual = if residual.is_nan() { 0.0 } else { residual.clamp(-MOST_RESIDUAL, MOST_RESIDUAL) };
        let slowness = (temper.clamp(0.0, MOST_TEMPER).max(0.0) * residual).exp();
        self.flight.speed.set_residual(residual, slowness);
    }

    /// Puts right what scans read of the work in flight, should many changes at once have left that wrong. For control, with
    /// every step.
    pub fn settle(&self) {
        self.flight.renew_sums();
    }

    /// Puts how much heavy requests yield to light ones here, 0 to 10; NaN counts as 0. For control only.
    pub fn set_heavy_yields(&self, heavy_yields: f32) {
        let heavy_yields = heavy_yields.clamp(0.0, MOST_YIELDING).max(0.0);
        self.flight.speed.set_heavy_yields(heavy_yields);
    }

    /// `exp(γ · rho)`: how much longer than average work takes here, tempered. Made when the residual is
    /// written, because every decision reads it for every instance.
    pub fn slowness(&self) -> f32 {
        self.flight.speed.slowness()
    }

    /// Requests and predicted work taken on so far, for demand.
    pub fn taken(&self) -> Taken {
        Taken(self.flight.came())
    }

    /// When a request last came or came back, to a millisecond; zero: never.
    pub fn heard_at(&self) -> Timestamp {
        self.clock.last()
    }

    /// Peak EWMA of latency, microseconds; 0 until one was observed.
    pub fn peak_latency_us(&self, now: Timestamp) -> f64 {
        self.latency.read_us(now)
    }

    /// A request came back after so many microseconds; [`Ticket::finish`] says so. Any thread; what is not finite or
    /// negative is ignored.
    pub fn observe_latency(&self, latency_us: f64, now: Timestamp) {
        self.latency.observe(latency_us, now);
    }
}

/// Service a try got, waiting taken off, microseconds at the instance's own speed, by how the instance serves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attained {
    /// If all requests in flight share it: the integral of min(1, k / n(t)) over the stay.
    pub sharing_us: f64,
    /// If it serves in order of arrival: the stay from the moment when a worker was free; 0 where none can have been.
    pub in_turn_us: f64,
}

impl Attained {
    /// By the form that the pool has.
    pub fn by(&self, form: Form) -> f64 {
        match form {
            Form::ProcessorSharing => self.sharing_us,
            Form::WorkerPool => self.in_turn_us,
        }
    }
}

/// Holds a request's predicted work on an instance; dropping it takes the work off, on every path.
#[derive(Debug)]
#[must_use = "a dropped ticket takes the request's work off again"]
pub struct Ticket {
    live: Arc<LiveLoad>,
    work_us: u64,
    concurrency: u32,
    taken_at: Timestamp,
    served_at_start: u64,
    /// The end at which it begins, in order of arrival.
    turn: u64,
}

impl Ticket {
    /// Takes the work on. `concurrency`: requests the instance serves at full speed at once.
    pub fn take(live: &Arc<LiveLoad>, work_us: f64, concurrency: u32, now: Timestamp) -> Self {
        Self::take_on(live, Newcomer::of(work_us), concurrency, now)
    }

    /// The same for work that is prepared already.
    pub(crate) fn take_on(
        live: &Arc<LiveLoad>,
        newcomer: Newcomer,
        concurrency: u32,
        now: Timestamp,
    ) -> Self {
        let work_us = newcomer.work_us();
        let before = live.flight.counted();
        let found = before.in_flight().0;
        let served_at_start = live.clock.advance(now, found, found + 1, concurrency);
        let turn = turns::turn(live.ended.load(Relaxed), found, concurrency);
        live.flight.add(newcomer, before);
        Self { live: Arc::clone(live), work_us, concurrency, taken_at: now, served_at_start, turn }
    }

    /// Ends the request in good order and returns its measured work *with waiting taken off*. Its whole stay goes into the peak latency. A ticket that is only dropped leaves that alone:
    /// an instance that refuses connections at once must not look fast.
    pub fn finish(self, now: Timestamp) -> Attained {
        self.live.observe_latency(now.since(self.taken_at).as_micros() as f64, now);
        self.cut_short(now)
    }

    /// Ends a request that did not come to its end (given up, failed, timed out) and returns the service it had attained
    /// until now, as [`Ticket::finish`] has it: its work is at least that. Says nothing about latency.
    pub fn cut_short(self, now: Timestamp) -> Attained {
        let found = self.live.flight.counted().in_flight().0;
        let served = self.live.clock.advance(now, found, found.saturating_sub(1), self.concurrency);
        Attained {
            sharing_us: clock::between_us(self.served_at_start, served),
            in_turn_us: self.in_turn(now).as_micros() as f64,
        }
    }

    /// How long it has had a worker, if they serve in order of arrival.
    fn in_turn(&self, now: Timestamp) -> Duration {
        let begun = match self.turn {
            0 => Some(self.taken_at),
            turn => self.live.turns.when(turn, self.live.ended.load(Relaxed)),
        };
        // Its turn has not come: it cannot have begun.
        begun.map_or(Duration::ZERO, |begun| now.since(begun.max(self.taken_at)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let number = self.live.ended.fetch_add(1, Relaxed) + 1;
        self.live.turns.ended(number, self.live.clock.last());
        self.live.flight.remove(self.work_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(us: u64) -> Timestamp {
        Timestamp::from_us(us)
    }

    #[test]
    fn interference_counts_small_ones_whole_and_large_ones_up_to_the_newcomers_size() {
        let live = Arc::new(LiveLoad::default());
        let tickets = [1_000.0, 2_000.0, 1e6].map(|work| Ticket::take(&live, work, 1, at(0)));
        assert_eq!(live.interference_us(Newcomer::of(10_000.0)), 1_000.0 + 2_000.0 + 10_000.0);
        assert_eq!(live.in_flight(), InFlight { requests: 3, work_us: 1_003_000 });
        drop(tickets);
        assert_eq!(live.interference_us(Newcomer::of(10_000.0)), 0.0);
        let taken = live.taken();
        assert_eq!(taken.since(Taken::default()), (3, 1_003_000), "what was taken on is never taken back");
        assert_eq!(taken.since(Taken(u64::MAX)), (3, 1_003_001), "and the word may overflow");
    }

    #[test]
    fn attained_service_is_exact_for_two_overlapping_requests() {
        let live = Arc::new(LiveLoad::default());
        let first = Ticket::take(&live, 5.0, 1, at(100));
        let second = Ticket::take(&live, 5.0, 1, at(110));
        // Alone for 10, then at half speed for 20.
        assert_eq!(first.finish(at(130)).sharing_us, 20.0);
        // At half speed for 20, then alone for 20.
        assert_eq!(second.finish(at(150)).sharing_us, 30.0);
        assert_eq!(live.peak_latency_us(at(150)), 40.0, "the longer of 30 and 40 µs");
        let broken = Ticket::take(&live, 5.0, 1, at(160));
        assert_eq!(broken.cut_short(at(167)).sharing_us, 7.0, "it has run so long");
        assert_eq!(live.peak_latency_us(at(150)), 40.0, "a broken try has no latency");
        // Two slots: nobody waits.
        let pair = [Ticket::take(&live, 5.0, 2, at(200)), Ticket::take(&live, 5.0, 2, at(200))];
        assert_eq!(pair.map(|ticket| ticket.finish(at(240)).sharing_us), [40.0, 40.0]);
    }

    #[test]
    fn in_order_of_arrival_service_begins_when_a_worker_is_free() {
        let live = Arc::new(LiveLoad::default());
        let [first, second, third] = [100, 110, 120].map(|us| Ticket::take(&live, 5.0, 1, at(us)));
        assert_eq!(first.finish(at(130)).in_turn_us, 30.0);
        assert_eq!(second.finish(at(137)).in_turn_us, 7.0, "from the first one's end");
        let overtaken = Ticket::take(&live, 5.0, 1, at(140));
        let early = Ticket::take(&live, 5.0, 1, at(141));
        assert_eq!(early.cut_short(at(145)).in_turn_us, 0.0, "two were ahead, and none has ended");
        assert_eq!(third.finish(at(150)).in_turn_us, 13.0);
        assert_eq!(overtaken.finish(at(152)).in_turn_us, 7.0, "who gave up is taken for an end");
        // Four workers: the fifth waits for whoever ends first.
        let mut four: Vec<Ticket> = (0..4).map(|us| Ticket::take(&live, 5.0, 4, at(200 + us))).collect();
        let fifth = Ticket::take(&live, 5.0, 4, at(210));
        assert_eq!(four.remove(2).finish(at(215)).in_turn_us, 13.0);
        assert_eq!(fifth.finish(at(218)).in_turn_us, 3.0);
        assert_eq!(four.remove(0).finish(at(300)).in_turn_us, 100.0);
    }

    #[test]
    fn residuals_are_tempered_and_bounded() {
        let live = LiveLoad::default();
        assert_eq!((live.speed_residual(), live.slowness()), (0.0, 1.0));
        live.set_speed_residual(9.0, 0.5);
        assert_eq!(live.speed_residual(), MOST_RESIDUAL);
        assert!((live.slowness() - 0.75f32.exp()).abs() < 1e-6);
        // Worker pools weigh it more than fully.
        live.set_speed_residual(0.5, 1.5);
        assert!((live.slowness() - 0.75f32.exp()).abs() < 1e-6);
        live.set_speed_residual(1.0, f32::NAN);
        assert_eq!(live.slowness(), 1.0);
        live.set_speed_residual(f32::NAN, 0.5);
        assert_eq!((live.speed_residual(), live.slowness()), (0.0, 1.0));
    }

    #[test]
    fn heavy_requests_yield_as_they_are_told() {
        let live = LiveLoad::default();
        live.set_speed_residual(1.0, 0.5);
        for (told, kept) in [(0.0, 0.0), (0.5, 0.5), (f32::NAN, 0.0), (1e9, 10.0), (-1.0, 0.0)] {
            live.set_heavy_yields(told);
            assert_eq!((live.flight.speed.heavy_yields(), live.slowness()), (kept, 0.5f32.exp()));
        }
        live.set_heavy_yields(3.0);
        live.set_speed_residual(0.0, 0.5);
        assert_eq!((live.flight.speed.heavy_yields(), live.slowness()), (3.0, 1.0));
    }

    proptest! {
        #[test]
        fn any_order_of_ends_leaves_exactly_nothing(works in prop::collection::vec(any::<f64>(), 0..200), seed: u64) {
            let live = Arc::new(LiveLoad::default());
            let mut tickets: Vec<Ticket> = works.iter().map(|&work| Ticket::take(&live, work, 4, at(seed >> 8))).collect();
            let expected: u64 = works.iter().map(|&work| Newcomer::of(work).work_us()).sum();
            prop_assert_eq!(live.in_flight(), InFlight { requests: works.len() as u32, work_us: expected });
            let mut pick = seed;
            while !tickets.is_empty() {
                pick = foretide_predictor::hash::mix(pick);
                let ticket = tickets.swap_remove((pick % tickets.len() as u64) as usize);
                if pick & 1 << 40 == 0 {
                    drop(ticket);
                } else {
                    let attained = ticket.finish(at(pick >> 8));
                    let stay_us = at(pick >> 8).since(at(seed >> 8)).as_micros() as f64;
                    prop_assert!(attained.sharing_us >= 0.0);
                    prop_assert!((0.0..=stay_us).contains(&attained.in_turn_us));
                }
            }
            prop_assert_eq!(live.in_flight(), InFlight::default());
            prop_assert_eq!(live.interference_us(Newcomer::of(1e9)), 0.0);
        }
    }
}
