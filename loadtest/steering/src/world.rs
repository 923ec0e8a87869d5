//! Who serves, how fast, how disturbed; when requests come; what a predictor says of them.
//!
//! Arrivals, sizes, errors of prediction, disturbances and the policies' own chance are drawn from streams of their own,
//! so all policies meet the same arrivals and the same disturbances, and a policy that draws more moves nothing else.

use crate::sizes::Sizes;
use foretide_loadtest::stream;
use foretide_steering::score::Form;
use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp1, StandardNormal};

/// Instances that are slow now and then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// Speed while slow, as a share of the usual.
    pub factor: f64,
    /// Mean span of a slow period, seconds; exponential.
    pub slow_s: f64,
    /// Mean span between two, seconds; exponential.
    pub fast_s: f64,
}

/// Instances that are replaced in turn by new, cold ones; the old one finishes what it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replacement {
    /// One of the fleet so often, seconds.
    pub every_s: f64,
    /// Speed while cold, as a share of the usual.
    pub factor: f64,
    /// How long it is cold, seconds.
    pub cold_s: f64,
}

/// Times of more arrivals than usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Rate during a burst over the rate outside.
    pub ratio: f64,
    /// A burst begins so often, seconds.
    pub every_s: f64,
    /// And lasts so long, seconds.
    pub length_s: f64,
}

/// A world.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// How instances serve.
    pub form: Form,
    /// Requests each serves at full speed at once.
    pub slots: usize,
    /// Their speeds; 1 serves work in its nominal time.
    pub speeds: Vec<f64>,
    /// Slow periods.
    pub disturbance: Option<Disturbance>,
    /// Cold starts.
    pub replacement: Option<Replacement>,
    /// Work of a request.
    pub sizes: Sizes,
    /// Work arriving over mean effective capacity.
    pub load: f64,
    /// Bursts; the mean load stays.
    pub burst: Option<Burst>,
    /// Balancers, each of which sees a random share of the requests.
    pub balancers: usize,
    /// One way between balancer and instance, milliseconds.
    pub delay_ms: f64,
    /// Share of requests whose first try an instance refuses; they are tried again elsewhere.
    pub refusals: f64,
    /// Within which an answer is worth something, milliseconds.
    pub objective_ms: f64,
    /// Requests.
    pub requests: usize,
    /// Of all streams.
    pub seed: u64,
}

/// Speeds of the fleet, repeated.
const SPEEDS: [f64; 4] = [0.6, 1.0, 1.0, 1.6];
/// Its instances.
const INSTANCES: usize = 20;
/// Nobody waits for an answer longer than a second.
const OBJECTIVE_MS: f64 = 1_000.0;

impl World {
    /// The fleet of the targets: 20 instances of speeds 0.6, 1, 1, 1.6, normalised to mean 1, each slowed down to 0.4× for a
    /// fifth of the time, one core under processor sharing and four FIFO workers in a pool.
    pub fn unequal(form: Form, sizes: Sizes, balancers: usize, load: f64) -> Self {
        let mean = SPEEDS.iter().sum::<f64>() / SPEEDS.len() as f64;
        Self {
            form,
            slots: if form == Form::WorkerPool { 4 } else { 1 },
            speeds: (0..INSTANCES).map(|index| SPEEDS[index % SPEEDS.len()] / mean).collect(),
            disturbance: Some(Disturbance { factor: 0.4, slow_s: 1.0, fast_s: 4.0 }),
            replacement: None,
            sizes,
            load,
            burst: None,
            balancers,
            delay_ms: 0.0,
            refusals: 0.0,
            objective_ms: OBJECTIVE_MS,
            requests: 200_000,
            seed: 1,
        }
    }

    /// Equal instances that nothing disturbs.
    pub fn quiet(form: Form, sizes: Sizes, balancers: usize, load: f64) -> Self {
        let world = Self::unequal(form, sizes, balancers, load);
        Self { speeds: vec![1.0; world.speeds.len()], disturbance: None, ..world }
    }

    /// With so many requests and this seed.
    #[must_use]
    pub fn with(self, requests: usize, seed: u64) -> Self {
        Self { requests, seed, ..self }
    }

    /// Requests a second.
    pub fn rate_per_s(&self) -> f64 {
        let slots = self.slots as f64;
        let slowed =
            self.disturbance.map_or(1.0, |d| (d.fast_s + d.factor * d.slow_s) / (d.fast_s + d.slow_s));
        // So many instances are cold at any time.
        let cold = self.replacement.map_or(0.0, |r| r.cold_s / r.every_s * (1.0 - r.factor));
        let warm = (1.0 - cold / self.speeds.len() as f64).max(0.0);
        let capacity = self.speeds.iter().sum::<f64>() * slots * slowed * warm;
        self.load * capacity * 1e3 / self.sizes.mean_ms()
    }

