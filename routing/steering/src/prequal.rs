//! Prequal (Wydrowski, Kleinberg, Rumble, Archer: "Load is not what you should balance", NSDI 2024), to compare with and
//! to choose.
//!
//! A client probes three random instances a request, without waiting for the answers. An answer carries requests in
//! flight (RIF) and the instance's estimate of its latency at that RIF. A pool keeps the last 16. The rule (HCL,
//! hot-cold lexicographic): an instance is *hot* when its RIF reaches the 0.84 quantile of the RIFs heard lately. If all
//! in the pool are hot, fewest in flight wins, else the lowest latency among the cold.
//!
//! Published defaults: pool of 16, three probes, Q_RIF 0.84, probes live a second, one is taken out per request, in turn
//! the oldest and the worst (highest RIF if somebody is hot, else highest latency). An answer may be used
//! `max(1, (1 + δ) / ((1 − m/n) · 3 − 1))` times, δ = 1; where the pool covers so much of the fleet that this has no
//! positive value, as often as it lives. A request sent somewhere counts at once on the answers from there.
//!
//! The instance's side is [`Latencies`]: the median of recent latencies of requests that arrived at about this RIF.

use foretide_predictor::time::Timestamp;
use std::time::Duration;

/// Answers kept, as published.
pub const POOL: usize = 16;
/// Probes sent a request, as published.
pub const PROBES: usize = 3;
/// Quantile of RIF from which on an instance is hot, as published.
pub const HOT_QUANTILE: f64 = 0.84;
/// An answer lives no longer, as published.
const LIFETIME: Duration = Duration::from_secs(1);
/// Net growth of the pool that reuse aims at, as published.
const DELTA: f64 = 1.0;
/// Answers that the quantile is taken of.
const RECENT: usize = 128;
/// RIFs from here on are all alike.
const MOST_RIF: usize = 256;

/// What an instance answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Who.
    pub instance: usize,
    /// Requests in flight there.
    pub in_flight: u32,
    /// Its estimate of the latency of one more, microseconds.
    pub latency_us: f32,
    /// When.
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    answer: Answer,
    uses: u32,
}

/// A client's pool of answers.
#[derive(Clone, Debug)]
pub struct ProbePool {
    held: Vec<Held>,
    room: usize,
    reuse: u32,
    recent: [u16; RECENT],
    heard: usize,
    counts: [u16; MOST_RIF],
    worst_next: bool,
}

impl ProbePool {
    /// Empty, for so many answers, in front of so many instances.
    pub fn new(room: usize, instances: usize) -> Self {
        let room = room.max(2);
        Self {
            held: Vec::with_capacity(room + 1),
            room,
            reuse: uses(room, instances),
            recent: [0; RECENT],
            heard: 0,
            counts: [0; MOST_RIF],
            worst_next: false,
        }
    }

    /// An answer came in; the oldest makes room.
    pub fn hear(&mut self, answer: Answer) {
        let rif = (answer.in_flight as usize).min(MOST_RIF - 1);
        let slot = self.heard % RECENT;
        if self.heard >= RECENT {
            self.counts[usize::from(self.recent[slot])] -= 1;
        }
        self.recent[slot] = rif as u16;
        self.counts[rif] += 1;
        self.heard += 1;
        if self.held.len() >= self.room {
            self.drop_oldest();
        }
        self.held.push(Held { answer, uses: 0 });
    }

    /// Whom a request goes to; `None`: fewer than two answers are left, take anybody. Takes one answer out and counts the
    /// request on those from the chosen one.
    pub fn choose(&mut self, now: Timestamp) -> Option<usize> {
        self.held.retain(|held| now.since(held.answer.at) <= LIFETIME);
        if self.held.len() < 2 {
            return None;
        }
        let hot = self.hot_from();
        let rank = |held: &Held| rank(held, hot);
        let (place, best) = self.held.iter().enumerate().min_by(|a, b| rank(a.1).total_cmp(&rank(b.1)))?;
        let instance = best.answer.instance;
        self.held[place].uses += 1;
        for held in self.held.iter_mut().filter(|held| held.answer.instance == instance) {
            held.answer.in_flight += 1;
        }
        let reuse = self.reuse;
        self.held.retain(|held| held.uses < reuse);
        self.remove_one(hot);
        Some(instance)
    }

    /// In turn the oldest and the worst.
    fn remove_one(&mut self, hot: u32) {
        if self.worst_next {
            let worst = self.held.iter().enumerate().max_by(|a, b| rank(a.1, hot).total_cmp(&rank(b.1, hot)));
            if let Some((place, _)) = worst {
                self.held.remove(place);
            }
        } else {
            self.drop_oldest();
        }
        self.worst_next = !self.worst_next;
    }

