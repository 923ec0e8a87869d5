//! From runs to rows.

use crate::figures::{Figures, Metric, geometric_mean};
use crate::policy::Policy;
use crate::sizes::SIX;
use crate::suite::cells::{ALL, Cells, DISTRIBUTIONS, REACTIVE, SIGMA, SIGMAS, Setting, USELESS};
use crate::suite::{Row, SEEDS};
use crate::world::Predictor;

/// Nothing may be worse than the best single reactive policy by more than that.
const NEVER_WORSE: f64 = 1.02;
/// What a sigma of 1.0 may cost over one of 0.3.
const NOISE_COSTS: f64 = 1.05;

/// A target against the best of some policies.
struct Against {
    setting: Setting,
    metric: Metric,
    /// Against round robin, P2C, least request, peak EWMA; and against those, Prequal and C3.
    targets: [f64; 2],
}

const AGAINST_BEST: [Against; 7] = [
    Against { setting: Setting::SidecarsSharing, metric: Metric::P99, targets: [0.16, 0.65] },
    Against { setting: Setting::SidecarsSharing, metric: Metric::P999, targets: [0.15, 0.62] },
    Against { setting: Setting::SidecarsWorkers, metric: Metric::P99Slowdown, targets: [0.08, 0.40] },
    Against { setting: Setting::GatewaySharing, metric: Metric::Mean, targets: [0.82, 0.82] },
    Against { setting: Setting::GatewaySharing, metric: Metric::P999, targets: [0.62, 0.62] },
    Against { setting: Setting::GatewayWorkers90, metric: Metric::P99Slowdown, targets: [0.11, 0.12] },
    Against { setting: Setting::GatewayWorkers95, metric: Metric::P99Slowdown, targets: [0.06, 0.07] },
];

/// Every row that these runs say something about.
pub fn rows(cells: &Cells, settings: &[Setting], requests: usize) -> Vec<Row> {
    let table = Table { cells, requests };
    let asked = |setting: Setting| settings.contains(&setting);
    let mut rows = Vec::new();
    for Against { setting, metric, targets } in AGAINST_BEST.iter().filter(|row| asked(row.setting)) {
        rows.push(table.against_best(*setting, *metric, ("best reactive", &REACTIVE), targets[0]));
        rows.push(table.against_best(*setting, *metric, ("best of those, Prequal, C3", &ALL), targets[1]));
    }
    if asked(Setting::Overload) {
        rows.extend(table.overload());
    }
    for setting in AGAINST_BEST.iter().map(|row| row.setting).filter(|&setting| asked(setting)) {
        if !rows.iter().any(|row| row.setting == setting.name() && row.against.starts_with("sigma")) {
            rows.extend(table.noise(setting));
            rows.extend(table.useless(setting));
        }
    }
    if asked(Setting::ColdStart) {
        rows.extend(table.cold_start());
    }
    if asked(Setting::Quiet) {
        rows.extend(table.quiet());
    }
    rows
}

struct Table<'a> {
    cells: &'a Cells,
    requests: usize,
}

