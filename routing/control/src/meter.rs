//! How much work arrives: a fast average with its slope for the planner, and closed steps for the history.
//!
//! The hot path only counts what each instance has taken on; the controller reads the counters each tick and spreads
//! the difference evenly over the time since the last tick. Work is *predicted* work, because what arrives now is
//! measured only when it has left.
//!
//! ```text
//! rate  = mean of the last 8 closed bins
//! slope = mean work of a request * least squares of the requests over 16 closed bins, with its standard error
//! ```
//!
//! Why the slope of requests: predicted work per request changes while costs are being learned, which looked like a surge
//! after every first start, and a few heavy requests are no crowd. For the same reason there is no slope before a window
//! has passed since the first request.
//!
//! Known weakness: while a pool has no instance at all nothing is taken on, so its demand reads 0; the floor brings
//! the first instance back. A crowd that comes with heavier requests at the same rate is seen in the rate only.
use foretide_predictor::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// Bins behind the fast average.
const RATE_BINS: usize = 8;
/// Bins kept, for the slope.
const BINS: usize = 16;
/// The fast average looks back this long at most: the planner must see a crowd within seconds, whatever the step.
const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// ... and at least this long: with less, single heavy requests look like crowds.
const SHORTEST_WINDOW: Duration = Duration::from_secs(2);
/// A step counts only if it was watched for this share of its time.
const WATCHED: f64 = 0.9;
/// After a pause of more steps than this the past is a gap, not a load spread thin.
const LONGEST_PAUSE_STEPS: u32 = 8;

/// Work and requests that arrived in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Arrived {
    /// Seconds of service.
    pub(crate) work_s: f64,
    /// Requests.
    pub(crate) requests: f64,
}

impl Arrived {
    fn add_share(&mut self, other: Self, share: f64) {
        self.work_s += other.work_s * share;
        self.requests += other.requests * share;
    }
}

/// Fast average and slope.
#[derive(Debug)]
pub(crate) struct Window {
    bin_us: u64,
    open: Arrived,
    bins: VecDeque<Arrived>,
}

impl Window {
    /// For a history of this step width.
    pub(crate) fn new(step: Duration) -> Self {
        let window = (step * 4).clamp(SHORTEST_WINDOW, LONGEST_WINDOW);
        let bin_us = window.as_micros() as u64 / RATE_BINS as u64;
        Self { bin_us, open: Arrived::default(), bins: VecDeque::with_capacity(BINS) }
    }

    /// What arrived between two ticks.
    pub(crate) fn add(&mut self, from: Timestamp, to: Timestamp, arrived: Arrived) {
        if to.since(from).as_micros() as u64 > self.bin_us * BINS as u64 {
            self.bins.clear();
            self.open = Arrived::default();
            return;
        }
        for piece in split(from, to, self.bin_us) {
            self.open.add_share(arrived, piece.share);
            let begun = !self.bins.is_empty() || self.open.requests > 0.0;
            if piece.closes && begun {
                if self.bins.len() == BINS {
                    self.bins.pop_front();
                }
                self.bins.push_back(std::mem::take(&mut self.open));
            }
        }
    }

    /// Work and requests a second.
    pub(crate) fn rate(&self) -> Arrived {
        let mut sum = Arrived::default();
        let count = self.bins.len().min(RATE_BINS);
        self.bins.iter().rev().take(count).for_each(|bin| sum.add_share(*bin, 1.0));
        let seconds = count as f64 * self.bin_us as f64 / 1e6;
        if count == 0 {
            return sum;
        }
        Arrived { work_s: sum.work_s / seconds, requests: sum.requests / seconds }
    }

    /// Change of the work rate, per second, with its standard error; (0, 0) before the window is full.
    pub(crate) fn slope(&self) -> (f64, f64) {
        let count = self.bins.len();
        let total = self.bins.iter().fold(Arrived::default(), |mut total, bin| {
            total.add_share(*bin, 1.0);
            total
        });
        if count < BINS || total.requests <= 0.0 {
            return (0.0, 0.0);
        }
        let each_s = total.work_s / total.requests;
        let bin_s = self.bin_us as f64 / 1e6;
        let middle = (count as f64 - 1.0) / 2.0;
        let mean = total.requests / count as f64;
        let x = |index: usize| (index as f64 - middle) * bin_s;
        let y = |bin: &Arrived| (bin.requests - mean) / bin_s;
        let xx: f64 = (0..count).map(|index| x(index).powi(2)).sum();
        let xy: f64 = self.bins.iter().enumerate().map(|(index, bin)| x(index) * y(bin)).sum();
        let slope = xy / xx;
        let rest: f64 =
            self.bins.iter().enumerate().map(|(index, bin)| (y(bin) - slope * x(index)).powi(2)).sum();
        (each_s * slope, each_s * (rest / (count as f64 - 2.0) / xx).sqrt())
    }
}

