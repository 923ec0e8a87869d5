//! Chance without a system call: a counter through a mixer, seeded once.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use foretide_predictor::hash;

/// Ids and random bits of this process.
#[derive(Debug)]
pub(super) struct Chance {
    seed: u64,
    drawn: AtomicU64,
}

/// What one draw gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// Counts up from 1, unique in this process.
    pub(super) id: u64,
    /// 64 random bits.
    pub(super) bits: u64,
}

impl Chance {
    /// Seeded by the operating system, through the standard library's hasher keys.
    pub(super) fn new() -> Self {
        Self { seed: RandomState::new().hash_one("foretide"), drawn: AtomicU64::new(0) }
    }

    /// The next id with its random bits.
    pub(super) fn draw(&self) -> Draw {
        let id = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
        Draw { id, bits: hash::mix(self.seed ^ hash::mix(id)) }
    }

    /// 128 random bits as 32 hexadecimal digits, unique with the certainty of a random UUID.
    pub(super) fn hex(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let draw = self.draw();
        let bits = u128::from(draw.bits) << 64 | u128::from(hash::mix(draw.bits ^ self.seed.rotate_left(32)));
        std::array::from_fn(|at| DIGITS[(bits >> (124 - 4 * at)) as usize & 15])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_and_bits_do_not_repeat() {
        let chance = Chance::new();
        let names: BTreeSet<[u8; 32]> = (0..10_000).map(|_| chance.hex()).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.iter().all(u8::is_ascii_hexdigit)));
        assert_ne!(Chance::new().draw().bits, Chance::new().draw().bits, "two processes share no stream");
    }
}
