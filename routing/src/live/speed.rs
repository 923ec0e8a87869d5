//! How an instance is measured, as scores need it. One writer, the controller; any number of readers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Residual, and the factor made from it together with how much heavy requests yield to light ones here, which is one word
/// because a scan reads both; all as f32 bits. A reader that sees a new residual and an old factor is off by one update.
#[derive(Debug)]
pub(crate) struct Speed {
    residual: AtomicU32,
    /// The factor below, the yielding above.
    measured: AtomicU64,
}

impl Default for Speed {
    fn default() -> Self {
        Self { residual: AtomicU32::new(0), measured: AtomicU64::new(word(1.0, 0.0)) }
    }
}

fn word(slowness: f32, heavy_yields: f32) -> u64 {
    u64::from(heavy_yields.to_bits()) << 32 | u64::from(slowness.to_bits())
}

impl Speed {
    pub(crate) fn residual(&self) -> f32 {
        f32::from_bits(self.residual.load(Relaxed))
    }

    /// Factor and yielding in one word, see [`foretide_steering::four::Loads`].
    #[inline(always)]
    pub(crate) fn measured(&self) -> u64 {
        self.measured.load(Relaxed)
    }

    pub(crate) fn slowness(&self) -> f32 {
        f32::from_bits(self.measured() as u32)
    }

    pub(crate) fn heavy_yields(&self) -> f32 {
        f32::from_bits((self.measured() >> 32) as u32)
    }

    pub(crate) fn set_residual(&self, residual: f32, slowness: f32) {
        self.residual.store(residual.to_bits(), Relaxed);
        self.measured.store(word(slowness, self.heavy_yields()), Relaxed);
    }

    pub(crate) fn set_heavy_yields(&self, heavy_yields: f32) {
        self.measured.store(word(self.slowness(), heavy_yields), Relaxed);
    }
}
