//! Logs and tables that somebody has been at: each row is used, or counted with a reason; nothing panics, and what comes
//! out can be backtested.
//!
//! `PROPTEST_CASES=20000 cargo test --release --workspace --test hostile_logs` runs it for longer.

use std::path::Path;

use foretide_conf::parse::parse;
use foretide_predictor::cost::backtest::BacktestRow;
use foretide_workbench::columns::ColumnNames;
use foretide_workbench::dataset::{self, Source};
use foretide_workbench::read::read;
use foretide_workbench::routed;
use proptest::prelude::*;

const CONFIG: &str = "version = 1\n[[routes]]\nname = \"all\"\npool = \"a\"\nconsumer = [\"header:x-tenant\", \"client\"]\n\
    parameters = [\"query:n:number\", \"segment:0:category\", \"content-length\", \"content-type\"]\n\
    [pools.a]\nendpoints = [\"10.0.0.1:80\"]\n";

/// A row of each format, whose `{n}` is a number.
const ROWS: [&str; 5] = [
    r#"10.0.0.9 - ann [10/Oct/2000:20:55:36 +0000] "GET /a/17?n={n}&q=x HTTP/1.1" 200 2326 "-" "UA 5.0" 0.25{n}"#,
    r#"{"time":"2000-10-10T20:55:36.{n}Z","method":"GET","path":"/p?n={n}","status":200,"duration_ms":12.{n},"http_x_tenant":"a"}"#,
    r#"{"time":1{n},"path":"/p?n={n}","measured_ms":{n}.5,"duration_ms":{n},"decision":7,"consumer":"00000000000000ff"}"#,
    r#"[2000-10-10T20:55:36.{n}Z] "POST /v1/items/7?n={n} HTTP/2" 201 - 12 345 {n} 40 "203.0.113.7" "UA" "id" "host:80" "10.0.0.2:80""#,
    "{n},a route,t{n},1.5e{n}",
];

/// A file of ten rows, and then the same with something done to it.
fn mutated() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let odd =
        prop_oneof![any::<u8>(), prop::sample::select(b"\"[]{},:.-+\\ \n\t\r0e9\xff\0TZ/?&=".to_vec()),];
    let edit = (any::<prop::sample::Index>(), odd, 0..7u8);
    (0..ROWS.len(), prop::collection::vec(edit, 0..25)).prop_map(|(which, edits)| {
        let header = if which == 4 { "at,route,tenant,cost\n" } else { "" };
        let rows: Vec<String> = (0..10).map(|n| ROWS[which].replace("{n}", &(n * 37).to_string())).collect();
        let mut bytes = format!("{header}{}\n", rows.join("\n")).into_bytes();
        for (at, byte, what) in edits {
            let at = at.index(bytes.len() + 1);
            match what {
                0 => bytes.truncate(at.max(200)),
                1 => bytes.splice(at..at, [byte; 70]).for_each(drop),
                2 => bytes.insert(at, byte),
                3 => drop(bytes.drain(at..bytes.len().min(at + 9))),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
            }
        }
        (which, bytes)
    })
}

fn sound(rows: &[BacktestRow]) -> Result<(), TestCaseError> {
    prop_assert!(rows.is_sorted_by_key(|row| row.arrival));
    prop_assert!(rows.iter().all(|row| row.label_known_at >= row.arrival));
    prop_assert!(rows.iter().all(|row| row.query.numbers.iter().all(|number| !number.is_nan())));
    Ok(())
}

fn use_file(path: &Path, which: usize) -> Result<(), TestCaseError> {
    if let Ok((table, _)) = read(path, None, None) {
        let cells = |row| (0..table.names().count()).map(move |column| (column, row));
        let bytes: usize = (0..table.rows()).flat_map(cells).map(|(c, r)| table.cell(c, r).len()).sum();
        prop_assert!(bytes <= 100_000, "cells are parts of the file");
    }
    let csv = ColumnNames {
        target: Some("cost".into()),
        route: vec!["route".into()],
        source: Some("tenant".into()),
        time: Some("at".into()),
        ..ColumnNames::default()
    };
    let names = if which == 4 { csv } else { ColumnNames::default() };
    let source = Source { file: path.to_owned(), names, learn_share: 0.6, ..Source::default() };
    match dataset::load(&source) {
        Ok(set) => sound(&set.rows)?,
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    let settings = parse("c.toml", CONFIG).expect("sound").0.routing;
    match routed::load(path, None, None, &settings) {
        Ok(found) => sound(&found.rows)?,
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_does_harm((which, bytes) in mutated()) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &bytes).expect("written");
        use_file(file.path(), which)?;
        // Gzip's magic before what is no gzip.
        std::fs::write(file.path(), [&[0x1f, 0x8b, 8][..], &bytes].concat()).expect("written");
        use_file(file.path(), which)?;
    }
}

#[test]
fn the_untouched_files_are_read() {
    let settings = parse("c.toml", CONFIG).expect("sound").0.routing;
    for row in &ROWS[..4] {
        let text: Vec<String> = (0..10).map(|n| row.replace("{n}", &(n * 37).to_string())).collect();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text.join("\n")).expect("written");
        let found =
            routed::load(file.path(), None, None, &settings).unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!((found.rows.len(), found.bad.count), (10, 0), "{row}: {:?}", found.bad);
        assert_eq!(found.rows.iter().map(|row| row.query.numbers[0]).fold(0.0, f32::max), 333.0, "{row}");
    }
}
