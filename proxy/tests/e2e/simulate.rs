//! `foretide simulate`: the same seed, the same digest; another seed, another.

use std::path::Path;

use serde_json::Value;

use crate::foretide::{printed, run};
use crate::turn;

/// The shipped campaign in a quarter of its time: unoptimised, the whole of it takes a minute.
fn short_campaign(folder: &Path) {
    let shown = run(folder, &["simulate", "campaign", "--show"]);
    let mut text = String::from_utf8(shown.stdout).expect("text");
    for (usual, short) in
        [("duration = \"6m\"", "duration = \"90s\""), ("start = \"4m20s\"", "start = \"65s\"")]
    {
        assert!(text.contains(usual), "the scenario no longer says {usual}:\n{text}");
        text = text.replace(usual, short);
    }
    std::fs::write(folder.join("short.toml"), text).expect("written");
}

fn digests(folder: &Path, arguments: &[&str]) -> Vec<(String, String)> {
    let output = run(folder, &[&["simulate", "short.toml", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", printed(&output));
    let result: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let contenders = result["contenders"].as_array().expect("contenders");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    for contender in contenders {
        assert_eq!(contender["violations"], serde_json::json!([]), "{contender}");
        assert!(contender["requests"].as_u64() > Some(0), "{contender}");
    }
    contenders.iter().map(|contender| (text(&contender["name"]), text(&contender["digest"]))).collect()
}

#[test]
fn a_seed_decides_everything() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    short_campaign(folder.path());
    let first = digests(folder.path(), &[]);
    assert_eq!(first.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["predictive", "reactive"]);
    assert_ne!(first[0].1, first[1].1, "policies differ");
    assert_eq!(first, digests(folder.path(), &["--seed", "1"]), "1 is the scenario's own seed");
    for ((name, one), (_, two)) in first.iter().zip(digests(folder.path(), &["--seed", "2"])) {
        assert_ne!(*one, two, "{name}: another seed, the same digest");
    }
}

#[test]
fn a_scenario_can_be_printed_changed_and_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = run(folder.path(), &["simulate", "unequal", "--show"]);
    let text = String::from_utf8(shown.stdout).expect("text");
    assert!(text.contains("duration = \"5m\""), "{text}");
    std::fs::write(folder.path().join("short.toml"), text.replace("duration = \"5m\"", "duration = \"5s\""))
        .expect("written");
    let output = run(folder.path(), &["simulate", "short.toml", "--report", "short.html"]);
    assert!(output.status.success(), "{}", printed(&output));
    let page = std::fs::read_to_string(folder.path().join("short.html")).expect("written");
    assert!(page.contains("peak-ewma"), "{page}");

    std::fs::write(folder.path().join("bad.toml"), text.replace("[arrivals]", "[arivals]")).expect("written");
    let output = run(folder.path(), &["simulate", "bad.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
    assert!(printed(&output).contains("did you mean `arrivals`?"), "{}", printed(&output));
    let output = run(folder.path(), &["simulate", "nothing"]);
    assert!(printed(&output).contains("campaign"), "names what there is: {}", printed(&output));
}
