//! Features as small whole numbers: each column is cut at quantiles of its values into at most [`BINS`] bins.
//!
//! A split between two bins is a threshold half-way between their values, so the trees that come out compare the
//! features themselves. Columns with one value only are left out: absent parameters cost a training nothing.

use crate::cost::features::{FEATURES, Features};

/// Bins a column is cut into at most: at 20,000 rows each holds some 300, and histograms of all columns stay in cache.
pub(crate) const BINS: usize = 64;
/// Values looked at to find the quantiles of a column.
const SAMPLED: usize = 4_096;

/// One column of a training set.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Index into the features.
    pub feature: u8,
    /// Upper ends of all bins but the last: bin i holds what is above `edges[i - 1]` and not above `edges[i]`.
    pub edges: Vec<f32>,
    /// Bin of each row.
    pub bins: Vec<u8>,
}

/// Cuts all columns that vary. Every feature must be finite.
pub(crate) fn columns(rows: &[&Features]) -> Vec<Column> {
    let stride = rows.len().div_ceil(SAMPLED).max(1);
    let column = |feature: usize| {
        let mut values: Vec<f32> = rows.iter().step_by(stride).map(|row| row.0[feature]).collect();
        values.sort_unstable_by(f32::total_cmp);
        let edges = edges(&values);
        let cut = |row: &&Features| edges.partition_point(|&edge| edge < row.0[feature]) as u8;
        let bins = if edges.is_empty() { Vec::new() } else { rows.iter().map(cut).collect() };
        Column { feature: feature as u8, edges, bins }
    };
    (0..FEATURES).map(column).filter(|column| !column.edges.is_empty()).collect()
}

/// Borders half-way between values at even ranks of the sorted values; each value that fills a bin alone gets its own.
fn edges(sorted: &[f32]) -> Vec<f32> {
    let mut edges: Vec<f32> = Vec::new();
    for cut in 1..BINS {
        let rank = cut * sorted.len() / BINS;
        let Some(&below) = sorted.get(rank.saturating_sub(1)) else { continue };
        let next = sorted.partition_point(|&value| value <= below);
        let Some(&above) = sorted.get(next) else { break };
        let middle = below + (above - below) / 2.0;
        // Where two neighbouring numbers leave no room between them, the lower one is the border.
        let edge = if middle < above { middle } else { below };
        if edges.last().is_none_or(|&last| last < edge) {
            edges.push(edge);
        }
    }
    // Rare values at the low end would share the first bin with frequent ones: ranks above start at one 64th.
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(value: impl Fn(usize) -> f32) -> Vec<Features> {
        let row = |i| {
            let mut row = Features([0.0; FEATURES]);
            row.0[3] = value(i);
            row
        };
        (0..1_000).map(row).collect()
    }

    #[test]
    fn constant_columns_are_left_out_and_rows_are_spread_evenly() {
        let rows = rows(|i| ((i * 7919) % 1_000) as f32);
        let columns = columns(&rows.iter().collect::<Vec<_>>());
        assert_eq!(columns.len(), 1);
        assert_eq!((columns[0].feature, columns[0].edges.len()), (3, BINS - 1));
        let mut counts = [0; BINS];
        columns[0].bins.iter().for_each(|&bin| counts[usize::from(bin)] += 1);
        assert!(counts.iter().all(|count| (14..=17).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_bin_is_what_the_threshold_says() {
        for rows in [rows(|i| (i % 5) as f32), rows(|i| if i % 10 == 0 { -1.0 } else { (i as f32).exp2() })] {
            let columns = columns(&rows.iter().collect::<Vec<_>>());
            for (row, &bin) in rows.iter().zip(&columns[0].bins) {
                for (edge, &threshold) in columns[0].edges.iter().enumerate() {
                    assert_eq!(row.0[3] > threshold, usize::from(bin) > edge);
                }
            }
        }
    }
}
