//! A backtest as a page: the table, what it means, and four looks at the predictions.

use foretide_loadtest::page::{Line, Page};
use foretide_loadtest::plane::Plane;

use crate::backtest::{Backtested, Point};
use crate::dataset::Dataset;
use crate::words;

/// Points drawn at most; more only make the page heavy.
const MOST_POINTS: usize = 4_000;
/// Groups of the calibration curve.
const GROUPS: usize = 20;
/// Rows of the moving windows.
const WINDOW: usize = 500;
/// Points of a line over the rows.
const LINE_POINTS: usize = 600;

/// The page.
pub(crate) fn backtest(set: &Dataset, run: &Backtested) -> String {
    let mut page = Page::new(&format!("What does a request cost? {}", set.file));
    page.list(words::facts(set, &run.report).into_iter());
    page.table(&words::HEADS, &words::rows(&run.report));
    page.list(
        words::meaning(&run.report)
            .into_iter()
            .chain(set.warnings.iter().map(|text| format!("WARNING: {text}"))),
    );
    let target = &set.columns.target;
    let across = format!("predicted {target}");
    page.plane(&Plane {
        title: "Predicted and actual cost".into(),
        across: across.clone(),
        up: format!("actual {target}"),
        logarithmic: true,
        points: sample(&run.points).map(|point| (point.mean, point.actual)).collect(),
        lines: vec![diagonal(&run.points)],
    });
    page.plane(&Plane {
        title:
            "Calibration: twentieths of the requests by predicted cost; on the diagonal the totals are right"
                .into(),
        across,
        up: format!("mean actual {target}"),
        logarithmic: true,
        points: Vec::new(),
        lines: vec![
            Line { name: "foretide".into(), points: calibration(&run.points) },
            diagonal(&run.points),
        ],
    });
    page.plane(&Plane {
        title: format!("Share of truths inside the 90 % interval, the last {WINDOW} requests"),
        across: "scored request".into(),
        up: "share".into(),
        lines: vec![
            Line {
                name: "covered".into(),
                points: moving(&run.points, |point| f64::from(u8::from(point.covered))),
            },
            Line { name: "promised".into(), points: vec![(0.0, 0.9), (run.points.len() as f64, 0.9)] },
        ],
        ..Plane::default()
    });
    page.plane(&Plane {
        title: format!("Cost over the last {WINDOW} requests"),
        across: "scored request".into(),
        up: format!("mean {target}"),
        lines: vec![
            Line { name: "actual".into(), points: moving(&run.points, |point| point.actual) },
            Line { name: "predicted".into(), points: moving(&run.points, |point| point.mean) },
        ],
        ..Plane::default()
    });
    page.finish()
}

fn sample(points: &[Point]) -> impl Iterator<Item = &Point> {
    points.iter().step_by(points.len().div_ceil(MOST_POINTS).max(1))
}

fn diagonal(points: &[Point]) -> Line {
    let means = points.iter().map(|point| point.mean);
    let (low, high) =
        means.fold((f64::INFINITY, 0.0_f64), |(low, high), mean| (low.min(mean), high.max(mean)));
    Line { name: "exact".into(), points: vec![(low, low), (high, high)] }
}

/// Mean prediction and mean truth of equal groups by prediction.
fn calibration(points: &[Point]) -> Vec<(f64, f64)> {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    let group = |group: &[&Point]| {
        let mean = |value: fn(&Point) -> f64| {
            group.iter().map(|point| value(point)).sum::<f64>() / group.len() as f64
        };
        (mean(|point| point.mean), mean(|point| point.actual))
    };
    sorted.chunks(points.len().div_ceil(GROUPS).max(1)).map(group).collect()
}

/// Mean of the last [`WINDOW`] values, over the rows.
fn moving(points: &[Point], value: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(points.iter().scan(0.0, |sum, point| {
            *sum += value(point);
            Some(*sum)
        }))
        .collect();
    let window = WINDOW.min(points.len()).max(1);
    let step = points.len().div_ceil(LINE_POINTS).max(1);
    let ends = (window..sums.len()).step_by(step);
    ends.map(|end| (end as f64, (sums[end] - sums[end - window]) / window as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(count: usize) -> Vec<Point> {
        (0..count).map(|i| Point { actual: 2.0 * i as f64, mean: i as f64, covered: i % 10 != 0 }).collect()
    }

    #[test]
    fn windows_move_and_groups_are_equal() {
        let line = moving(&points(2_000), |point| f64::from(u8::from(point.covered)));
        assert!(line.iter().all(|(_, share)| (share - 0.9).abs() < 1e-9) && line.len() <= LINE_POINTS);
        let groups = calibration(&points(2_000));
        assert_eq!(groups.len(), GROUPS);
        assert!(groups.iter().all(|(mean, actual)| (actual - 2.0 * mean).abs() < 1e-9));
        assert!(moving(&[], |point| point.mean).is_empty() && calibration(&[]).is_empty());
    }
}
