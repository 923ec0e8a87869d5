//! What is sent when: a nonhomogeneous Poisson process over a day's shape and a campaign.
//!
//! `rate(t) = mean · (1 − amplitude · cos(2πt/day)) · campaign(t)`: the day starts at its trough, and its mean is
//! `mean`. Arrivals by thinning (Lewis and Shedler 1979): candidates at the highest rate, each kept with probability
//! `rate(t)/highest`. Arrivals, kinds and parameters draw from streams of their own, so that a change of the mix
//! moves no arrival.
//!
//! Known weakness: requests are independent of each other and of the answers; people who give up or try again are
//! not modelled.

use std::f64::consts::TAU;
use std::time::Duration;

use http::Method;
use rand::RngExt;
use rand_distr::{Distribution, Exp1, StandardNormal, Zipf};
use rand_pcg::Pcg64Mcg;

use crate::stream;

/// No schedule is longer: a week at 8 a second.
pub const MOST_REQUESTS: usize = 5_000_000;

/// A crowd comes and goes over this share of the campaign at each end.
const CAMPAIGN_RAMP: f64 = 0.1;

/// An announced crowd.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Campaign {
    /// From the start of the traffic.
    pub start: Duration,
    /// How long it lasts, ramps included.
    pub duration: Duration,
    /// Rate at its height over the rate without it.
    pub ratio: f64,
}

/// Endpoints of the sample producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/search`.
    Search,
    /// `/report`.
    Report,
    /// `/export`.
    Export,
    /// `/hash`.
    Hash,
    /// `/thumbnail`.
    Thumbnail,
}

/// The shape of generated load.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Seed of all streams.
    pub seed: u64,
    /// How long to send.
    pub duration: Duration,
    /// Mean of a day, requests a second.
    pub rate_per_s: f64,
    /// Length of a day.
    pub day: Duration,
    /// Swing of the day around its mean, 0 to 1.
    pub amplitude: f64,
    /// An announced crowd.
    pub campaign: Option<Campaign>,
    /// Tenants, at least 1; their shares follow Zipf's law.
    pub tenants: u32,
    /// Endpoints with weights; see [`default_mix`].
    pub mix: Vec<(Endpoint, f64)>,
}

/// One request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRequest {
    /// When, from the start.
    pub at: Duration,
    /// Method.
    pub method: Method,
    /// Path and query, starting with `/`.
    pub path_and_query: String,
    /// Value of `x-tenant`; empty: not sent.
    pub tenant: String,
}

/// Mostly light requests, a few heavy ones: what makes prediction worth its while.
pub fn default_mix() -> Vec<(Endpoint, f64)> {
    vec![
        (Endpoint::Search, 0.45),
        (Endpoint::Hash, 0.25),
        (Endpoint::Report, 0.14),
        (Endpoint::Thumbnail, 0.10),
        (Endpoint::Export, 0.06),
    ]
}

impl Shape {
    /// Requests a second at a time from the start.
    pub fn rate_at(&self, at: Duration) -> f64 {
        let t = at.as_secs_f64();
        let day = 1.0 - self.amplitude * (TAU * t / self.day.as_secs_f64()).cos();
        self.rate_per_s * day * self.campaign.map_or(1.0, |campaign| campaign.ratio_at(t))
    }

    fn highest_rate(&self) -> f64 {
        self.rate_per_s
            * (1.0 + self.amplitude)
            * self.campaign.map_or(1.0, |campaign| campaign.ratio.max(1.0))
    }
}

impl Campaign {
    fn ratio_at(&self, t: f64) -> f64 {
        let (into, length) = (t - self.start.as_secs_f64(), self.duration.as_secs_f64());
        let to_edge = into.min(length - into);
        1.0 + (self.ratio - 1.0) * (to_edge / (CAMPAIGN_RAMP * length)).clamp(0.0, 1.0)
    }
}

/// All requests of a shape, in order of time; the same for the same shape, at most [`MOST_REQUESTS`].
pub fn schedule(shape: &Shape) -> Vec<PlannedRequest> {
    arrivals(shape.clone()).collect()
}

/// As [`schedule`], one at a time.
pub fn arrivals(shape: Shape) -> impl Iterator<Item = PlannedRequest> + Send + 'static {
    let mut arrival_rng = stream::named(shape.seed, "arrivals");
    let mut mix_rng = stream::named(shape.seed, "mix");
    let mut parameter_rng = stream::named(shape.seed, "parameters");
    let highest = shape.highest_rate();
    let end_s = shape.duration.as_secs_f64();
    // Zipf needs n >= 1 and s >= 0: both hold here.
    let tenants = Zipf::new(f64::from(shape.tenants.max(1)), 1.0).ok();
    let mut now_s = 0.0;
    let times = std::iter::from_fn(move || {
        loop {
            let gap: f64 = Exp1.sample(&mut arrival_rng);
            now_s += gap / highest;
            // Also ends at once where the rate, and so the gap, is negative or no number.
            if !(0.0..end_s).contains(&now_s) {
                return None;
            }
            let at = Duration::from_secs_f64(now_s);
            if arrival_rng.random::<f64>() * highest < shape.rate_at(at) {
                return Some((at, endpoint(&shape.mix, mix_rng.random())));
            }
        }
    });
    let plan = times.map(move |(at, endpoint)| PlannedRequest {
        at,
        method: Method::GET,
        path_and_query: endpoint.path(&mut parameter_rng),
        tenant: format!("tenant-{}", tenants.as_ref().map_or(1.0, |zipf| zipf.sample(&mut parameter_rng))),
    });
    plan.take(MOST_REQUESTS)
}