    fn drop_oldest(&mut self) {
        // In order of arrival.
        if !self.held.is_empty() {
            self.held.remove(0);
        }
    }

    /// The RIF from which on an instance is hot; an idle one never is.
    fn hot_from(&self) -> u32 {
        let wanted = (HOT_QUANTILE * self.heard.min(RECENT) as f64).ceil() as u32;
        let mut sum = 0;
        let at = self.counts.iter().position(|&count| {
            sum += u32::from(count);
            sum >= wanted
        });
        at.unwrap_or(MOST_RIF).max(1) as u32
    }
}

/// How often an answer may be used by a pool of so many answers in front of so many instances; `u32::MAX`: while it lives.
pub fn uses(room: usize, instances: usize) -> u32 {
    let covered = (room as f64 / instances.max(1) as f64).min(1.0);
    let uses = (1.0 + DELTA) / ((1.0 - covered) * PROBES as f64 - 1.0);
    if uses > 0.0 { uses.max(1.0).round() as u32 } else { u32::MAX }
}

/// Cold ones by latency, then hot ones by requests in flight.
fn rank(held: &Held, hot: u32) -> f64 {
    let Answer { in_flight, latency_us, .. } = held.answer;
    if in_flight >= hot { 1e18 * (1.0 + f64::from(in_flight)) } else { f64::from(latency_us) }
}

/// Levels of RIF that latencies are kept for, and how many each.
const LEVELS: usize = 64;
const KEPT: usize = 8;

/// An instance's own estimate of its latency, by requests in flight.
#[derive(Clone, Debug)]
pub struct Latencies {
    rings: [[f32; KEPT]; LEVELS],
    seen: [u32; LEVELS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { rings: [[0.0; KEPT]; LEVELS], seen: [0; LEVELS] }
    }
}

impl Latencies {
    /// A request that found so many in flight took so long, microseconds.
    pub fn observe(&mut self, in_flight: u32, latency_us: f32) {
        let level = (in_flight as usize).min(LEVELS - 1);
        self.rings[level][self.seen[level] as usize % KEPT] = latency_us;
        self.seen[level] = self.seen[level].wrapping_add(1).max(1);
    }

    /// Median of the latencies at this number in flight, or at the nearest of which any is known; 0 before the first.
    pub fn estimate_us(&self, in_flight: u32) -> f32 {
        let level = (in_flight as usize).min(LEVELS - 1);
        let near = (0..LEVELS).flat_map(|distance| [level.checked_sub(distance), Some(level + distance)]);
        let known = near.flatten().find(|&level| level < LEVELS && self.seen[level] > 0);
        let Some(level) = known else { return 0.0 };
        let count = (self.seen[level] as usize).min(KEPT);
        let mut sorted = self.rings[level];
        sorted[..count].sort_unstable_by(f32::total_cmp);
        sorted[count / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(instance: usize, in_flight: u32, latency_us: f32, ms: u64) -> Answer {
        Answer { instance, in_flight, latency_us, at: Timestamp::from_us(ms * 1_000) }
    }

    #[test]
    fn the_fastest_cold_one_wins_and_else_the_emptiest() {
        let mut pool = ProbePool::new(POOL, 1_000);
        let now = Timestamp::from_us(5_000);
        assert_eq!(pool.choose(now), None);
        // Six of seven have at most 3 in flight: 3 is the 0.84 quantile.
        for (instance, in_flight) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 3), (7, 9)] {
            pool.hear(answer(instance, in_flight, 100.0 - instance as f32, 1));
        }
        assert_eq!(pool.choose(now), Some(2), "the fastest that is not hot");
        let mut hot = ProbePool::new(2, 1_000);
        (0..100).for_each(|_| hot.hear(answer(0, 1, 1.0, 1)));
        hot.hear(answer(1, 9, 1.0, 1));
        hot.hear(answer(2, 8, 50.0, 1));
        assert_eq!(hot.choose(now), Some(2), "all are hot");
    }

    #[test]
    fn answers_wear_out() {
        let mut pool = ProbePool::new(POOL, 20);
        (0..4).for_each(|instance| pool.hear(answer(instance, 0, 1.0, 0)));
        assert!(pool.choose(Timestamp::from_us(900_000)).is_some());
        assert_eq!(pool.choose(Timestamp::from_us(1_100_000)), None);
    }

    #[test]
    fn latency_is_the_median_at_about_this_load() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.estimate_us(3), 0.0);
        for latency in [5.0, 1.0, 900.0] {
            latencies.observe(2, latency);
        }
        latencies.observe(90, 7.0);
        assert_eq!((latencies.estimate_us(0), latencies.estimate_us(2)), (5.0, 5.0));
        assert_eq!(latencies.estimate_us(1_000), 7.0);
    }
}
