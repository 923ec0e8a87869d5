//! The score of [`crate::score`] for four instances at once. A scan asks every instance the same question, so four answers fit
//! into one register of single-precision numbers, and the formula costs a quarter.
//!
//! The results are those of [`Terms::cost_us`], to the last bit: what is added up in whole numbers there is so here, and what is
//! rounded there is rounded here.

use crate::buckets::{Newcomer, WORK_BITS};
use crate::score::{Ahead, Form, Terms, pool_us};
use bytemuck::cast;
use wide::{f32x4, f64x4, i32x4, u64x4};

/// Instances that are scored at once.
pub const LANES: usize = 4;
/// Bits of a double from 2^52 on, where its last bit counts as one: a whole number below that, put there, is that much more.
const WHOLE: u64 = 0x4330_0000_0000_0000;
const WHOLE_ZERO: f64 = (1u64 << 52) as f64;
/// Nothing is older: 35 minutes, so that ages are whole numbers of 32 bits. Reports live a minute at most.
const OLDEST_US: u64 = i32::MAX as u64;

/// What a generation of the routing table fixes of an instance's score, in one register.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(f32x4);

impl Fixed {
    /// Of an instance that nobody chooses: its score is infinite.
    pub const NOBODY: Self = Self(f32x4::new([0.0, 0.0, 0.0, f32::INFINITY]));

    /// `penalty_us` is added to the score; one that is no number makes the instance nobody's choice, a negative one is none.
    pub fn new(terms: &Terms, penalty_us: f32) -> Self {
        let penalty_us = if penalty_us.is_nan() { f32::INFINITY } else { penalty_us.max(0.0) };
        Self(f32x4::new([terms.own, terms.spare, terms.wait, penalty_us]))
    }
}

/// What is known of four instances when a scan looks at them.
#[derive(Clone, Copy, Debug)]
pub struct Loads {
    /// The words of all requests in flight, see [`crate::buckets`].
    pub all: [u64; LANES],
    /// How much longer than average work takes there, with `heavy_yields` in the upper half: bits of single-precision numbers.
    pub measured: [u64; LANES],
    /// What others have in flight there, if that is known.
    pub others: Option<Others>,
    /// By how much each is dearer, or cheaper, to this request than measured; none: 1.
    pub factors: Option<f32x4>,
}

impl Loads {
    /// With what others have; as it is if that is not known.
    #[inline(always)]
    fn and_of_others(&self, own: f32x4, of: impl Fn(&Others) -> f32x4) -> f32x4 {
        self.others.as_ref().map_or(own, |others| own + of(others))
    }
}

/// What others have in flight on four instances: four of [`Ahead`].
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Requests.
    pub requests: f32x4,
    /// Interference with the newcomer, microseconds.
    pub interference_us: f32x4,
    /// Their work, microseconds.
    pub work_us: f32x4,
}

/// What is known of others by age, prepared once for a scan on behalf of a newcomer: see [`crate::sight`].
#[derive(Clone, Copy, Debug)]
pub struct Ageing {
    /// The newcomer.
    pub newcomer: Newcomer,
    /// The fleet's mean.
    pub mean: Ahead,
    /// Now, microseconds.
    pub now_us: u64,
    /// 1 over the time constant of the ageing, microseconds.
    pub per_memory_us: f32,
    /// Age from which on an entry says nothing, microseconds.
    pub lifetime_us: f32,
}

