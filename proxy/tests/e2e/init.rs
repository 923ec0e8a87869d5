//! From nothing to a served request, and what bad input is answered with.

use std::fs;

use serde_json::Value;

use crate::client::get;
use crate::foretide::{Foretide, printed, run, write_config};
use crate::ports;

#[test]
fn what_init_writes_is_good_and_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &["init"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let file = folder.path().join("foretide.toml");
    let written = fs::read_to_string(&file).expect("init wrote it");
    let output = run(folder.path(), &["validate", "foretide.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(printed(&output).contains("foretide.toml: good"), "{}", printed(&output));

    let first = ports::neighbours(5);
    let mut edited = written.clone();
    for (usual, free) in [
        ("127.0.0.1:8080\"]", "127.0.0.1:0\"]".to_owned()),
        ("listen = \"127.0.0.1:9900\"", "listen = \"127.0.0.1:0\"".to_owned()),
        ("9100-9109", format!("{first}-{}", first + 4)),
    ] {
        assert!(edited.contains(usual), "init no longer writes {usual}:\n{written}");
        edited = edited.replace(usual, &free);
    }
    let foretide = Foretide::with(folder.path(), &edited);
    let answer = get(foretide.proxy, "/search?rows=500");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json().get("hits").is_some(), "not a producer's answer: {}", answer.body);
    let instance =
        answer.headers.get("x-instance").and_then(|value| value.to_str().ok()).expect("says who answered");
    let port: u16 = instance.parse().expect("a port");
    assert!((first..first + 5).contains(&port), "{port} is not of the range {first}-{}", first + 4);
    foretide.stop();
}

#[test]
fn init_overwrites_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("foretide.toml");
    fs::write(&file, "mine").expect("written");
    let output = run(folder.path(), &["init"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert!(printed(&output).contains("foretide.toml"), "says which file: {}", printed(&output));
    assert_eq!(fs::read_to_string(&file).expect("there"), "mine");
    let output = run(folder.path(), &["init", "--full", "all.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let output = run(folder.path(), &["validate", "all.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
}

/// Mistakes of different kinds with their places: (line, column, key).
const BAD: &str = "version = 1\n\
    [server]\n\
    listen = [\"localhost:8080\"]\n\
    drain_timout = \"5s\"\n\
    [[routes]]\n\
    name = \"all\"\n\
    pool = \"wrok\"\n\
    [pools.work]\n\
    endpoints = [\"127.0.0.1:9000\"]\n\
    concurrency = 0\n";
const MISTAKES: [(u64, u64, &str); 4] = [
    (3, 11, "server.listen[0]"),
    (4, 1, "server.drain_timout"),
    (7, 8, "routes[0].pool"),
    (10, 15, "pools.work.concurrency"),
];

#[test]
fn all_mistakes_of_a_file_come_at_once_with_their_places() {
    let folder = tempfile::tempdir().expect("a folder");
    write_config(folder.path(), BAD);
    for arguments in [&["validate", "foretide.toml"][..], &["run", "--config", "foretide.toml"]] {
        let output = run(folder.path(), arguments);
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        for (line, column, key) in MISTAKES {
            assert!(
                text.contains(&format!("foretide.toml:{line}:{column}")),
                "{line}:{column} missing: {text}"
            );
            assert!(text.contains(key), "{key} missing: {text}");
        }
        assert!(text.contains("did you mean `drain_timeout`?"), "no suggestion: {text}");
    }
    assert!(!folder.path().join("foretide-state").exists(), "a bad file must leave no traces");

    let output = run(folder.path(), &["validate", "--json", "foretide.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let places: Vec<_> = findings
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| (f["line"].as_u64(), f["column"].as_u64()))
        .collect();
    for (line, column, key) in MISTAKES {
        assert!(places.contains(&(Some(line), Some(column))), "{key} at {line}:{column} missing: {findings}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["validate", "nowhere.toml"][..], &["run", "--config", "nowhere.toml"]] {
        let output = run(folder.path(), arguments);
        assert!(!output.status.success());
        assert!(printed(&output).contains("nowhere.toml"), "{arguments:?}: {}", printed(&output));
    }
}
