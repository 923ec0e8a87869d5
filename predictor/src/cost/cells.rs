//! Bounded store of running statistics per key: who is remembered when there are more keys than room.
//!
//! Each key has two possible cells (derived from its 32-bit tag, so a state file fits any capacity). A key that finds
//! neither its own nor an empty cell wears down the weaker of the two: with probability `0.92^count` that cell loses
//! one observation, and when none is left the newcomer takes over. Frequent keys therefore survive a flood of keys seen
//! once, as in HeavyKeeper (Gong et al., USENIX ATC 2018); a cell nobody asked for in ten minutes is halved instead,
//! so that dead keys leave. A cell is one cache line; 4,096 of them are 256 KiB.
//!
//! One writer, any number of readers, no lock: the fields are relaxed atomics and the tag is published last. A reader
//! that overlaps an update may see some fields before and some after it, which moves one estimate by one observation.
//! One observation moves a cell by a bounded amount: a label further from its mean than [`REACH`] spreads (and than a
//! factor of 12) is drawn in, so who lies about a cost, or is unlucky once, does not own a mean. Where fewer than one label
//! in four lies, the spread stays bounded too.
//! Known weakness: keys with equal tags share a cell (about one key in a million).

use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use serde::{Deserialize, Serialize};

use crate::cost::approx;
use crate::hash;
use crate::time::Timestamp;

/// Weight of the newest value in the moving average of log cost: about the last ten requests.
const EWMA_RATE: f32 = 0.1;
/// Weight of the newest residual in the spread: about the last thirty requests, as spreads are noisy.
const SPREAD_RATE: f32 = 0.03;
/// A mean reaches back this many observations at most, so that it follows drift within minutes of busy traffic.
const MEAN_MEMORY: f32 = 500.0;
/// Counts stop here; far above [`MEAN_MEMORY`], far below the integers an f32 cannot count.
const COUNT_LIMIT: f32 = 1e6;
/// Bounds of sound numbers, beyond those of labels (an hour, a petabyte): ln cost, cost in microseconds, bytes.
const MOST_LOG: f32 = 64.0;
const MOST_US: f32 = 1e10;
const MOST_BYTES: f32 = 1e16;
/// ln of the chance that a collision wears down a cell, per observation it holds (HeavyKeeper's 1/1.08).
const LN_SURVIVAL: f32 = -0.076_961_04;
/// Ticks of 2^16 µs after which a cell counts as forgotten: ten minutes.
const STALE_TICKS: u32 = 9_155;
/// Labels further from the mean than this many spreads are drawn in ...
const REACH: f32 = 4.0;
/// ... unless they are within a factor of 12 of it.
const LEAST_REACH: f32 = 2.5;
/// A mean cost this many times the newest one is looked at: e to [`LEAST_REACH`].
const FAR: f32 = 12.0;
/// Spread of log cost assumed for a key seen once: a factor of 1.6 either way.
pub(crate) const FIRST_SPREAD: f32 = 0.5;

/// What one cell knows, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CellView {
    /// Observations behind it.
    pub count: f32,
    /// Mean of ln(cost in µs).
    pub log_mean: f32,
    /// Moving average of the same.
    pub log_ewma: f32,
    /// The latest of the same.
    pub log_last: f32,
    /// Mean cost, µs.
    pub mean_us: f32,
    /// Moving average of |ln cost - log_mean|.
    pub spread: f32,
    /// Shares of costs above the three class borders.
    pub above: [f32; 3],
    /// Mean size of the response, bytes; 0 while none was measured.
    pub bytes: f32,
    /// When last observed, in ticks.
    pub seen: u32,
}

/// What is left of a key, and where its cell may be: never 0, which marks an empty cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Tag(u32);

/// A cell with its tag, for the state file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaggedCell {
    tag: Tag,
    view: CellView,
}