impl Ageing {
    /// What others have on four instances: when that was heard, and what it was below the newcomer's bucket and in all, as words
    /// of two single-precision numbers, work below and requests above.
    #[inline(always)]
    pub fn of(&self, heard_at_us: [u64; LANES], below: [u64; LANES], all: [u64; LANES]) -> Others {
        let age_us = |heard_at_us: u64| self.now_us.saturating_sub(heard_at_us).min(OLDEST_US) as i32;
        let age_us = f32x4::from_i32x4(i32x4::new(each(heard_at_us, age_us)));
        let one = f32x4::ONE;
        let age = age_us * f32x4::splat(self.per_memory_us);
        let keep = one / (one + age + f32x4::splat(0.5) * age * age);
        let keep = age_us.simd_gt(f32x4::splat(self.lifetime_us)).bitselect(f32x4::ZERO, keep);
        let ((lighter_us, lighter), (work_us, requests)) = (halves(below), halves(all));
        let larger = (requests - lighter).fast_max(f32x4::ZERO);
        let size_us = f32x4::splat(self.newcomer.work_us() as i64 as f32);
        let mixed = |mean: f32, known: f32x4| {
            let mean = f32x4::splat(mean);
            mean + keep * (known - mean)
        };
        Others {
            requests: mixed(self.mean.requests, requests),
            interference_us: mixed(self.mean.interference_us, lighter_us + larger * size_us),
            work_us: mixed(self.mean.work_us, work_us),
        }
    }
}

/// Scores of four instances.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// Microseconds, not negative; infinite where it is no number.
    pub cost_us: f32x4,
    /// Requests in flight, a fraction where part of them is an estimate.
    pub requests: f32x4,
}

/// What a request brings to every score, prepared once for a scan.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    newcomer: Newcomer,
    work_us: f32x4,
    whole_us: f32x4,
    form: Form,
}

impl Question {
    /// For a request of predicted work `work_us`, microseconds, which as a newcomer is this.
    #[inline(always)]
    pub fn new(form: Form, work_us: f32, newcomer: Newcomer) -> Self {
        let whole_us = f32x4::splat(newcomer.work_us() as i64 as f32);
        Self { newcomer, work_us: f32x4::splat(work_us), whole_us, form }
    }

    /// The request as a newcomer.
    #[inline(always)]
    pub fn newcomer(&self) -> Newcomer {
        self.newcomer
    }

    /// The scores. `below`: the words of what is in flight in buckets below one, 0 to 16; asked only where somebody waits.
    #[inline(always)]
    pub fn scores(
        &self,
        fixed: [Fixed; LANES],
        loads: Loads,
        below: impl Fn(usize) -> [u64; LANES],
    ) -> Scores {
        let [own, spare, wait, penalty_us] = f32x4::transpose(each(fixed, |fixed| fixed.0));
        let (slowness, heavy_yields) = halves(loads.measured);
        let counts = count(loads.all);
        let requests = loads.and_of_others(f32x4::from_i32x4(counts), |others| others.requests);
        let own_us = self.work_us * own;
        let cost_us = match self.form {
            // So it is on all four in a fleet with room to spare.
            Form::ProcessorSharing if !requests.simd_gt(spare).any() => own_us,
            Form::ProcessorSharing => {
                let own_met_us = self.met_us(counts, below, heavy_yields);
                let met_us = loads.and_of_others(own_met_us, |others| others.interference_us);
                // Nothing while a slot is free, and 0 / 0 must not be asked.
                let crowd = (requests - spare) / requests.fast_max(f32x4::splat(f32::MIN_POSITIVE));
                own_us + met_us * wait * crowd.fast_max(f32x4::ZERO)
            }
            Form::WorkerPool => {
                let held_us = loads.and_of_others(work_us(loads.all), |others| others.work_us);
                let taken = |slots: f32x4| (requests / slots).fast_min(f32x4::ONE);
                pool_us(own_us, requests, held_us, (spare, wait), taken)
            }
        };
        let factors = loads.factors.map_or(slowness, |factors| slowness * factors);
        let cost_us = cost_us * factors + penalty_us;
        let infinity = f32x4::splat(f32::INFINITY);
        Scores { cost_us: cost_us.simd_lt(infinity).bitselect(cost_us, infinity), requests }
    }

