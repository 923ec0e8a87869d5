//! What requests cost: work in milliseconds on an instance of speed 1.

use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp1, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// A distribution of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// All alike: this many milliseconds.
    Constant(f64),
    /// Exponential of this mean, milliseconds.
    Exponential(f64),
    /// This share of 100 ms, the rest of 1 ms.
    Bimodal(f64),
    /// Bounded Pareto.
    Pareto {
        /// Tail index.
        alpha: f64,
        /// Smallest, milliseconds.
        least: f64,
        /// Largest, milliseconds.
        most: f64,
    },
    /// Log-normal.
    LogNormal {
        /// Mean, milliseconds.
        mean: f64,
        /// Of the logarithm.
        sigma: f64,
    },
    /// Eight endpoints, log-normal inside.
    Api,
}

/// The endpoints of [`Sizes::Api`]: mean in milliseconds, share.
const ENDPOINTS: [(f64, f64); 8] = [
    (0.5, 0.35),
    (1.0, 0.25),
    (2.0, 0.15),
    (5.0, 0.10),
    (10.0, 0.08),
    (30.0, 0.04),
    (100.0, 0.02),
    (300.0, 0.01),
];
/// Spread inside an endpoint.
const ENDPOINT_SIGMA: f64 = 0.5;

/// The six distributions that every target is a geometric mean over, with their names.
pub const SIX: [(&str, Sizes); 6] = [
    ("bimodal", Sizes::Bimodal(0.05)),
    ("bimodal_rare", Sizes::Bimodal(0.005)),
    ("pareto1.5", Sizes::Pareto { alpha: 1.5, least: 2.0, most: 20_000.0 }),
    ("pareto1.2", Sizes::Pareto { alpha: 1.2, least: 1.0, most: 10_000.0 }),
    ("logn1.5", Sizes::LogNormal { mean: 6.0, sigma: 1.5 }),
    ("api", Sizes::Api),
];

impl Sizes {
    /// Mean work, milliseconds.
    pub fn mean_ms(self) -> f64 {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) | Self::LogNormal { mean, .. } => mean,
            Self::Bimodal(heavy) => heavy * 100.0 + (1.0 - heavy),
            Self::Pareto { alpha, least, most } => {
                let ratio = least / most;
                alpha / (alpha - 1.0) * least * (1.0 - ratio.powf(alpha - 1.0)) / (1.0 - ratio.powf(alpha))
            }
            Self::Api => ENDPOINTS.iter().map(|(mean, share)| mean * share).sum(),
        }
    }

    /// Work of one request, milliseconds.
    pub fn draw_ms(self, rng: &mut Pcg64Mcg) -> f64 {
        match self {
            Self::Constant(mean) => mean,
            Self::Exponential(mean) => {
                let unit: f64 = Exp1.sample(rng);
                mean * unit
            }
            Self::Bimodal(heavy) => {
                if rng.random::<f64>() < heavy {
                    100.0
                } else {
                    1.0
                }
            }
            Self::Pareto { alpha, least, most } => {
                let cut = 1.0 - (least / most).powf(alpha);
                least * (1.0 - rng.random::<f64>() * cut).powf(-1.0 / alpha)
            }
            Self::LogNormal { mean, sigma } => lognormal(mean, sigma, rng),
            Self::Api => {
                let mut left = rng.random::<f64>();
                let mean = ENDPOINTS.iter().find(|(_, share)| {
                    left -= share;
                    left < 0.0
                });
                lognormal(mean.unwrap_or(&ENDPOINTS[0]).0, ENDPOINT_SIGMA, rng)
            }
        }
    }
}

fn lognormal(mean: f64, sigma: f64, rng: &mut Pcg64Mcg) -> f64 {
    let normal: f64 = StandardNormal.sample(rng);
    mean * (sigma * normal - sigma * sigma / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_loadtest::stream;

    #[test]
    fn draws_have_the_mean_they_promise() {
        let seed = 4;
        println!("seed {seed}");
        let all = SIX.map(|(_, sizes)| sizes).into_iter();
        for sizes in all.chain([Sizes::Constant(3.0), Sizes::Exponential(3.0)]) {
            let mut rng = stream::named(seed, "sizes");
            let count = 1_000_000;
            let mean = (0..count).map(|_| sizes.draw_ms(&mut rng)).sum::<f64>() / f64::from(count);
            // Tails of index 1.2 converge slowly even when bounded.
            assert!((mean / sizes.mean_ms() - 1.0).abs() < 0.05, "{sizes:?}: {mean} {}", sizes.mean_ms());
        }
    }
}
