//! One cell of the peer table: running statistics of a (consumer, instance) pair, or of an instance as a whole.
//!
//! All fields are relaxed atomics: one writer, many readers, no lock. A reader that meets a cell just as it changes
//! hands may see the old owner's factor once; that is one slightly odd choice of an instance, not a fault.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Samples below which a cell says nothing.
pub(super) const ENOUGH: f32 = 5.0;

/// Weight of a new sample once the cell has [`MEMORY`] of them.
const MEMORY: f32 = 10.0;

/// Observations worth of "as expected" that every pair starts with.
const PRIOR: f32 = 5.0;

/// ln(observed / expected) is cut here, a factor of twenty: one stuck request, or one who wishes us ill, does not
/// own the mean.
const RESIDUAL_LIMIT: f32 = 3.0;

/// A producer that fails every request here looks `exp(ERROR_COST)` times slower: enough for the upper clamp.
const ERROR_COST: f32 = 1.4;

/// Smaller ln factors count as none: differences of a tenth in ln latency are everyday (see [`super::anomaly`]), change few
/// choices, and to leave them out spares most consumers all look-ups.
const NOTICEABLE: f32 = 0.1;

/// Seconds after which a cell that hears nothing has lost half its say (a quarter after three times that).
const HALF_SAY_S: f32 = 60.0;

/// What a cell has learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tally {
    /// Running mean of ln(observed / expected).
    pub(super) residual: f32,
    /// Running share of failures.
    pub(super) errors: f32,
    /// Samples, counted up to a bound.
    pub(super) count: f32,
    /// Running mean of |sample - residual|.
    pub(super) spread: f32,
}

impl Tally {
    const EMPTY: Self = Self { residual: 0.0, errors: 0.0, count: 0.0, spread: 0.0 };

    fn learn(self, log_residual: Option<f32>, failed: bool) -> Self {
        let count = (self.count + 1.0).min(1e6);
        let weight = 1.0 / count.min(MEMORY);
        let sample = log_residual.unwrap_or(self.residual).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT);
        let residual = self.residual + weight * (sample - self.residual);
        let failed = f32::from(u8::from(failed));
        Self {
            residual,
            errors: self.errors + weight * (failed - self.errors),
            count,
            spread: self.spread + weight * ((sample - residual).abs() - self.spread),
        }
    }

    /// ln of the factor: shrunk towards 0 by the prior, and by one standard error, so that noise says nothing.
    fn log_factor(self) -> f32 {
        if self.count < ENOUGH {
            return 0.0;
        }
        let trust = self.count / (self.count + PRIOR);
        // 1.25 turns a mean absolute deviation into a standard one; a mean with weight w has 2/w - 1 samples' worth.
        let noise = 1.25 * self.spread / self.count.min(2.0 * MEMORY - 1.0).sqrt();
        let residual = self.residual.signum() * (self.residual.abs() - noise).max(0.0);
        trust * (residual + ERROR_COST * self.errors)
    }
}

/// 40 bytes. `tag` 0: empty.
#[derive(Debug, Default)]
pub(super) struct Cell {
    tag: AtomicU64,
    /// ln of the factor (f32) and the second of the last sample: all the hot path reads.
    say: AtomicU64,
    level: AtomicU64,
    errors: AtomicU64,
    instance: AtomicU32,
    /// Where the table notes this consumer's factors.
    note: AtomicU32,
}

fn pack(high: f32, low: f32) -> u64 {
    u64::from(high.to_bits()) << 32 | u64::from(low.to_bits())
}

fn unpack(both: u64) -> (f32, f32) {
    (f32::from_bits((both >> 32) as u32), f32::from_bits(both as u32))
}

/// Part of its say a cell keeps after `age_s` seconds of silence.
pub(super) fn freshness(age_s: u32) -> f32 {
    HALF_SAY_S / (HALF_SAY_S + age_s as f32)
}

impl Cell {
    pub(super) fn tag(&self) -> u64 {
        self.tag.load(Relaxed)
    }

    pub(super) fn instance(&self) -> u32 {
        self.instance.load(Relaxed)
    }

    pub(super) fn note(&self) -> u32 {
        self.note.load(Relaxed)
    }

    pub(super) fn tally(&self) -> Tally {
        let (residual, count) = unpack(self.level.load(Relaxed));
        let (errors, spread) = unpack(self.errors.load(Relaxed));
        Tally { residual, errors, count, spread }
    }

    /// Second of the last sample.
    pub(super) fn heard_s(&self) -> u32 {
        self.say.load(Relaxed) as u32
    }

    /// ln of the factor, faded by age; 0 where it is too small to matter.
    pub(super) fn log_factor(&self, now_s: u32) -> f32 {
        let say = self.say.load(Relaxed);
        let log = f32::from_bits((say >> 32) as u32) * freshness(now_s.saturating_sub(say as u32));
        if log.abs() < NOTICEABLE { 0.0 } else { log }
    }

    pub(super) fn claim(&self, tag: u64, instance: u32, note: u32) {
        self.clear();
        self.instance.store(instance, Relaxed);
        self.note.store(note, Relaxed);
        self.tag.store(tag, Relaxed);
    }

    pub(super) fn clear(&self) {
        self.tag.store(0, Relaxed);
        self.say.store(0, Relaxed);
        self.store(Tally::EMPTY);
    }

    pub(super) fn learn(&self, log_residual: Option<f32>, failed: bool, now_s: u32) {
        let mut before = self.tally();
        // What is old is also worth less against what is new.
        before.count *= freshness(now_s.saturating_sub(self.heard_s()));
        let after = before.learn(log_residual, failed);
        self.store(after);
        self.say.store(u64::from(after.log_factor().to_bits()) << 32 | u64::from(now_s), Relaxed);
    }

    fn store(&self, tally: Tally) {
        self.level.store(pack(tally.residual, tally.count), Relaxed);
        self.errors.store(pack(tally.errors, tally.spread), Relaxed);
    }
}