    /// Requests in order of arrival.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let mut times = stream::named(self.seed, "arrivals");
        let mut sizes = stream::named(self.seed, "sizes");
        let mut others = stream::named(self.seed, "other sizes");
        let mut errors = stream::named(self.seed, "errors");
        let mut doors = stream::named(self.seed, "balancers");
        let mean_rate = self.rate_per_s() / 1e6;
        let mut at_us = 0.0;
        let draw = |_| {
            let gap: f64 = Exp1.sample(&mut times);
            at_us += gap / (mean_rate * self.intensity(at_us));
            Arrival {
                at_us,
                work_us: 1e3 * self.sizes.draw_ms(&mut sizes),
                balancer: doors.random_range(0..self.balancers.max(1)),
                refused_once: doors.random::<f64>() < self.refusals,
                error: StandardNormal.sample(&mut errors),
                other_us: 1e3 * self.sizes.draw_ms(&mut others),
            }
        };
        (0..self.requests).map(draw).collect()
    }

    /// Rate over the mean rate. A burst's rate holds until the next arrival, which is soon.
    fn intensity(&self, at_us: f64) -> f64 {
        let Some(Burst { ratio, every_s, length_s }) = self.burst else { return 1.0 };
        let usual = every_s / (every_s - length_s + ratio * length_s);
        if (at_us / 1e6) % every_s < length_s { usual * ratio } else { usual }
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When, microseconds.
    pub at_us: f64,
    /// Its work at speed 1, microseconds.
    pub work_us: f64,
    /// Whom it asks.
    pub balancer: usize,
    /// Whether its first try is refused.
    pub refused_once: bool,
    /// A standard normal for predictors that err.
    pub error: f64,
    /// Another request's work, for predictors that know nothing.
    pub other_us: f64,
}

/// What a balancer is told about a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Predictor {
    /// The truth times a log-normal error of this sigma and mean 1.
    LogError(f64),
    /// The same for all.
    Constant,
    /// The work of some other request.
    Random,
    /// Ten times too much or too little, by chance.
    TenTimes,
}

impl Predictor {
    /// The prediction for a request, microseconds.
    pub fn guess_us(self, arrival: &Arrival) -> f64 {
        match self {
            Self::LogError(sigma) => arrival.work_us * (sigma * arrival.error - sigma * sigma / 2.0).exp(),
            Self::Constant => 5_000.0,
            Self::Random => arrival.other_us,
            Self::TenTimes => arrival.work_us * if arrival.error > 0.0 { 10.0 } else { 0.1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_bring_the_load_they_promise_also_in_bursts() {
        let seed = 5;
        println!("seed {seed}");
        let world = World::unequal(Form::WorkerPool, Sizes::Exponential(5.0), 3, 0.8).with(200_000, seed);
        let burst = Some(Burst { ratio: 3.0, every_s: 1.0, length_s: 0.2 });
        for world in [world.clone(), World { burst, ..world }] {
            let arrivals = world.arrivals();
            let work_us: f64 = arrivals.iter().map(|arrival| arrival.work_us).sum();
            // 20 instances of four workers, slowed down to 0.88 on average.
            let capacity_us = 20.0 * 4.0 * 0.88 * arrivals.last().expect("arrivals").at_us;
            assert!((work_us / capacity_us / 0.8 - 1.0).abs() < 0.02, "{}", work_us / capacity_us);
            assert!(arrivals.iter().all(|arrival| arrival.balancer < 3));
        }
    }

    #[test]
    fn predictors_are_as_good_as_they_say() {
        let world = World::quiet(Form::ProcessorSharing, Sizes::Api, 1, 0.5).with(100_000, 7);
        let arrivals = world.arrivals();
        let spread = |predictor: Predictor| {
            let logs = arrivals.iter().map(|arrival| (predictor.guess_us(arrival) / arrival.work_us).ln());
            (logs.map(|log| log * log).sum::<f64>() / arrivals.len() as f64).sqrt()
        };
        assert!((spread(Predictor::LogError(0.6)) - (0.36f64 + 0.18 * 0.18).sqrt()).abs() < 0.01);
        assert!((spread(Predictor::TenTimes) - 10f64.ln()).abs() < 1e-6);
        assert!(spread(Predictor::Random) > 1.5 && spread(Predictor::Constant) > 1.5);
    }
}
