//! Natural logarithm and exponential for the hot path: no table, no call, a few nanoseconds less than the exact ones.
//!
//! Errors, over all positive normal numbers and all exponents in [-87, 88]: below 2e-7 absolute for [`ln`] (or 2e-7 of the
//! result where that is larger), below 3e-7 of the result for [`exp`]; the tests hold them. Costs are measured to per
//! cents, so nothing can be told apart by such errors.

/// Upper part of ln 2, exact in few bits, so that `n · LN2_HIGH` is exact for every exponent.
const LN2_HIGH: f32 = 0.693_359_4;
/// The rest of ln 2.
const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 · 2^23: adding it to a small number rounds that to an integer, kept in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;

/// ln of a positive number; below the smallest normal number and for NaN: that of the smallest normal number.
///
/// `x = 2^e · m` with m in [√½, √2), `ln m = 2 artanh((m - 1) / (m + 1))`.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // NaN compares false; `max` would ask for it twice.
    let x = if x > f32::MIN_POSITIVE { x } else { f32::MIN_POSITIVE };
    // Subtracting the bits of √½ moves the exponent's border from 1 to √½.
    let above = x.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let exponent = (above as i32) >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((exponent as u32) << 23));
    let s = (m - 1.0) / (m + 1.0);
    let t = s * s;
    let series = s * (2.0 + t * (0.666_666_7 + t * (0.4 + t * (0.285_714_3 + t * 0.222_222_2))));
    let e = exponent as f32;
    e * LN2_HIGH + (series + e * LN2_LOW)
}

/// [`ln`] of each: the compiler makes vectors of the loop.
#[inline(always)]
pub(crate) fn ln_each<const N: usize>(mut numbers: [f32; N]) -> [f32; N] {
    for number in &mut numbers {
        *number = ln(*number);
    }
    numbers
}

/// e^x, for x drawn into [-87, 88]; NaN counts as -87.
///
/// `x = n · ln 2 + r` with |r| <= ln 2 / 2, Taylor's series of e^r to the sixth power.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // NaN compares false.
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let rounded = x * std::f32::consts::LOG2_E + ROUNDING;
    let n = rounded - ROUNDING;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let high = 0.166_666_67 + r * (0.041_666_668 + r * (0.008_333_334 + r * 0.001_388_888_9));
    let series = 1.0 + r * (1.0 + r * (0.5 + r * high));
    // The lowest bits of `rounded` are n: shifted up they are the exponent, and a conversion is saved.
    series * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// [`exp`] of each, as [`ln_each`].
#[inline(always)]
pub(crate) fn exp_each<const N: usize>(mut numbers: [f32; N]) -> [f32; N] {
    for number in &mut numbers {
        *number = exp(*number);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn logarithms_are_as_exact_as_said(x in (f32::MIN_POSITIVE..1e30f32, -30f32..30.0)) {
            for x in [x.0, x.1.exp(), 1.0 + x.1 * 1e-3] {
                let exact = f64::from(x).ln();
                prop_assert!((f64::from(ln(x)) - exact).abs() < 2e-7 * exact.abs().max(1.0), "{x}: {}", ln(x));
            }
        }

        #[test]
        fn exponentials_are_as_exact_as_said(x in -87f32..88.0) {
            let exact = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "{x}: {}", exp(x));
        }

        #[test]
        fn no_number_gives_anything_but_a_finite_answer(x in any::<f32>()) {
            prop_assert!(ln(x).is_finite() || x == f32::INFINITY);
            prop_assert_eq!(ln_each([x, 2.0, x]), [ln(x), ln(2.0), ln(x)]);
            prop_assert!(exp(x).is_finite() && exp(x) > 0.0);
        }
    }

    #[test]
    fn whole_numbers() {
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
        assert!(ln(f32::INFINITY) > 88.0 && exp(f32::NAN) < 1e-37);
    }
}
