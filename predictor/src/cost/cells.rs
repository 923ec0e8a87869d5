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
//! factor of 100) is drawn in, so who lies about a cost, or is unlucky once, does not own a mean. Where fewer than one label
//! in four lies, the spread stays bounded too.
//! Known weakness: keys with equal tags share a cell (about one key in a million).

use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use serde::{Deserialize, Serialize};
use wide::f32x4;

use crate::cost::approx;
use crate::cost::lanes::{SharedFour, SharedTwo, at_least, at_most, first, towards};
use crate::hash;
use crate::time::Timestamp;

/// Weight of the newest value in the moving average of log cost: about the last ten requests.
const EWMA_RATE: f32 = 0.1;
/// Weight of the newest residual in the spread: about the last thirty requests, as spreads are noisy.
const SPREAD_RATE: f32 = 0.03;
/// Least weight of the newest value in a mean: it reaches back five hundred observations at most, so that it follows drift
/// within minutes of busy traffic.
const MEAN_RATE: f32 = 1.0 / 500.0;
/// Rates of the rest, in its order.
const RATES: f32x4 = f32x4::new([EWMA_RATE, SPREAD_RATE, MEAN_RATE, MEAN_RATE]);
/// Counts stop here; far above what a mean reaches back, far below the integers an f32 cannot count.
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
/// ... unless they are within a factor of 100 of it, which one in ten may be that a cache does not answer.
pub(crate) const LEAST_REACH: f32 = 4.6;
/// A mean cost this many times the newest one is looked at: e to [`LEAST_REACH`].
const FAR: f32 = 100.0;
/// Spread of log cost assumed for a key seen once: a factor of 1.6 either way.
pub(crate) const FIRST_SPREAD: f32 = 0.5;

/// What one cell knows, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CellView {
    /// Observations behind it.
    pub count: f32,
    /// The latest ln(cost in µs).
    pub log_last: f32,
    /// Mean of ln cost, and shares of costs above the three class borders: all that is shrunk towards a parent.
    pub gist: f32x4,
    /// Moving average of ln cost; moving average of |ln cost - mean|; mean cost, µs; mean size of the response, bytes, 0
    /// while none was measured.
    pub rest: f32x4,
    /// Mean of ln cost over what was expected of anybody's request with such parameters; 0 in cells that consumers share.
    pub effect: f32,
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
    /// Whether it was in the second of its two cells: in a table of the same capacity each finds its own again.
    second: bool,
    view: CellView,
}

/// One measured cost, ready to be added to cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    /// ln of it.
    pub log: f32,
    /// µs.
    pub work_us: f32,
    /// 0, then 1 for each class border it is above, else 0: the gist of a cost without its logarithm.
    pub above: f32x4,
    /// ln of it over what was expected of anybody's request with such parameters.
    pub over: f32,
    /// Size of the response, bytes, if it was measured.
    pub bytes: Option<f32>,
    /// When, in ticks.
    pub seen: u32,
}

impl Label {
    /// ln of it, and 1 for each class border it is above.
    pub(crate) fn gist(&self) -> f32x4 {
        self.above + first(self.log)
    }
}

