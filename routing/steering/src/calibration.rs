//! What a prediction steers with: one straight piece either side of the middle of each octave of the prediction.
//!
//! The gate ([`crate::gate`]) learns; this is what it publishes: a plain value that the hot path reads with an octave, a
//! fraction, one multiplication and one addition. Octaves are those of the floating-point number itself, from 1 µs to
//! 2^32 µs (more than an hour), so no logarithm is taken, and a straight piece within an octave is exact for "the
//! prediction as it is".
//!
//! Known weakness: what is predicted below 1 µs or beyond the last octave is not told apart.

/// Octaves of predicted work.
pub const OCTAVES: usize = 32;
/// The last prediction told apart, microseconds: just below 2^32.
const MOST_US: f32 = 4_294_967_000.0;
/// Bits of an f32's mantissa, and its exponent of 1.
const MANTISSA_BITS: u32 = 23;
const ONE: u32 = 127;

/// The piece of one octave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    /// Work at the octave's middle, 1.5 times its begin, microseconds.
    pub(crate) middle_us: f32,
    /// Microseconds more per octave, below the middle and above it.
    pub(crate) below: f32,
    pub(crate) above: f32,
}

impl Piece {
    /// Work so far beyond the middle, microseconds, at least 1.
    #[inline(always)]
    pub(crate) fn work_us(&self, beyond: f32) -> f32 {
        let slope = if beyond < 0.0 { self.below } else { self.above };
        (self.middle_us + slope * beyond).max(1.0)
    }
}

/// From what was predicted to what steers, for one route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    pieces: [Piece; OCTAVES],
    weight: f32,
}

impl Calibration {
    /// Predictions as they are: nothing was learned yet.
    pub fn identity() -> Self {
        let piece =
            |octave| Piece { middle_us: middle_us(octave), below: width_us(octave), above: width_us(octave) };
        Self { pieces: std::array::from_fn(piece), weight: 1.0 }
    }

    pub(crate) fn new(pieces: [Piece; OCTAVES], weight: f32) -> Self {
        Self { pieces, weight }
    }

    /// What a request of this predicted work steers with, microseconds; at least 1 and finite, whatever is asked.
    #[inline(always)]
    pub fn work_us(&self, predicted_us: f32) -> f32 {
        let (octave, beyond) = place(predicted_us);
        self.pieces[octave].work_us(beyond)
    }

    /// How much of that is the prediction, 0 to 1; the rest is the mean of the route.
    pub fn weight(&self) -> f32 {
        self.weight
    }
}

impl Default for Calibration {
    fn default() -> Self {
        Self::identity()
    }
}

/// The octave of a prediction, and how far it lies beyond its middle, in widths of the octave from -0.5 to 0.5. NaN is the
/// smallest.
#[inline(always)]
pub(crate) fn place(predicted_us: f32) -> (usize, f32) {
    // In this order what is not a number is 1.
    let bits = if predicted_us > 1.0 { predicted_us.min(MOST_US) } else { 1.0 }.to_bits();
    let octave = ((bits >> MANTISSA_BITS) - ONE) as usize;
    let fraction = f32::from_bits(bits & ((1 << MANTISSA_BITS) - 1) | ONE << MANTISSA_BITS);
    (octave & (OCTAVES - 1), fraction - 1.5)
}

/// Middle of an octave, microseconds.
pub(crate) fn middle_us(octave: usize) -> f32 {
    1.5 * width_us(octave)
}

fn width_us(octave: usize) -> f32 {
    (1u64 << octave.min(OCTAVES - 1)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn octaves_begin_at_powers_of_two() {
        assert_eq!([0.1, 1.0, 1.5, 2.0, 3.0, 3.99].map(|us| place(us).0), [0, 0, 0, 1, 1, 1]);
        assert_eq!([1.0, 1.5, 3.0].map(|us| place(us).1), [-0.5, 0.0, 0.0]);
        assert_eq!(place(f32::NAN), (0, -0.5));
        assert_eq!([f32::INFINITY, 3e9, 2.1e9].map(|us| place(us).0), [31, 31, 30]);
    }

    proptest! {
        #[test]
        fn the_identity_changes_nothing_and_no_input_is_too_much(predicted in 1.0..3.6e9f32, any: f32) {
            let identity = Calibration::identity();
            prop_assert!((identity.work_us(predicted) / predicted - 1.0).abs() < 1e-6);
            let served = identity.work_us(any);
            prop_assert!(served >= 1.0 && served.is_finite());
        }
    }
}
