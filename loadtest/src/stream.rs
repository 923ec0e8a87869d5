//! Named random streams from one seed.

use foretide_predictor::hash;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

/// The stream of `seed` for one purpose; streams of different names are independent.
pub fn named(seed: u64, name: &str) -> Pcg64Mcg {
    Pcg64Mcg::seed_from_u64(hash::pair(hash::mix(seed), hash::bytes(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn the_same_name_draws_the_same_and_another_does_not() {
        let draw = |seed, name| named(seed, name).next_u64();
        assert_eq!(draw(1, "arrivals"), draw(1, "arrivals"));
        assert_ne!(draw(1, "arrivals"), draw(1, "sizes"));
        assert_ne!(draw(1, "arrivals"), draw(2, "arrivals"));
    }
}
