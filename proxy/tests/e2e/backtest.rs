//! `foretide backtest cost`: the README's own commands on real data, and figures that anybody can compute again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::foretide::{printed, run};

/// Rows of each set: enough for several trainings, few enough for an unoptimised build.
const ROWS: &str = "4000";

const KEYS: [&str; 9] = [
    "log_rmse",
    "r2",
    "class_accuracy",
    "heavy_precision",
    "heavy_recall",
    "sum_ratio",
    "wape_100",
    "coverage",
    "worst_window_coverage",
];
const REFERENCES: [&str; 4] = ["global_mean", "route_mean", "shrunk_route_source_ewma", "parameter_key_mean"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// The README's commands on the sets beside the project, as arguments.
fn commands_of_readme() -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(top().join("README.md")).expect("readable");
    let joined = readme.replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| line.strip_prefix("$ foretide backtest cost"));
    let on_sets = commands.filter(|command| command.contains("../shared/data/cost"));
    on_sets.map(|command| command.split_whitespace().map(str::to_owned).collect()).collect()
}

fn last_line(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", printed(output));
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("a line"))
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// log-RMSE and coverage from the predictions alone.
fn recomputed(predictions: &Path) -> (usize, f64, f64) {
    let text = std::fs::read_to_string(predictions).expect("written");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("row,actual,mean,log_mean,lo90,hi90,class,actual_class"));
    let (mut rows, mut squares, mut covered) = (0, 0.0, 0);
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |at: usize| cells[at].parse::<f64>().expect("a number");
        assert!(["light", "medium", "heavy", "huge"].contains(&cells[6]), "{line}");
        rows += 1;
        squares += (number(3) - number(1).ln()).powi(2);
        covered += usize::from(number(4) <= number(1) && number(1) <= number(5));
    }
    (rows, (squares / rows as f64).sqrt(), covered as f64 / rows as f64)
}

#[test]
fn the_readmes_commands_score_real_data_and_the_predictions_prove_it() {
    let commands = commands_of_readme();
    assert_eq!(commands.len(), 4, "one command a set in the README");
    let folder = tempfile::tempdir().expect("a folder");
    for command in commands {
        let data = command.iter().find(|word| word.starts_with("../shared")).expect("names its data");
        if !top().join(data).exists() {
            eprintln!("skipped: {data} is not there");
            continue;
        }
        let predictions = folder.path().join("predictions.csv");
        let page = folder.path().join("page.html");
        let mut arguments = vec!["backtest", "cost"];
        arguments.extend(
            command
                .iter()
                .map(String::as_str)
                .filter(|word| !["--json", "--predictions", "predictions.csv"].contains(word)),
        );
        let (predictions_path, page_path) = (predictions.display().to_string(), page.display().to_string());
        arguments.extend([
            "--rows",
            ROWS,
            "--json",
            "--predictions",
            &predictions_path,
            "--report",
            &page_path,
        ]);
        let figures = last_line(&run(&top(), &arguments));

        for key in KEYS {
            let of_references = REFERENCES.map(|reference| figures["references"][reference].get(key));
            for figure in of_references.into_iter().chain([figures.get(key)]) {
                // Where nothing is ever called heavy, precision has nothing to measure.
                let missing = key == "heavy_precision" && figure == Some(&Value::Null);
                assert!(missing || figure.is_some_and(Value::is_f64), "{data}: {key} in {figures}");
            }
        }
        let (rows, log_rmse, coverage) = recomputed(&predictions);
        assert_eq!(figures["scored_rows"].as_u64(), Some(rows as u64), "{data}");
        assert!(
            (figures["log_rmse"].as_f64().expect("a number") - log_rmse).abs() < 1e-6,
            "{data}: {figures}"
        );
        assert!(
            (figures["coverage"].as_f64().expect("a number") - coverage).abs() < 1e-9,
            "{data}: {figures}"
        );
        let page = std::fs::read_to_string(&page).expect("written");
        assert_eq!(page.matches("<svg").count(), 4, "{data}");
        assert!(!page.contains("http://") || !page.contains("src="), "{data}: the page stands alone");
    }
}

