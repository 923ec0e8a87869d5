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

/// Spreads a number over all 64 bits by a multiplication both halves of whose result are folded together (as in Wang Yi's
/// wyhash), after another one that breaks up neighbours: half of what [`mix`] takes, for keys that are made for every request.
pub const fn fold(value: u64) -> u64 {
    let spread = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xa076_1d64_78bd_642f;
    let product = spread as u128 * 0xe703_7ed1_a0b4_28db;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_spreads_over_all_places() {
        // Neighbours, and numbers that differ in high bits only, into 4,096 places: about as many twice as by chance.
        for shift in [0, 8, 20, 40, 52] {
            let mut places: Vec<u64> = (0..1_024).map(|i: u64| fold(i << shift) & 4_095).collect();
            places.extend((0..1_024).map(|i: u64| fold(i << shift) >> 52));
            let (low, high) = places.split_at_mut(1_024);
            for half in [low, high] {
                half.sort_unstable();
                let equal = half.windows(2).filter(|pair| pair[0] == pair[1]).count();
                assert!((60..200).contains(&equal), "shift {shift}: {equal} of 1,024, by chance 116");
            }
        }
    }

    #[test]
    fn keys_are_stable_and_order_matters() {
        assert_eq!(bytes(b"tenant-7"), bytes(b"tenant-7"));
        assert_ne!(pair(1, 2), pair(2, 1));
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "reference value of splitmix64 for seed 0");
    }
}