/// A path of a mix.
pub(crate) fn any_path(
    mix: &[(Endpoint, f64)],
    mix_rng: &mut Pcg64Mcg,
    parameter_rng: &mut Pcg64Mcg,
) -> String {
    endpoint(mix, mix_rng.random()).path(parameter_rng)
}

/// The endpoint at a point of the mix, `at` from 0 to 1.
fn endpoint(mix: &[(Endpoint, f64)], at: f64) -> Endpoint {
    let mut left = at * mix.iter().map(|(_, weight)| weight).sum::<f64>();
    for (endpoint, weight) in mix {
        left -= weight;
        if left < 0.0 {
            return *endpoint;
        }
    }
    mix.last().map_or(Endpoint::Search, |(endpoint, _)| *endpoint)
}

impl Endpoint {
    /// A path with parameters drawn log-normally: many small, few large.
    fn path(self, rng: &mut Pcg64Mcg) -> String {
        const WORDS: [&str; 4] = ["reef", "tide", "harbour", "zephyr"];
        let mut size = |median: f64, sigma: f64, most: f64| {
            let normal: f64 = StandardNormal.sample(rng);
            (median * (sigma * normal).exp()).clamp(1.0, most).round() as u64
        };
        match self {
            Self::Search => {
                let rows = size(1_500.0, 1.1, 40_000.0);
                format!("/search?rows={rows}&q={}", WORDS[rng.random_range(0..WORDS.len())])
            }
            Self::Report => format!("/report?rows={}", size(5_000.0, 0.9, 40_000.0)),
            Self::Export => format!("/export?kb={}", size(150.0, 0.9, 2_000.0)),
            Self::Hash => format!("/hash?n={}", size(6_000.0, 1.0, 300_000.0)),
            Self::Thumbnail => format!("/thumbnail?size={}", size(120.0, 0.6, 640.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(seed: u64) -> Shape {
        Shape {
            seed,
            duration: Duration::from_secs(200),
            rate_per_s: 50.0,
            day: Duration::from_secs(20),
            amplitude: 0.8,
            campaign: None,
            tenants: 20,
            mix: default_mix(),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_one_another() {
        assert_eq!(schedule(&shape(1)), schedule(&shape(1)));
        assert_ne!(schedule(&shape(1))[..100], schedule(&shape(2))[..100]);
    }

    #[test]
    fn mean_rate_and_daily_shape_are_as_asked() {
        let plan = schedule(&shape(3));
        // 10,000 expected; a Poisson count is within 4 standard deviations, 400, but once in 16,000 seeds.
        assert!((9_600..10_400).contains(&plan.len()), "{}", plan.len());
        assert!(plan.is_sorted_by_key(|request| request.at));
        let by_day = |request: &&PlannedRequest| request.at.as_secs_f64() % 20.0 / 20.0;
        let noon = plan.iter().filter(|request| (0.25..0.75).contains(&by_day(request))).count() as f64;
        let share = noon / plan.len() as f64;
        // 1/2 + amplitude/pi of a day's requests fall into the half around its height.
        assert!((share - 0.755).abs() < 0.02, "{share}");
    }

    #[test]
    fn a_campaign_multiplies_the_rate_while_it_lasts() {
        let (start, duration) = (Duration::from_secs(50), Duration::from_secs(100));
        let campaign = Campaign { start, duration, ratio: 3.0 };
        let flat = Shape { amplitude: 0.0, campaign: Some(campaign), ..shape(4) };
        assert_eq!(flat.rate_at(Duration::from_secs(49)), 50.0);
        assert_eq!(flat.rate_at(Duration::from_secs(55)), 100.0);
        assert_eq!(flat.rate_at(Duration::from_secs(100)), 150.0);
        assert_eq!(flat.rate_at(Duration::from_secs(151)), 50.0);
        // 50 · (200 + 2 · 90) requests.
        assert!((18_450..19_550).contains(&schedule(&flat).len()));
    }

    #[test]
    fn changing_the_mix_moves_no_arrival() {
        let other = Shape { mix: vec![(Endpoint::Hash, 1.0)], ..shape(5) };
        let (before, after) = (schedule(&shape(5)), schedule(&other));
        assert!(after.iter().all(|request| request.path_and_query.starts_with("/hash?n=")));
        assert!(before.iter().map(|r| r.at).eq(after.iter().map(|r| r.at)));
    }

    #[test]
    fn a_rate_of_nothing_or_nonsense_sends_nothing() {
        for rate_per_s in [0.0, -1.0, f64::NAN] {
            assert!(schedule(&Shape { rate_per_s, ..shape(6) }).is_empty(), "{rate_per_s}");
        }
    }
}