impl Table<'_> {
    fn figure(&self, setting: Setting, distribution: usize, policy: Policy, metric: Metric) -> f64 {
        self.cells.mean(setting, distribution, policy, |figures: &Figures| figures.get(metric))
    }

    /// A row of ratios below a target.
    fn row(
        &self,
        setting: Setting,
        metric: &str,
        against: String,
        target: f64,
        ratio: impl Fn(usize) -> f64,
    ) -> Row {
        let ratios: Vec<f64> = (0..DISTRIBUTIONS).map(ratio).collect();
        let mean = geometric_mean(ratios.iter().copied());
        Row {
            setting: setting.name().into(),
            metric: metric.into(),
            against,
            ratio: mean,
            target,
            at_least: false,
            met: mean <= target,
            by_distribution: SIX.iter().map(|(name, _)| (*name).to_owned()).zip(ratios).collect(),
            requests: self.requests,
            seeds: SEEDS.into(),
        }
    }

    /// Against the best of some per distribution and metric.
    fn against_best(
        &self,
        setting: Setting,
        metric: Metric,
        (name, them): (&str, &[Policy]),
        target: f64,
    ) -> Row {
        let us = setting.foretide(Predictor::LogError(SIGMA));
        self.row(setting, metric.name(), name.into(), target, |distribution| {
            let theirs = them.iter().map(|&policy| self.figure(setting, distribution, policy, metric));
            self.figure(setting, distribution, us, metric) / theirs.fold(f64::INFINITY, f64::min)
        })
    }

    /// Shares of requests and work within the objective, and of requests refused: arithmetic means.
    fn overload(&self) -> [Row; 3] {
        let setting = Setting::Overload;
        let us = setting.foretide(Predictor::LogError(SIGMA));
        let share = |metric: &str, target: f64, at_least: bool, figure: fn(&Figures) -> f64| {
            let of = |distribution| self.cells.mean(setting, distribution, us, figure);
            let mut row = self.row(setting, metric, "all that arrives".into(), target, of);
            row.ratio = (0..DISTRIBUTIONS).map(of).sum::<f64>() / DISTRIBUTIONS as f64;
            row.at_least = at_least;
            row.met = if at_least { row.ratio >= target } else { row.ratio <= target };
            row
        };
        [
            share("requests within 1 s", 0.97, true, |figures| figures.within),
            share("work within 1 s", 0.83, true, |figures| figures.work_within),
            share("requests refused", 0.03, false, |figures| figures.refused),
        ]
    }

    /// What a noisier predictor costs, on the mean and on what the setting is about.
    fn noise(&self, setting: Setting) -> Vec<Row> {
        let headlines = AGAINST_BEST.iter().filter(|row| row.setting == setting).map(|row| row.metric);
        let metrics = headlines.filter(|&metric| metric != Metric::Mean).chain([Metric::Mean]);
        let [small, large] = SIGMAS.map(|sigma| setting.foretide(Predictor::LogError(sigma)));
        let against = format!("sigma {} instead of {}", SIGMAS[1], SIGMAS[0]);
        let rows = metrics.map(|metric| {
            self.row(setting, metric.name(), against.clone(), NOISE_COSTS, |distribution| {
                self.figure(setting, distribution, large, metric)
                    / self.figure(setting, distribution, small, metric)
            })
        });
        rows.collect()
    }

    /// Predictors that know nothing, against the best single policy.
    fn useless(&self, setting: Setting) -> Vec<Row> {
        let metrics = [Metric::Mean, Metric::P99, Metric::P99Slowdown];
        let mut rows = Vec::new();
        for (name, predictor) in USELESS {
            let us = setting.foretide(predictor);
            for metric in metrics {
                let against = format!("best single policy; predictor: {name}");
                rows.push(self.against_single(setting, us, metric, against));
            }
        }
        rows
    }

    fn against_single(&self, setting: Setting, us: Policy, metric: Metric, against: String) -> Row {
        self.row(setting, metric.name(), against, NEVER_WORSE, |distribution| {
            let mean = |policy: &Policy| self.figure(setting, distribution, *policy, Metric::Mean);
            let best = ALL.into_iter().min_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap_or(ALL[0]);
            self.figure(setting, distribution, us, metric) / self.figure(setting, distribution, best, metric)
        })
    }

    fn cold_start(&self) -> [Row; 2] {
        let setting = Setting::ColdStart;
        let us = setting.foretide(Predictor::LogError(SIGMA));
        [(Metric::Mean, 0.92), (Metric::P999Slowdown, 0.9)].map(|(metric, target)| {
            let against = "least request with linear slow start".into();
            self.row(setting, metric.name(), against, target, |distribution| {
                let them = self.figure(setting, distribution, Policy::LeastRequestSlowStart, metric);
                self.figure(setting, distribution, us, metric) / them
            })
        })
    }

    fn quiet(&self) -> [Row; 3] {
        let us = Setting::Quiet.foretide(Predictor::LogError(SIGMA));
        [Metric::Mean, Metric::P99, Metric::P99Slowdown]
            .map(|metric| self.against_single(Setting::Quiet, us, metric, "best single policy".into()))
    }
}
