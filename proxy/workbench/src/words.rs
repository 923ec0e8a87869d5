//! A backtest in words: the table, and what it means for whoever has to decide.

use std::fmt::Write as _;

use foretide_predictor::cost::backtest::BacktestReport;
use foretide_predictor::cost::backtest::scores::Scores;

use crate::dataset::{ColumnFacts, Dataset};

/// Closer than this is called equal.
const SAME: f64 = 0.01;
/// Explained variance below which a cost counts as unpredictable.
const HARDLY: f64 = 0.1;

/// Columns of the table with their heads.
pub(crate) const HEADS: [&str; 11] = [
    "",
    "log-RMSE",
    "ratio",
    "R²",
    "class",
    "heavy prec.",
    "heavy rec.",
    "sum",
    "WAPE 100",
    "covered",
    "worst 500",
];

/// Rows of the table: ours first; ratio: our log-RMSE over theirs, below 1 we are better.
pub(crate) fn rows(report: &BacktestReport) -> Vec<Vec<String>> {
    let ours = report.ours.log_rmse;
    let row = |name: &str, scores: &Scores| {
        let cell = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
        let ratio =
            ours.zip(scores.log_rmse).filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs);
        let values = [
            scores.log_rmse,
            ratio,
            scores.r2_log,
            scores.class_accuracy,
            scores.heavy_precision,
            scores.heavy_recall,
            scores.sum_ratio,
            scores.wape_100,
            scores.coverage,
            scores.worst_coverage_500,
        ];
        std::iter::once(name.to_owned()).chain(values.map(cell)).collect()
    };
    let references = report.references.iter().map(|reference| row(&reference.name, &reference.scores));
    std::iter::once(row("foretide", &report.ours)).chain(references).collect()
}

/// Everything that is printed.
pub(crate) fn backtest(set: &Dataset, report: &BacktestReport) -> String {
    let mut text = format!("{}\n", facts(set, report).join("\n"));
    text += "\n";
    text += &aligned(&HEADS, &rows(report));
    text += "\n";
    for line in meaning(report) {
        let _ = writeln!(text, "- {line}");
    }
    for warning in &set.warnings {
        let _ = writeln!(text, "WARNING: {warning}");
    }
    text
}

/// What was read.
pub(crate) fn facts(set: &Dataset, report: &BacktestReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} requests, learned from the first {}, scored on the other {}",
        set.file, report.rows, report.learn_rows, report.ours.rows
    )];
    lines.push(columns(&set.columns));
    if set.bad.count > 0 {
        let first: Vec<String> =
            set.bad.first.iter().map(|(line, why)| format!("line {line}: {why}")).collect();
        lines.push(format!("{} rows left out as bad: {}, …", set.bad.count, first.join("; ")));
    }
    let left_out = [
        (report.unusable_rows, "with a cost of zero or less"),
        (set.failed, "of requests that failed (how long they took is not what they cost)"),
        (set.not_kept, "for want of room"),
    ];
    for (count, why) in left_out.into_iter().filter(|(count, _)| *count > 0) {
        lines.push(format!("{count} rows left out {why}"));
    }
    let [light, medium, heavy] = report.class_borders;
    lines
        .push(format!("classes: light up to {light}, medium up to {medium}, heavy up to {heavy}, then huge"));
    lines
}

fn columns(columns: &ColumnFacts) -> String {
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut text = format!(
        "predicting {} from route {}, source {}, numbers {}, categories {}",
        columns.target,
        list(&columns.route),
        columns.source.as_deref().unwrap_or("none"),
        list(&columns.numbers),
        list(&columns.categories)
    );
    if !columns.unused.is_empty() {
        let _ = write!(text, "; not used: {}", list(&columns.unused));
    }
    text
}