/// Running statistics of one key: a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Cell {
    tag: AtomicU32,
    seen: AtomicU32,
    /// Count, and the latest ln cost.
    counted: SharedTwo,
    gist: SharedFour,
    rest: SharedFour,
    effect: AtomicU32,
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
    /// Mean of ln(cost in µs).
    pub(crate) fn log_mean(&self) -> f32 {
        self.gist.as_array()[0]
    }

    /// Moving average of the same.
    pub(crate) fn log_ewma(&self) -> f32 {
        self.rest.as_array()[0]
    }

    /// Moving average of |ln cost - log_mean|.
    pub(crate) fn spread(&self) -> f32 {
        self.rest.as_array()[1]
    }

    /// Mean cost, µs.
    pub(crate) fn mean_us(&self) -> f32 {
        self.rest.as_array()[2]
    }

    /// Mean size of the response, bytes; 0 while none was measured.
    pub(crate) fn bytes(&self) -> f32 {
        self.rest.as_array()[3]
    }

    fn once(label: &Label) -> Self {
        Self {
            count: 1.0,
            log_last: label.log,
            gist: label.gist(),
            rest: f32x4::new([label.log, FIRST_SPREAD, label.work_us, label.bytes.unwrap_or(0.0)]),
            effect: label.over,
            seen: label.seen,
        }
    }

    /// The same with one more observation.
    #[inline(always)]
    pub(crate) fn with(self, label: &Label) -> Self {
        if self.count < 1.0 {
            return Self::once(label);
        }
        let count = at_most(self.count + 1.0, COUNT_LIMIT);
        let plain = 1.0 / count;
        let reach = at_least(REACH * self.spread(), LEAST_REACH);
        let residual = label.log - self.log_mean();
        let (log, work_us) = if residual.abs() <= reach {
            (label.log, label.work_us)
        } else {
            let log = self.log_mean() + reach.copysign(residual);
            (log, approx::exp(log))
        };
        let residual = log - self.log_mean();
        let rate = at_least(plain, MEAN_RATE);
        let gist = towards(self.gist, label.above + first(log), f32x4::splat(rate));
        let effect = self.effect + rate * (label.over - self.effect);
        // Without a size the mean size goes where it is.
        let bytes = label.bytes.unwrap_or(self.bytes());
        let rates = f32x4::splat(plain).fast_max(RATES);
        let rest = towards(self.rest, f32x4::new([log, residual.abs(), work_us, bytes]), rates);
        let moved = Self { count, log_last: log, gist, rest, effect, seen: label.seen };
        // A mean that lies beyond the reach of its own logs rests on what was believed before more was known.
        let is_far = moved.mean_us() > FAR * work_us;
        let is_first_size = self.bytes() == 0.0 && bytes > 0.0;
        if is_far || is_first_size { moved.corrected(reach, bytes, is_first_size) } else { moved }
    }

    /// With a mean cost that lies within reach of the mean of logs, and a first size as it is.
    #[cold]
    fn corrected(self, reach: f32, first_bytes: f32, is_first_size: bool) -> Self {
        let [log_ewma, spread, mean_us, bytes] = self.rest.to_array();
        let bytes = if is_first_size { first_bytes } else { bytes };
        let is_far = mean_us > FAR * approx::exp(self.log_last);
        let nearer_us = mean_us.min(approx::exp(self.log_mean() + reach));
        let mean_us = if is_far { nearer_us } else { mean_us };
        Self { rest: f32x4::new([log_ewma, spread, mean_us, bytes]), ..self }
    }

    /// Whether every number in it can be reckoned with: where labels can put it, and so far from overflow. A state file may
    /// say anything.
    pub(crate) fn is_sound(&self) -> bool {
        let logs = [self.log_mean(), self.log_ewma(), self.log_last, self.effect];
        let shares = self.gist.to_array()[1..].iter().all(|share| (-0.01..=1.01).contains(share));
        logs.iter().all(|log| (-MOST_LOG..=MOST_LOG).contains(log))
            && shares
            && (0.0..=COUNT_LIMIT).contains(&self.count)
            && (0.0..=MOST_US).contains(&self.mean_us())
            && (0.0..=MOST_LOG).contains(&self.spread())
            && (0.0..=MOST_BYTES).contains(&self.bytes())
    }
}

impl Cell {
    /// What it knows now.
    #[inline(always)]
    pub(crate) fn view(&self) -> CellView {
        let [count, log_last] = self.counted.load();
        let (gist, rest) = (self.gist.load(), self.rest.load());
        CellView { count, log_last, gist, rest, effect: load(&self.effect), seen: self.seen.load(Relaxed) }
    }

    /// Overwrites what it knows. The view must be sound, and one more observation leaves a sound one sound.
    #[inline(always)]
    pub(crate) fn put(&self, view: CellView) {
        self.counted.store([view.count, view.log_last]);
        self.gist.store(view.gist);
        self.rest.store(view.rest);
        store(&self.effect, view.effect);
        self.seen.store(view.seen, Relaxed);
    }