/// One measured cost, ready to be added to cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// ln of it.
    pub log: f32,
    /// µs.
    pub work_us: f32,
    /// 1 for each class border it is above, else 0.
    pub above: [f32; 3],
    /// Size of the response, bytes, if it was measured.
    pub bytes: Option<f32>,
    /// When, in ticks.
    pub seen: u32,
}

/// Running statistics of one key: a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Cell {
    tag: AtomicU32,
    count: AtomicU32,
    log_mean: AtomicU32,
    log_ewma: AtomicU32,
    log_last: AtomicU32,
    mean_us: AtomicU32,
    spread: AtomicU32,
    above: [AtomicU32; 3],
    bytes: AtomicU32,
    seen: AtomicU32,
}

/// Two-choice table of cells.
#[derive(Debug)]
pub(crate) struct Cells {
    cells: Box<[Cell]>,
    /// Collisions so far: the counter behind the replacement draws.
    collisions: AtomicU32,
}

/// Coarse clock of the cells: 2^16 µs, wrapping after nine years.
pub(crate) fn ticks(now: Timestamp) -> u32 {
    (now.as_us() >> 16) as u32
}

/// Reads an f32 kept in an atomic.
pub(crate) fn load(slot: &AtomicU32) -> f32 {
    f32::from_bits(slot.load(Relaxed))
}

/// Keeps an f32 in an atomic.
pub(crate) fn store(slot: &AtomicU32, value: f32) {
    slot.store(value.to_bits(), Relaxed);
}

impl Tag {
    /// Of a key.
    pub(crate) fn of(key: u64) -> Self {
        Self(((key >> 32) as u32 ^ key as u32).max(1))
    }
}

impl CellView {
    /// The same with one more observation.
    #[inline(always)]
    pub(crate) fn with(self, label: Label) -> Self {
        if self.count < 1.0 {
            return Self {
                count: 1.0,
                log_mean: label.log,
                log_ewma: label.log,
                log_last: label.log,
                mean_us: label.work_us,
                spread: FIRST_SPREAD,
                above: label.above,
                bytes: label.bytes.unwrap_or(0.0),
                seen: label.seen,
            };
        }
        let count = (self.count + 1.0).min(COUNT_LIMIT);
        let plain = 1.0 / count;
        let rate = plain.max(1.0 / MEAN_MEMORY);
        let reach = (REACH * self.spread).max(LEAST_REACH);
        let residual = label.log - self.log_mean;
        let (log, work_us) = if residual.abs() <= reach {
            (label.log, label.work_us)
        } else {
            let log = self.log_mean + reach.copysign(residual);
            (log, approx::exp(log))
        };
        let residual = log - self.log_mean;
        let log_mean = self.log_mean + rate * residual;
        let mean_us = self.mean_us + rate * (work_us - self.mean_us);
        // A mean that lies beyond the reach of its own logs rests on what was believed before more was known.
        let is_far = mean_us > FAR * work_us;
        let mean_us = if is_far { mean_us.min(approx::exp(log_mean + reach)) } else { mean_us };
        let above = std::array::from_fn(|i| self.above[i] + rate * (label.above[i] - self.above[i]));
        let bytes = label.bytes.map_or(self.bytes, |bytes| {
            if self.bytes > 0.0 { self.bytes + rate * (bytes - self.bytes) } else { bytes }
        });
        Self {
            count,
            log_mean,
            log_ewma: self.log_ewma + EWMA_RATE.max(plain) * (log - self.log_ewma),
            log_last: log,
            mean_us,
            spread: self.spread + SPREAD_RATE.max(plain) * (residual.abs() - self.spread),
            above,
            bytes,
            seen: label.seen,
        }
    }