/// What the figures mean, a sentence each.
pub(crate) fn meaning(report: &BacktestReport) -> Vec<String> {
    let mut lines = Vec::new();
    let ours = &report.ours;
    let Some(own) = ours.log_rmse else { return vec!["Nothing was scored.".into()] };
    let named =
        report.references.iter().filter_map(|reference| Some((reference, reference.scores.log_rmse?)));
    if let Some((best, theirs)) = named.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|best| best.1 > 0.0) {
        lines.push(against(&best.name, own / theirs));
    }
    if report.model_share < 0.5 {
        lines.push(format!(
            "The model knows nothing here that running means do not: they answer {:.0} % of the requests. That is the \
             gate at work, not a fault.",
            100.0 * (1.0 - report.model_share)
        ));
    }
    match ours.r2_log {
        Some(explained) if explained < HARDLY => lines.push(format!(
            "These columns hardly tell what a request costs ({:.0} % of the variance of log cost): name more parameters if \
             there are any.",
            100.0 * explained.max(0.0)
        )),
        Some(explained) => {
            lines.push(format!("{:.0} % of the variance of log cost is explained.", 100.0 * explained));
        }
        None => {}
    }
    lines.push(format!("A prediction is off by a factor of {:.2} (root mean square).", own.exp()));
    if let (Some(ratio), Some(wape)) = (ours.sum_ratio, ours.wape_100) {
        lines.push(format!(
            "Totals: {:+.1} % over the whole; over 100 requests, which is what a load score feels, off by {:.1} %.",
            100.0 * (ratio - 1.0),
            100.0 * wape
        ));
    }
    if let (Some(precision), Some(recall)) = (ours.heavy_precision, ours.heavy_recall) {
        lines.push(format!(
            "Of the heaviest fifth it finds {:.0} %, and {:.0} % of those it calls heavy are.",
            100.0 * recall,
            100.0 * precision
        ));
    }
    let histograms =
        report.class_references.iter().filter_map(|reference| Some((reference.accuracy?, &reference.name)));
    if let (Some(own), Some((theirs, name))) =
        (ours.class_accuracy, histograms.max_by(|a, b| a.0.total_cmp(&b.0)))
    {
        lines.push(format!(
            "The class of four is right for {:.1} %; the best histogram (by {name}) reaches {:.1} %.",
            100.0 * own,
            100.0 * theirs
        ));
    }
    lines.extend(ours.coverage.map(|covered| coverage(covered, ours.worst_coverage_500)));
    lines
}

fn against(name: &str, ratio: f64) -> String {
    let percent = 100.0 * (1.0 - ratio).abs();
    if ratio < 1.0 - SAME {
        format!("Better than the best reference ({name}): its log-RMSE is {percent:.1} % lower.")
    } else if ratio > 1.0 + SAME {
        format!("WORSE than the best reference ({name}): its log-RMSE is {percent:.1} % higher.")
    } else {
        format!("As good as the best reference ({name}), not better.")
    }
}

fn coverage(covered: f64, worst: Option<f64>) -> String {
    let verdict = if (0.88..=0.92).contains(&covered) { "as promised" } else { "NOT as promised" };
    let worst =
        worst.map_or(String::new(), |worst| format!("; {:.1} % in the worst 500 in a row", 100.0 * worst));
    format!("The 90 % interval held {:.1} % of the truths, {verdict}{worst}.", 100.0 * covered)
}

/// Columns under their heads: names and what has no head to the left, figures to the right.
pub(crate) fn aligned(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cell = |(column, cell): (usize, &str)| match column {
            0 => format!("{cell:<0$}", widths[0]),
            _ if heads[column].is_empty() => format!("  {cell:<0$}", widths[column]),
            _ => format!("  {cell:>0$}", widths[column]),
        };
        let line: String = cells.enumerate().map(cell).collect();
        line.trim_end().to_owned() + "\n"
    };
    let head = line(&mut heads.iter().copied());
    rows.iter().fold(head, |text, row| text + &line(&mut row.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_said_as_it_is() {
        assert!(against("mean", 0.93).contains("7.0 % lower"));
        assert!(against("mean", 1.005).starts_with("As good"));
        assert!(against("mean", 1.05).starts_with("WORSE"));
        assert!(coverage(0.95, None).contains("NOT as promised"));
    }

    #[test]
    fn tables_line_up() {
        let text = aligned(&["", "R²"], &[vec!["a".into(), "0.1".into()], vec!["long".into(), "–".into()]]);
        assert_eq!(text, "       R²\na     0.1\nlong    –\n");
    }
}