    /// Interference with what is in flight, lighter requests counted as many times more as heavy ones yield:
    /// [`crate::buckets::Met::yielding_us`].
    #[inline(always)]
    fn met_us(&self, all: i32x4, below: impl Fn(usize) -> [u64; LANES], heavy_yields: f32x4) -> f32x4 {
        let bucket = self.newcomer.bucket();
        let (lighter, up_to) = (below(bucket), below(bucket + 1));
        // Words that were read one after another may contradict each other.
        let at_least_none = |number: f32x4| number.fast_max(f32x4::ZERO);
        let alike = at_least_none(f32x4::from_i32x4(count(up_to) - count(lighter)));
        let larger = at_least_none(f32x4::from_i32x4(all - count(up_to)));
        let alike_us = at_least_none(single(work(up_to) - work(lighter)));
        let lighter_us = work_us(lighter);
        let others_us = alike_us.fast_min(alike * self.whole_us) + larger * self.whole_us;
        lighter_us + others_us + heavy_yields * lighter_us
    }
}

/// The same for each of four. Written out, because compilers make a loop of `map` where its four steps are to become one.
#[inline(always)]
pub fn each<T, U>([a, b, c, d]: [T; LANES], of: impl Fn(T) -> U) -> [U; LANES] {
    [of(a), of(b), of(c), of(d)]
}

/// The counts of words.
#[inline(always)]
fn count(words: [u64; LANES]) -> i32x4 {
    let [a, b, c, d] = cast::<u64x4, [[i32; 2]; LANES]>(u64x4::new(words) >> WORK_BITS);
    i32x4::new([a[0], b[0], c[0], d[0]])
}

/// Their work, microseconds: exact, because whole numbers below 2^52 have doubles of their own.
#[inline(always)]
fn work(words: [u64; LANES]) -> f64x4 {
    let numbers = u64x4::new(words) & u64x4::splat((1 << WORK_BITS) - 1);
    cast::<u64x4, f64x4>(numbers | u64x4::splat(WHOLE)) - f64x4::splat(WHOLE_ZERO)
}

/// The same, rounded.
#[inline(always)]
fn work_us(words: [u64; LANES]) -> f32x4 {
    single(work(words))
}

/// Rounded once, as a whole number is that is converted directly.
#[inline(always)]
fn single(numbers: f64x4) -> f32x4 {
    f32x4::new(each(numbers.to_array(), |number| number as f32))
}