    /// Whether every number in it can be reckoned with: where labels can put it, and so far from overflow. A state file may
    /// say anything.
    pub(crate) fn is_sound(&self) -> bool {
        let logs = [self.log_mean, self.log_ewma, self.log_last];
        let shares = self.above.iter().all(|share| (-0.01..=1.01).contains(share));
        logs.iter().all(|log| (-MOST_LOG..=MOST_LOG).contains(log))
            && shares
            && (0.0..=COUNT_LIMIT).contains(&self.count)
            && (0.0..=MOST_US).contains(&self.mean_us)
            && (0.0..=MOST_LOG).contains(&self.spread)
            && (0.0..=MOST_BYTES).contains(&self.bytes)
    }
}

impl Cell {
    /// What it knows now.
    pub(crate) fn view(&self) -> CellView {
        CellView {
            count: load(&self.count),
            log_mean: load(&self.log_mean),
            log_ewma: load(&self.log_ewma),
            log_last: load(&self.log_last),
            mean_us: load(&self.mean_us),
            spread: load(&self.spread),
            above: [0, 1, 2].map(|i| load(&self.above[i])),
            bytes: load(&self.bytes),
            seen: self.seen.load(Relaxed),
        }
    }

    /// Overwrites what it knows. The view must be sound, and one more observation leaves a sound one sound.
    pub(crate) fn put(&self, view: CellView) {
        store(&self.count, view.count);
        store(&self.log_mean, view.log_mean);
        store(&self.log_ewma, view.log_ewma);
        store(&self.log_last, view.log_last);
        store(&self.mean_us, view.mean_us);
        store(&self.spread, view.spread);
        self.above.iter().zip(view.above).for_each(|(slot, share)| store(slot, share));
        store(&self.bytes, view.bytes);
        self.seen.store(view.seen, Relaxed);
    }

    /// Gives the cell to another key.
    fn hand_over(&self, Tag(tag): Tag, view: CellView) {
        self.tag.store(0, Release);
        self.put(view);
        self.tag.store(tag, Release);
    }
}