#[test]
fn columns_that_know_the_answer_are_refused_all_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = "start,end,route,n,cost_us,cost_ms\n".to_owned();
    for i in 0..300u64 {
        let (start, cost) = (1_700_000_000_000_000 + i * 10_000, 100 + i * 7919 % 997);
        let _ = writeln!(table, "{start},{},{},{},{cost},{}", start + cost, i % 3, i % 7, cost as f64 / 1e3);
    }
    std::fs::write(folder.path().join("t.csv"), table).expect("written");
    let with = |params: &str, end: &[&str]| {
        let arguments = [
            "backtest", "cost", "--data", "t.csv", "--target", "cost_us", "--time", "start", "--route",
            "route",
        ];
        run(folder.path(), &[&arguments[..], &["--params", params], end].concat())
    };
    let output = with("n,cost_us,cost_ms,end,rout", &["--end", "end"]);
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
    for words in
        ["cost_us: this is the target", "cost_ms: by its name", "end: this is when", "did you mean route?"]
    {
        assert!(printed(&output).contains(words), "{words} in {}", printed(&output));
    }
    let output = with("n,end", &[]);
    assert_eq!(output.status.code(), Some(2), "an end that is not called so: {}", printed(&output));
    let output = with("n", &["--end", "end", "--json"]);
    assert_eq!(last_line(&output)["rows"], 300);
}

#[test]
fn logs_of_all_formats_are_understood_without_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut nginx, mut json, mut envoy) = (String::new(), String::new(), String::new());
    for i in 0..400u64 {
        let (minute, second, rows) = (i / 60, i % 60, 100 * (1 + i * 31 % 9));
        let (ms, who) = (rows / 10 + i % 5, i % 4);
        let at = format!("10:{minute:02}:{second:02}");
        let path = format!("/items/{i}?rows={rows}");
        let status = if i % 100 == 99 { 503 } else { 200 };
        let _ = writeln!(
            nginx,
            "10.0.0.{who} - - [10/Oct/2025:{at} +0000] \"GET {path} HTTP/1.1\" {status} 17 \"-\" \"UA\" {:.3}",
            ms as f64 / 1e3
        );
        let _ = writeln!(
            json,
            "{{\"time\":\"2025-10-10T{at}Z\",\"method\":\"GET\",\"path\":\"{path}\",\"consumer\":\"c{who}\",\
             \"status\":{status},\"duration_ms\":{ms}}}"
        );
        let _ = writeln!(
            envoy,
            "[2025-10-10T{at}.000Z] \"GET {path} HTTP/1.1\" {status} - 0 17 {ms} {ms} \"10.0.0.{who}\" \"UA\" \"i\" \"h\" \"u\""
        );
    }
    for (name, text) in [("nginx", nginx), ("json", json), ("envoy", envoy)] {
        std::fs::write(folder.path().join(name), text + "garbage\n").expect("written");
        let output = run(folder.path(), &["backtest", "cost", "--data", name, "--json"]);
        let figures = last_line(&output);
        assert_eq!((&figures["rows"], &figures["bad_rows"]), (&396.into(), &1.into()), "{name}: {figures}");
        assert_eq!(figures["failed_requests"], 4, "{name}");
        assert_eq!(figures["columns"]["target"], "duration_us", "{name}");
        assert_eq!(figures["columns"]["numbers"][0], "query.rows", "{name}: {figures}");
        assert!(figures["log_rmse"].as_f64().expect("a number") < 0.3, "{name}: rows tell it all: {figures}");
        let output = run(folder.path(), &["backtest", "cost", "--data", name, "--params", "status"]);
        assert!(printed(&output).contains("WARNING: --params status"), "{name}: {}", printed(&output));
    }
}
