//! How unusual an instance is among the instances of its pool.
//!
//! Each instance's residual is the median over its consumers, so one odd consumer cannot denounce it. Its score is
//! `(residual - median) / max(1.4826·MAD, floor)` among the instances (Iglewicz and Hoaglin 1993). The excess is the
//! capacity lost when it works `exp(residual - median)` times slower than its peers, counted from a score of 2 on
//! and in full from 4, plus the share of failures. Known weakness: with two instances both are equally far off.

use crate::id::InstanceId;
use crate::peers::Anomaly;

/// Differences of a tenth in ln latency are everyday: no smaller spread is believed.
const SPREAD_FLOOR: f64 = 0.1;

/// Score at which excess begins to count, and how much further it takes to count in full.
const NOTICE: (f64, f64) = (2.0, 2.0);

/// One instance before it is compared.
pub(super) struct Standing {
    pub(super) instance: InstanceId,
    pub(super) residual: f64,
    pub(super) error_ratio: f64,
    pub(super) consumers: usize,
}

pub(super) fn compare(standings: &[Standing]) -> Vec<Anomaly> {
    let middle = median(standings.iter().map(|standing| standing.residual).collect());
    let deviation = median(standings.iter().map(|standing| (standing.residual - middle).abs()).collect());
    let spread = (1.4826 * deviation).max(SPREAD_FLOOR);
    let anomaly = |standing: &Standing| {
        let beyond = standing.residual - middle;
        let score = beyond / spread;
        let noticed = ((score - NOTICE.0) / NOTICE.1).clamp(0.0, 1.0);
        let slower = noticed * (1.0 - (-beyond.max(0.0)).exp());
        let excess = (slower + standing.error_ratio).clamp(0.0, 1.0);
        let Standing { instance, error_ratio, consumers, .. } = *standing;
        Anomaly { instance, score, excess, error_ratio, consumers }
    };
    standings.iter().map(anomaly).collect()
}

/// Middle value; 0 of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