/// The lower and the upper halves of words, as numbers.
#[inline(always)]
fn halves([a, b, c, d]: [u64; LANES]) -> (f32x4, f32x4) {
    let (first, second): (f32x4, f32x4) = (cast([a, b]), cast([c, d]));
    let (even, odd) = (first.unpack_lo(second), first.unpack_hi(second));
    (even.unpack_lo(odd), even.unpack_hi(odd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::{BUCKETS, Load};
    use crate::sight::{self, Part};
    use proptest::prelude::*;

    fn four(one: impl Fn(usize) -> u64) -> [u64; LANES] {
        std::array::from_fn(one)
    }

    proptest! {
        #[test]
        fn four_at_once_are_what_one_is(
            held in prop::array::uniform4(prop::collection::vec(prop_oneof![1u64..5_000, 1u64..3_600_000_000], 0..12)),
            work_us in prop_oneof![1f32..1_000.0, 1f32..4e9],
            slots in prop::array::uniform4(1u32..6),
            slowness in 0.2f32..4.0,
            heavy_yields in prop_oneof![Just(0f32), 0f32..10.0],
            penalty_us in prop_oneof![Just(0f32), Just(-1.0), 0f32..1e6],
            more in prop::option::of(0f32..3.0),
            pool: bool,
        ) {
            let form = if pool { Form::WorkerPool } else { Form::ProcessorSharing };
            let mut loads = [Load::default(); LANES];
            for (load, held) in loads.iter_mut().zip(&held) {
                held.iter().for_each(|&us| load.add(us));
            }
            let newcomer = Newcomer::of(f64::from(work_us));
            let question = Question::new(form, work_us, newcomer);
            let measured = u64::from(slowness.to_bits()) | u64::from(heavy_yields.to_bits()) << 32;
            let terms = slots.map(|slots| Terms::new(form, slots, 1.1, 1.3));
            let of_others = |more: f32| Others {
                requests: f32x4::splat(more),
                interference_us: f32x4::splat(more * 700.0),
                work_us: f32x4::splat(more * 900.0),
            };
            let fixed = terms.map(|terms| Fixed::new(&terms, penalty_us));
            let below = |bucket: usize| four(|lane| loads[lane].below(bucket));
            let read = Loads { all: below(BUCKETS), measured: [measured; LANES], others: more.map(of_others), factors: None };
            let found = question.scores(fixed, read, below);
            let more = more.unwrap_or(0.0);
            for lane in 0..LANES {
                let (load, held_us) = (&loads[lane], more * 900.0);
                let requests = load.requests() as f32 + more;
                let met_us = load.meets(newcomer).yielding_us(heavy_yields) + more * 700.0;
                let cost_us = terms[lane].cost_us(work_us, requests, || load.work_us() as f32 + held_us, || met_us);
                prop_assert_eq!(found.cost_us.to_array()[lane], cost_us * slowness + penalty_us.max(0.0));
                prop_assert_eq!(found.requests.to_array()[lane], requests);
            }
        }

        #[test]
        fn others_age_as_they_do_one_by_one(
            heard in prop::array::uniform4((0u64..3_000_000, 0f32..50.0, 0f32..50.0, 0f32..1e6, 0f32..1e6)),
            (mean_requests, mean_us) in (0f32..9.0, 0f32..1e6),
            work_us in 1f64..1e7,
            now_us in prop_oneof![Just(3_000_000u64), 0u64..4_000_000, any::<u64>()],
            memory_us in 1_000f32..1e6,
            lifetime_us in 1f32..2e6,
        ) {
            let newcomer = Newcomer::of(work_us);
            let mean = Ahead { requests: mean_requests, interference_us: 0.5 * mean_us, work_us: mean_us };
            let per_memory_us = 1.0 / memory_us;
            let ageing = Ageing { newcomer, mean, now_us, per_memory_us, lifetime_us };
            let word = |requests: f32, work_us: f32| u64::from(requests.to_bits()) << 32 | u64::from(work_us.to_bits());
            let found = ageing.of(
                heard.map(|one| one.0),
                heard.map(|one| word(one.1, one.3)),
                heard.map(|one| word(one.2, one.4)),
            );
            for (lane, (heard_at_us, lighter, requests, lighter_us, work_us)) in heard.into_iter().enumerate() {
                let part = |requests, work_us| Part { requests, work_us };
                let known = Ahead::between(newcomer, part(lighter, lighter_us), part(requests, work_us));
                let age_us = now_us.saturating_sub(heard_at_us) as f32;
                let one = mean.towards(known, sight::keep(age_us, per_memory_us, lifetime_us));
                let of = |four: f32x4| four.to_array()[lane];
                let four = [of(found.requests), of(found.interference_us), of(found.work_us)];
                prop_assert_eq!(four, [one.requests, one.interference_us, one.work_us]);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_infinite() {
        let question = Question::new(Form::ProcessorSharing, f32::NAN, Newcomer::of(1.0));
        let usable = Fixed::new(&Terms::new(Form::ProcessorSharing, 1, 1.0, 1.0), 0.0);
        let loads =
            Loads { all: [0; 4], measured: [u64::from(1f32.to_bits()); 4], others: None, factors: None };
        let found = question.scores([usable; 4], loads, |_| [0; 4]);
        assert!(found.cost_us.to_array().iter().all(|us| us.is_infinite()));
        let question = Question::new(Form::WorkerPool, 5.0, Newcomer::of(5.0));
        let broken = Fixed::new(&Terms::new(Form::WorkerPool, 1, 1.0, 1.0), f32::NAN);
        let loads = Loads { factors: Some(f32x4::splat(2.0)), ..loads };
        let found = question.scores([usable, broken, Fixed::NOBODY, usable], loads, |_| [0; 4]);
        assert_eq!(found.cost_us.to_array(), [15.0, f32::INFINITY, f32::INFINITY, 15.0]);
    }
}
