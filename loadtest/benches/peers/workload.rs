//! What is asked, and what it costs: `/r/<endpoint>?n=<size>&id=<number>`.
//!
//! work = mean of the endpoint · size / mean size · noise of the number, the last one log-normal with mean 1. A proxy can
//! see endpoint and size; the number says nothing to whoever has not met it.

use std::time::Duration;

use foretide_loadtest::stream;
use foretide_loadtest::traffic::schedule::PlannedRequest;
use http::Method;
use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp1, LogNormal};

/// Mean work (milliseconds at speed 1) and share of each endpoint: an API from lookups to reports, long enough
/// that a few hundred a second are the load, and the machine itself is nearly idle.
const ENDPOINTS: [(f64, f64); 8] = [
    (5.0, 0.35),
    (10.0, 0.25),
    (20.0, 0.15),
    (50.0, 0.10),
    (100.0, 0.08),
    (300.0, 0.04),
    (1_000.0, 0.02),
    (2_500.0, 0.01),
];
/// Sizes go from 10 to 90.
const MEAN_SIZE: f64 = 50.0;
/// Standard deviation of ln work that nothing in a request tells.
const NOISE: f64 = 0.3;
/// Endpoints below this mean, milliseconds, are light.
const LIGHT_BELOW_MS: f64 = 75.0;

/// A window's requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    pub(crate) rate_per_s: f64,
}

impl Workload {
    /// Its requests, in order of time: a Poisson process.
    pub(crate) fn plan(self) -> impl Iterator<Item = PlannedRequest> + Send + 'static {
        let mut rng = stream::named(self.seed, "peers");
        let mut at_s = 0.0;
        std::iter::from_fn(move || {
            let gap: f64 = Exp1.sample(&mut rng);
            at_s += gap / self.rate_per_s;
            if at_s >= self.duration.as_secs_f64() {
                return None;
            }
            let mut left: f64 = rng.random();
            let endpoint = ENDPOINTS.iter().position(|&(_, share)| {
                left -= share;
                left < 0.0
            });
            let (size, id) = (rng.random_range(10..=90), rng.random::<u32>());
            Some(PlannedRequest {
                at: Duration::from_secs_f64(at_s),
                method: Method::GET,
                path_and_query: format!("/r/{}?n={size}&id={id}", endpoint.unwrap_or(0)),
                tenant: String::new(),
            })
        })
    }
}

/// One request's endpoint and work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Its endpoint is a light one.
    pub(crate) light: bool,
    /// At speed 1.
    pub(crate) work: Duration,
}

/// What a path and query ask for; `None`: nothing we know.
pub(crate) fn asked(path_and_query: &str) -> Option<Asked> {
    let rest = path_and_query.strip_prefix("/r/")?;
    let (endpoint, query) = rest.split_once("?n=")?;
    let (size, id) = query.split_once("&id=")?;
    let (mean_ms, _) = *ENDPOINTS.get(endpoint.parse::<usize>().ok()?)?;
    let (size, id): (f64, u64) = (size.parse().ok()?, id.parse().ok()?);
    // Mean 1: the logarithm's is minus half its variance.
    let noise = LogNormal::new(-NOISE * NOISE / 2.0, NOISE).ok()?.sample(&mut stream::named(id, "noise"));
    let work = Duration::from_secs_f64(mean_ms / 1e3 * size / MEAN_SIZE * noise);
    Some(Asked { light: mean_ms < LIGHT_BELOW_MS, work })
}

/// Mean of all requests at speed 1.
pub(crate) fn mean_work() -> Duration {
    Duration::from_secs_f64(ENDPOINTS.iter().map(|(mean_ms, share)| mean_ms * share).sum::<f64>() / 1e3)
}