    fn count(&self) -> f32 {
        self.counted.load()[0]
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
    #[inline(always)]
    pub(crate) fn view(&self, tag: Tag) -> CellView {
        for cell in self.choices(tag) {
            if cell.tag.load(Acquire) == tag.0 {
                return cell.view();
            }
        }
        CellView::default()
    }

    /// Adds an observation to a key, if it can get a cell; `label` is told what was known before, and so is the caller.
    #[inline(always)]
    pub(crate) fn observe(&self, tag: Tag, label: impl FnOnce(&CellView) -> Label) -> CellView {
        let choices = self.choices(tag);
        if let Some(own) = choices.iter().find(|cell| cell.tag.load(Relaxed) == tag.0) {
            let before = own.view();
            own.put(before.with(&label(&before)));
            return before;
        }
        let unknown = CellView::default();
        self.claim(choices, tag, &label(&unknown));
        unknown
    }

    /// A key that has no cell yet: takes an empty one, or wears down the weaker of its two.
    fn claim(&self, choices: [&Cell; 2], tag: Tag, label: &Label) {
        if let Some(empty) = choices.iter().find(|cell| cell.tag.load(Relaxed) == 0) {
            return empty.hand_over(tag, CellView::once(label));
        }
        let weaker = if choices[0].count() <= choices[1].count() { choices[0] } else { choices[1] };
        if self.wear_down(weaker, label.seen) < 1.0 {
            weaker.hand_over(tag, CellView::once(label));
        }
    }

    /// Number of cells in use.
    pub(crate) fn occupied(&self) -> usize {
        self.cells.iter().filter(|cell| cell.tag.load(Relaxed) != 0).count()
    }

    /// All cells in use.
    pub(crate) fn snapshot(&self) -> Vec<TaggedCell> {
        let tagged = |cell: &Cell| {
            let tag = Tag(cell.tag.load(Relaxed));
            let second = !std::ptr::eq(self.choices(tag)[0], cell);
            TaggedCell { tag, second, view: cell.view() }
        };
        self.cells.iter().map(tagged).filter(|cell| cell.tag.0 != 0).collect()
    }

    /// Puts cells back where they belong in this capacity; a full pair of cells keeps the more frequent keys.
    pub(crate) fn restore(&self, cells: &[TaggedCell]) {
        for saved in cells.iter().filter(|saved| saved.tag.0 != 0 && saved.view.is_sound()) {
            let [mut a, mut b] = self.choices(saved.tag);
            if saved.second {
                (a, b) = (b, a);
            }
            let free = |cell: &Cell| matches!(cell.tag.load(Relaxed), tag if tag == 0 || tag == saved.tag.0);
            let weaker = if a.count() <= b.count() { a } else { b };
            let target = [a, b].into_iter().find(|cell| free(cell)).unwrap_or(weaker);
            if free(target) || target.count() < saved.view.count {
                target.hand_over(saved.tag, saved.view);
            }
        }
    }

    /// One collision against a cell; what is left of its count.
    fn wear_down(&self, cell: &Cell, now: u32) -> f32 {
        let [count, log_last] = cell.counted.load();
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
        cell.counted.store([left, log_last]);
        left
    }

    fn choices(&self, Tag(tag): Tag) -> [&Cell; 2] {
        // Tags are hashes already; a product's upper bits depend on all of theirs (Fibonacci hashing: Knuth, volume 3).
        let mask = self.cells.len() - 1;
        let other = u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        [&self.cells[tag as usize & mask], &self.cells[other as usize & mask]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(work_us: f32, seen: u32) -> Label {
        Label { log: work_us.ln(), work_us, above: f32x4::ZERO, over: 0.0, bytes: None, seen }
    }

    #[test]
    fn a_cell_averages_what_it_sees() {
        let cells = Cells::new(64);
        for work in [100.0, 100.0, 400.0] {
            cells.observe(Tag::of(7), |_| label(work, 0));
        }
        let view = cells.view(Tag::of(7));
        assert_eq!(view.count, 3.0);
        assert!((view.mean_us() - 200.0).abs() < 0.01);
        assert!((view.log_mean() - (100f32.ln() * 2.0 + 400f32.ln()) / 3.0).abs() < 1e-4);
        assert_eq!(view.log_last, 400f32.ln());
        assert_eq!(cells.view(Tag::of(8)).count, 0.0);
    }

    #[test]
    fn a_frequent_key_survives_a_flood_and_a_forgotten_one_leaves() {
        let cells = Cells::new(64);
        for _ in 0..200 {
            cells.observe(Tag::of(hash::mix(1)), |_| label(10.0, 0));
        }
        for flood in 0..50_000u64 {
            cells.observe(Tag::of(hash::mix(1000 + flood)), |_| label(1.0, 0));
        }
        assert!(cells.view(Tag::of(hash::mix(1))).count > 190.0);
        assert!(cells.occupied() <= 64);
        for flood in 0..50_000u64 {
            cells.observe(Tag::of(hash::mix(90_000 + flood)), |_| label(1.0, STALE_TICKS + 1));
        }
        assert_eq!(cells.view(Tag::of(hash::mix(1))).count, 0.0);
    }

    #[test]
    fn a_snapshot_fits_other_capacities() {
        let cells = Cells::new(256);
        for key in 1..=40u64 {
            cells.observe(Tag::of(hash::mix(key)), |_| label(key as f32, 3));
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
