//! Stable hashes: the same value on every machine and in every version, because learned state is kept by them.

use xxhash_rust::xxh3;

/// Hash of some bytes; never 0, which means *absent* wherever keys are kept.
pub fn bytes(value: &[u8]) -> u64 {
    xxh3::xxh3_64(value).max(1)
}

/// Combines two keys, order mattering (splitmix64's finaliser over a rotated sum); never 0.
pub fn pair(a: u64, b: u64) -> u64 {
    mix(a.rotate_left(23).wrapping_add(b).wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
}

/// Combines two keys, order mattering, in the time of one multiplication: its 128-bit product folded, as in wyhash (Wang Yi,
/// 2019). Weaker than [`pair`]; for keys whose collision costs one estimate.
pub fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    // The sum keeps `a` even where `b` makes the product zero.
    ((product >> 64) as u64 ^ product as u64).wrapping_add(a)
}

/// splitmix64's finaliser (Steele, Lea, Flood 2014): spreads a counter or a seed over all 64 bits.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable_and_order_matters() {
        assert_eq!(bytes(b"tenant-7"), bytes(b"tenant-7"));
        assert_ne!(pair(1, 2), pair(2, 1));
        assert_ne!(fold(1, 2), fold(2, 1));
        let absorbing = 0xd6e8_feb8_6659_fd93;
        assert_ne!(fold(1, absorbing), fold(2, absorbing));
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "reference value of splitmix64 for seed 0");
    }

    #[test]
    fn folded_keys_that_differ_little_spread_over_all_bits() {
        let keys: std::collections::BTreeSet<u64> =
            (0..1_000).flat_map(|a| (0..100).map(move |b| fold(a, b << 40 | a >> 3) >> 24)).collect();
        // Of 100,000 in 2^40 places five in a thousand runs meet.
        assert!(keys.len() >= 99_998, "{}", keys.len());
        let ones: u32 = (0..4_096).map(|i| (fold(i, 7) ^ fold(i + 1, 7)).count_ones()).sum();
        assert!((28.0..36.0).contains(&(f64::from(ones) / 4_096.0)), "{ones}");
    }
}
