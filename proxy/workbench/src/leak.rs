//! Does a column give the answer away?
//!
//! Two tests on the learning part. *Copy*: the column is the target times a power of ten in all rows, or the moment of
//! arrival plus the target: it is the answer, whatever its name. *Suspect*: the rank correlation (Spearman 1904) with the
//! target is above 0.999: no fact known on arrival orders real costs so well. A true and lawful cause can look like this
//! where the data are made up or the target is itself computed from the request; that is for people to say.

/// Above this the column orders requests as the target does.
const SUSPECT: f64 = 0.999;
/// Fewer pairs prove nothing.
const LEAST_PAIRS: usize = 50;
/// Fewer distinct targets prove nothing either: a flag can order three values.
const LEAST_DISTINCT: usize = 10;
/// Share of pairs that may deviate from a copy: damaged rows.
const DEVIANTS: f64 = 0.001;

/// What was found about a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leak {
    /// It is the target in another unit.
    Copy,
    /// It is the moment of arrival plus the target.
    End,
    /// It orders requests as the target does; the rank correlation.
    Suspect(f64),
}

/// One row as it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// Value of the column.
    pub value: f64,
    /// Value of the target.
    pub target: f64,
    /// Moment of arrival, microseconds, and the value read as one; `None` where either is no moment.
    pub moments_us: Option<(f64, f64)>,
}

/// Judges a column by rows of the learning part in which both values are numbers.
pub fn judge(rows: &[Judged]) -> Option<Leak> {
    let mut targets: Vec<f64> = rows.iter().map(|row| row.target).collect();
    targets.sort_unstable_by(f64::total_cmp);
    targets.dedup();
    if rows.len() < LEAST_PAIRS || targets.len() < LEAST_DISTINCT {
        return None;
    }
    if is_copy(rows) {
        return Some(Leak::Copy);
    }
    let after: Option<Vec<(f64, f64)>> =
        rows.iter().map(|row| row.moments_us.map(|(arrival, value)| (value - arrival, row.target))).collect();
    if after.is_some_and(|pairs| rank_correlation(&pairs) > SUSPECT) {
        return Some(Leak::End);
    }
    let pairs: Vec<(f64, f64)> = rows.iter().map(|row| (row.value, row.target)).collect();
    let correlation = rank_correlation(&pairs).abs();
    (correlation > SUSPECT).then_some(Leak::Suspect(correlation))
}

fn is_copy(rows: &[Judged]) -> bool {
    let Some(first) = rows.iter().find(|row| row.target != 0.0 && row.value != 0.0) else { return false };
    let power = (first.value / first.target).log10().round();
    if !power.is_finite() {
        return false;
    }
    let factor = 10f64.powf(power);
    let deviates = |row: &&Judged| (row.value - row.target * factor).abs() > 1e-6 * row.value.abs();
    rows.iter().filter(deviates).count() as f64 <= DEVIANTS * rows.len() as f64
}

/// Spearman's rank correlation; 0 where one side is constant.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let (x, y) = (ranks(pairs.iter().map(|pair| pair.0)), ranks(pairs.iter().map(|pair| pair.1)));
    let middle = (pairs.len() as f64 - 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let spread = (sum(&x, &x) * sum(&y, &y)).sqrt();
    if spread > 0.0 { sum(&x, &y) / spread } else { 0.0 }
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = start as f64 + (run.len() as f64 - 1.0) / 2.0;
        run.iter().for_each(|&at| ranks[at] = rank);
        start += run.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(value: impl Fn(f64, f64) -> f64) -> Vec<Judged> {
        let row = |i: u32| {
            // Golden ratio steps: an even spread without a generator.
            let (a, b) = ((f64::from(i) * 0.618_034).fract(), (f64::from(i) * 0.414_214).fract());
            let target = 10.0 + 1_000.0 * a;
            Judged { value: value(target, b), target, moments_us: None }
        };
        (0..500).map(row).collect()
    }

    #[test]
    fn copies_are_told_from_suspects_and_from_honest_columns() {
        assert_eq!(judge(&rows(|target, _| target)), Some(Leak::Copy));
        assert_eq!(judge(&rows(|target, _| target / 1e3)), Some(Leak::Copy));
        assert!(matches!(judge(&rows(|target, _| -target.ln())), Some(Leak::Suspect(_))));
        assert!(matches!(
            judge(&rows(|target, noise| target.round() + noise / 10.0)),
            Some(Leak::Suspect(_))
        ));
        assert_eq!(judge(&rows(|target, noise| target * (1.0 + noise))), None);
        assert_eq!(judge(&rows(|_, noise| noise)), None);
        assert_eq!(judge(&rows(|_, _| 3.0)), None);
        assert_eq!(judge(&rows(|target, _| target)[..20]), None, "too few to say");
    }

    #[test]
    fn an_end_is_the_arrival_plus_the_target() {
        let mut ends = rows(|target, _| target);
        for (i, row) in ends.iter_mut().enumerate() {
            let arrival = 1e15 + 50.0 * i as f64;
            row.moments_us = Some((arrival, arrival + row.target));
            row.value = arrival + row.target;
        }
        assert_eq!(judge(&ends), Some(Leak::End));
    }

    #[test]
    fn ranks_share_ties() {
        assert_eq!(ranks([5.0, 1.0, 5.0].into_iter()), [1.5, 0.0, 1.5]);
        assert!((rank_correlation(&[(1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]) - 0.5).abs() < 1e-12);
    }
}
