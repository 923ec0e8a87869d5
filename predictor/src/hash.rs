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

/// splitmix64's finaliser (Steele, Lea, Flood 2014): spreads a counter or a seed over all 64 bits.
pub const fn mix(value: u64) -> u64 {
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
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "reference value of splitmix64 for seed 0");
    }
}