/// A step that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClosedStep {
    /// Its start.
    pub(crate) at: Timestamp,
    /// Work and requests a second.
    pub(crate) rate: Arrived,
    /// Mean number of requests in flight.
    pub(crate) in_flight: f64,
}

/// Sums up the step under way.
#[derive(Debug)]
pub(crate) struct Steps {
    step_us: u64,
    open: Arrived,
    in_flight: f64,
    watched: f64,
}

impl Steps {
    /// Steps of this width, aligned to the epoch.
    pub(crate) fn new(step: Duration) -> Self {
        let step_us = (step.as_micros() as u64).max(1);
        Self { step_us, open: Arrived::default(), in_flight: 0.0, watched: 0.0 }
    }

    /// What arrived between two ticks, and how many were in flight; gives the steps that ended.
    pub(crate) fn add(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        arrived: Arrived,
        in_flight: f64,
    ) -> Vec<ClosedStep> {
        let mut closed = Vec::new();
        if to.since(from).as_micros() as u64 > self.step_us * u64::from(LONGEST_PAUSE_STEPS) {
            *self = Self { step_us: self.step_us, open: Arrived::default(), in_flight: 0.0, watched: 0.0 };
            return closed;
        }
        for piece in split(from, to, self.step_us) {
            self.open.add_share(arrived, piece.share);
            self.in_flight += in_flight * piece.width_us / self.step_us as f64;
            self.watched += piece.width_us / self.step_us as f64;
            if !piece.closes {
                continue;
            }
            if self.watched >= WATCHED {
                let seconds = self.step_us as f64 / 1e6;
                let rate =
                    Arrived { work_s: self.open.work_s / seconds, requests: self.open.requests / seconds };
                let at = Timestamp::from_us(piece.end_us - self.step_us);
                closed.push(ClosedStep { at, rate, in_flight: self.in_flight });
            }
            *self = Self { step_us: self.step_us, open: Arrived::default(), in_flight: 0.0, watched: 0.0 };
        }
        closed
    }
}

/// The part of a span that lies in one cell of an even grid.
struct Piece {
    share: f64,
    width_us: f64,
    end_us: u64,
    closes: bool,
}

fn split(from: Timestamp, to: Timestamp, cell_us: u64) -> impl Iterator<Item = Piece> {
    let whole = to.since(from).as_micros() as f64;
    let mut at = from.as_us();
    std::iter::from_fn(move || {
        if at >= to.as_us() {
            return None;
        }
        let cell_end = (at / cell_us).saturating_add(1).saturating_mul(cell_us);
        let end_us = cell_end.min(to.as_us());
        let width_us = (end_us - at) as f64;
        at = end_us;
        Some(Piece { share: width_us / whole, width_us, end_us, closes: end_us == cell_end })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_us(ms * 1_000)
    }

    fn arrived(work_s: f64) -> Arrived {
        Arrived { work_s, requests: work_s * 10.0 }
    }

    #[test]
    fn work_is_spread_over_the_steps_it_arrived_in() {
        let mut steps = Steps::new(Duration::from_secs(1));
        assert_eq!(steps.add(at(0), at(500), arrived(1.0), 2.0), vec![]);
        let closed = steps.add(at(500), at(1_500), arrived(2.0), 4.0);
        assert_eq!(closed, vec![ClosedStep { at: at(0), rate: arrived(2.0), in_flight: 3.0 }]);
        let closed = steps.add(at(1_500), at(2_000), arrived(1.0), 0.0);
        assert_eq!(closed[0].rate, arrived(2.0));
    }

    #[test]
    fn a_step_watched_in_part_or_slept_through_is_a_gap() {
        let mut steps = Steps::new(Duration::from_secs(1));
        assert_eq!(steps.add(at(300), at(1_000), arrived(1.0), 0.0), vec![]);
        assert_eq!(steps.add(at(1_000), at(60_000), arrived(1.0), 0.0), vec![]);
    }

    #[test]
    fn a_rising_load_has_a_significant_slope_and_a_level_one_has_not() {
        let mut window = Window::new(Duration::from_secs(1));
        for tick in 0..80u64 {
            window.add(at(tick * 100), at(tick * 100 + 100), arrived(0.1 + 0.002 * tick as f64));
        }
        let (slope, error) = window.slope();
        assert!((slope - 0.2).abs() < 0.01 && slope > 10.0 * error, "{slope} ± {error}");
        let mut window = Window::new(Duration::from_secs(1));
        for tick in 0..80u64 {
            window.add(at(tick * 100), at(tick * 100 + 100), arrived(0.1));
        }
        assert!((window.rate().work_s - 1.0).abs() < 1e-9);
        assert!(window.slope().0.abs() < 1e-9);
        // The same requests, of which it is learned that each is heavier.
        for tick in 80..120u64 {
            window.add(at(tick * 100), at(tick * 100 + 100), Arrived { work_s: 0.5, requests: 1.0 });
        }
        assert!(window.rate().work_s > 4.0 && window.slope().0.abs() < 1e-9);
    }
}
