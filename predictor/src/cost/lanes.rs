//! Four numbers at a time: kept in atomics that one writer changes and any thread reads, reckoned with in one register.
//!
//! Statistics come in groups that move alike (`x += rate · (new - x)`), and a group of four then costs little more than one
//! number alone. No lock; a reader that overlaps an update may see half a group before and half after it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wide::f32x4;

/// Four numbers that threads share.
#[derive(Debug, Default)]
pub(crate) struct SharedFour([AtomicU64; 2]);

/// Two numbers that threads share; never one before and the other after an update.
#[derive(Debug, Default)]
pub(crate) struct SharedTwo(AtomicU64);

impl SharedFour {
    pub(crate) fn load(&self) -> f32x4 {
        bytemuck::cast([self.0[0].load(Relaxed), self.0[1].load(Relaxed)])
    }

    pub(crate) fn store(&self, numbers: f32x4) {
        let [low, high]: [u64; 2] = bytemuck::cast(numbers);
        self.0[0].store(low, Relaxed);
        self.0[1].store(high, Relaxed);
    }
}

impl SharedTwo {
    pub(crate) fn load(&self) -> [f32; 2] {
        bytemuck::cast(self.0.load(Relaxed))
    }

    pub(crate) fn store(&self, numbers: [f32; 2]) {
        self.0.store(bytemuck::cast(numbers), Relaxed);
    }
}

/// Moves each number by its rate towards the new one.
pub(crate) fn towards(old: f32x4, new: f32x4, rates: f32x4) -> f32x4 {
    old + rates * (new - old)
}

/// The number, or the bound where that is larger or the number is none: one instruction, where `f32::max` takes five.
pub(crate) fn at_least(number: f32, bound: f32) -> f32 {
    if number > bound { number } else { bound }
}

/// The number, or the bound where that is smaller or the number is none.
pub(crate) fn at_most(number: f32, bound: f32) -> f32 {
    if number < bound { number } else { bound }
}

/// Whether all four can be reckoned with.
pub(crate) fn are_finite(numbers: f32x4) -> bool {
    // Zero times an infinity or a NaN is no number.
    (numbers * f32x4::ZERO).simd_eq(f32x4::ZERO).all()
}

/// One number in the first place, zeros in the others.
pub(crate) fn first(number: f32) -> f32x4 {
    f32x4::new([number, 0.0, 0.0, 0.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded() {
        let (four, two) = (SharedFour::default(), SharedTwo::default());
        let numbers = [1.5, -0.0, f32::INFINITY, 3e-40];
        four.store(f32x4::new(numbers));
        two.store([7.0, -8.0]);
        assert_eq!(four.load().to_array().map(f32::to_bits), numbers.map(f32::to_bits));
        assert_eq!(two.load(), [7.0, -8.0]);
        let moved = towards(f32x4::splat(4.0), f32x4::splat(8.0), f32x4::new([0.0, 0.25, 0.5, 1.0]));
        assert_eq!(moved.to_array(), [4.0, 5.0, 6.0, 8.0]);
        assert!(are_finite(moved) && !are_finite(four.load()) && !are_finite(first(f32::NAN)));
        assert_eq!(first(2.0).to_array(), [2.0, 0.0, 0.0, 0.0]);
        assert_eq!([at_least(1.0, 2.0), at_least(3.0, 2.0), at_least(f32::NAN, 2.0)], [2.0, 3.0, 2.0]);
        assert_eq!([at_most(1.0, 2.0), at_most(3.0, 2.0), at_most(f32::NAN, 2.0)], [1.0, 2.0, 2.0]);
    }
}
