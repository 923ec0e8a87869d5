//! The table of scores on the real data sets beside the project: prequential, causal, learned on the first 60 % of each.
//!
//! `cargo run --release -p foretide-predictor --example cost_table [-- NAME...]`. With `LEARN_ONLY=1` only the first 60 %
//! of the rows are read and split again 60 : 40, for trying things without looking at what is scored.

use std::path::PathBuf;

use foretide_predictor::cost::backtest::columns::ColumnKinds;
use foretide_predictor::cost::backtest::scores::Scores;
use foretide_predictor::cost::backtest::{BacktestReport, BacktestRow, BacktestSettings, backtest};
use foretide_predictor::time::Timestamp;

/// A data set and the meaning of its columns.
struct Set {
    name: &'static str,
    file: &'static str,
    target: &'static str,
    route: &'static [&'static str],
    source: &'static str,
    parameters: &'static [&'static str],
    start: Option<&'static str>,
    end: Option<&'static str>,
}

const AZURE: Set = Set {
    name: "azure_conv",
    file: "AzureLLMInferenceTrace_conv.csv.gz",
    target: "GeneratedTokens",
    route: &[],
    source: "",
    parameters: &["ContextTokens"],
    start: Some("TIMESTAMP"),
    end: None,
};

const SETS: [Set; 4] = [
    Set {
        name: "selfmeasured",
        file: "selfmeasured_cpu.csv.gz",
        target: "cpu_us",
        route: &["route"],
        source: "tenant",
        parameters: &["limit", "frm", "to", "id", "gz", "body", "h", "w", "n", "q", "body_len"],
        start: None,
        end: None,
    },
    AZURE,
    Set { name: "azure_code", file: "AzureLLMInferenceTrace_code.csv.gz", ..AZURE },
    Set {
        name: "trainticket",
        file: "trainticket_spans.csv.gz",
        target: "dur_us",
        route: &["svc", "op"],
        source: "caller_svc",
        parameters: &["caller_op"],
        start: Some("start_ns"),
        end: Some("end_ns"),
    },
];

/// Microseconds from integer nanoseconds or from `date HH:MM:SS.fraction`; the date only orders days.
fn microseconds(text: &str) -> u64 {
    if let Ok(nanoseconds) = text.parse::<u64>() {
        return nanoseconds / 1_000;
    }
    let (date, time) = text.split_once(' ').expect("date and time");
    let day: u64 = date.rsplit('-').next().expect("a day").parse().expect("a day");
    let mut parts = time.split(':').map(|part| part.parse::<f64>().expect("a number"));
    let seconds = parts.by_ref().fold(0.0, |sum, part| sum * 60.0 + part);
    day * 86_400_000_000 + (seconds * 1e6) as u64
}

fn rows(set: &Set) -> Option<Vec<BacktestRow>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cost").join(set.file);
    let file = std::fs::File::open(path).ok()?;
    let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let headers = reader.headers().expect("a header").clone();
    let at = |name: &str| headers.iter().position(|header| header == name).expect("the column is there");
    let records: Vec<csv::StringRecord> =
        reader.records().map(|record| record.expect("a row of the file")).collect();
    let parameters: Vec<usize> = set.parameters.iter().map(|name| at(name)).collect();
    let mut kinds = ColumnKinds::new(parameters.len());
    for record in &records[..records.len() * 6 / 10] {
        kinds.look(parameters.iter().map(|&column| &record[column]));
    }
    let columns = kinds.decide();
    let row = |(index, record): (usize, &csv::StringRecord)| {
        let route: Vec<&str> = set.route.iter().map(|name| &record[at(name)]).collect();
        let source = if set.source.is_empty() { "" } else { &record[at(set.source)] };
        let values = parameters.iter().map(|&column| &record[column]);
        let arrival = set.start.map_or(index as u64 * 1_000, |name| microseconds(&record[at(name)]));
        let end = set.end.map_or(arrival, |name| microseconds(&record[at(name)]));
        BacktestRow {
            arrival: Timestamp::from_us(arrival),
            label_known_at: Timestamp::from_us(end),
            query: columns.query(&route.join(" "), source, values),
            cost: record[at(set.target)].parse().unwrap_or(f64::NAN),
        }
    };
    let mut rows: Vec<BacktestRow> = records.iter().enumerate().map(row).collect();
    rows.sort_by_key(|row| row.arrival);
    if std::env::var_os("LEARN_ONLY").is_some() {
        rows.truncate(rows.len() * 6 / 10);
    }
    Some(rows)
}

fn line(name: &str, scores: &Scores) {
    let cell = |value: Option<f64>| value.map_or("     -".to_owned(), |value| format!("{value:6.3}"));
    let values = [
        scores.log_rmse,
        scores.r2_log,
        scores.class_accuracy,
        scores.heavy_precision,
        scores.heavy_recall,
        scores.huge_precision,
        scores.huge_recall,
        scores.sum_ratio,
        scores.wape_100,
        scores.coverage,
        scores.worst_coverage_500,
    ];
    println!("  {name:26} {}", values.map(cell).join(" "));
}

fn show(name: &str, report: &BacktestReport) {
    println!(
        "{name}: {} rows, {} scored, {} trained, {} refused, model answers {:.3}",
        report.rows, report.ours.rows, report.trained, report.refused, report.model_share
    );
    println!("  {:26} logRMS   R2    class  heavyP heavyR hugeP  hugeR  sum    WAPE   cover  worst", "");
    line("foretide", &report.ours);
    report.references.iter().for_each(|reference| line(&reference.name, &reference.scores));
    for reference in &report.class_references {
        println!("  class histogram by {:20} {:.3}", reference.name, reference.accuracy.unwrap_or(f64::NAN));
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for set in SETS.iter().filter(|set| wanted.is_empty() || wanted.iter().any(|name| name == set.name)) {
        let Some(rows) = rows(set) else {
            println!("{}: not there, skipped", set.name);
            continue;
        };
        match backtest(&rows, &BacktestSettings::default(), |_| {}) {
            Ok(report) => show(set.name, &report),
            Err(error) => println!("{}: {error}", set.name),
        }
    }
}