impl Cells {
    /// Room for `capacity` keys, rounded up to a power of two, at least 64 and at most 2^20 (32 MiB).
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(64, 1 << 20).next_power_of_two();
        Self { cells: (0..capacity).map(|_| Cell::default()).collect(), collisions: AtomicU32::new(0) }
    }

    /// What is known about a key; a view of count 0 if nothing.
    pub(crate) fn view(&self, tag: Tag) -> CellView {
        for cell in self.choices(tag) {
            if cell.tag.load(Acquire) == tag.0 {
                return cell.view();
            }
        }
        CellView::default()
    }

    /// Adds an observation to a key, if it can get a cell; what was known before.
    pub(crate) fn observe(&self, tag: Tag, label: Label) -> CellView {
        let choices = self.choices(tag);
        if let Some(own) = choices.iter().find(|cell| cell.tag.load(Relaxed) == tag.0) {
            let before = own.view();
            own.put(before.with(label));
            return before;
        }
        let nothing = CellView::default();
        if let Some(empty) = choices.iter().find(|cell| cell.tag.load(Relaxed) == 0) {
            empty.hand_over(tag, nothing.with(label));
            return nothing;
        }
        let weaker = if load(&choices[0].count) <= load(&choices[1].count) { choices[0] } else { choices[1] };
        if self.wear_down(weaker, label.seen) < 1.0 {
            weaker.hand_over(tag, nothing.with(label));
        }
        nothing
    }

    /// Number of cells in use.
    pub(crate) fn occupied(&self) -> usize {
        self.cells.iter().filter(|cell| cell.tag.load(Relaxed) != 0).count()
    }

    /// All cells in use.
    pub(crate) fn snapshot(&self) -> Vec<TaggedCell> {
        let tagged =
            self.cells.iter().map(|cell| TaggedCell { tag: Tag(cell.tag.load(Relaxed)), view: cell.view() });
        tagged.filter(|cell| cell.tag.0 != 0).collect()
    }

    /// Puts cells back where they belong in this capacity; a full pair of cells keeps the more frequent keys.
    pub(crate) fn restore(&self, cells: &[TaggedCell]) {
        for saved in cells.iter().filter(|saved| saved.tag.0 != 0 && saved.view.is_sound()) {
            let [a, b] = self.choices(saved.tag);
            let free = |cell: &Cell| matches!(cell.tag.load(Relaxed), tag if tag == 0 || tag == saved.tag.0);
            let weaker = if load(&a.count) <= load(&b.count) { a } else { b };
            let target = [a, b].into_iter().find(|cell| free(cell)).unwrap_or(weaker);
            if free(target) || load(&target.count) < saved.view.count {
                target.hand_over(saved.tag, saved.view);
            }
        }
    }

    /// One collision against a cell; what is left of its count.
    fn wear_down(&self, cell: &Cell, now: u32) -> f32 {
        let count = load(&cell.count);
        let age = now.wrapping_sub(cell.seen.load(Relaxed));
        // Beyond half the wrap the label is older than the cell: not stale.
        let left = if (STALE_TICKS..u32::MAX / 2).contains(&age) {
            count * 0.5
        } else {
            let draw = hash::mix(u64::from(self.collisions.fetch_add(1, Relaxed)));
            let chance = approx::exp(LN_SURVIVAL * count);
            let hit = (draw >> 40) as f32 / (1u32 << 24) as f32 <= chance;
            if hit { count - 1.0 } else { count }
        };
        store(&cell.count, left);
        left
    }

    fn choices(&self, Tag(tag): Tag) -> [&Cell; 2] {
        let mask = self.cells.len() - 1;
        let spread = hash::mix(u64::from(tag));
        [&self.cells[spread as usize & mask], &self.cells[(spread >> 32) as usize & mask]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(work_us: f32, seen: u32) -> Label {
        Label { log: work_us.ln(), work_us, above: [0.0; 3], bytes: None, seen }
    }

    #[test]
    fn a_cell_averages_what_it_sees() {
        let cells = Cells::new(64);
        for work in [100.0, 100.0, 400.0] {
            cells.observe(Tag::of(7), label(work, 0));
        }
        let view = cells.view(Tag::of(7));
        assert_eq!(view.count, 3.0);
        assert!((view.mean_us - 200.0).abs() < 0.01);
        assert!((view.log_mean - (100f32.ln() * 2.0 + 400f32.ln()) / 3.0).abs() < 1e-4);
        assert_eq!(view.log_last, 400f32.ln());
        assert_eq!(cells.view(Tag::of(8)).count, 0.0);
    }

    #[test]
    fn a_frequent_key_survives_a_flood_and_a_forgotten_one_leaves() {
        let cells = Cells::new(64);
        for _ in 0..200 {
            cells.observe(Tag::of(hash::mix(1)), label(10.0, 0));
        }
        for flood in 0..50_000u64 {
            cells.observe(Tag::of(hash::mix(1000 + flood)), label(1.0, 0));
        }
        assert!(cells.view(Tag::of(hash::mix(1))).count > 190.0);
        assert!(cells.occupied() <= 64);
        for flood in 0..50_000u64 {
            cells.observe(Tag::of(hash::mix(90_000 + flood)), label(1.0, STALE_TICKS + 1));
        }
        assert_eq!(cells.view(Tag::of(hash::mix(1))).count, 0.0);
    }

    #[test]
    fn a_snapshot_fits_other_capacities() {
        let cells = Cells::new(256);
        for key in 1..=40u64 {
            cells.observe(Tag::of(hash::mix(key)), label(key as f32, 3));
        }
        let larger = Cells::new(1024);
        larger.restore(&cells.snapshot());
        for key in 1..=40u64 {
            assert_eq!(larger.view(Tag::of(hash::mix(key))), cells.view(Tag::of(hash::mix(key))));
        }
        let smaller = Cells::new(64);
        smaller.restore(&cells.snapshot());
        assert!(smaller.occupied() > 30);
    }
}
