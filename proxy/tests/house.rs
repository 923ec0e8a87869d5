//! The rules of the house, held by a test: rooms, purity, sizes, words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOMS: [&str; 5] = ["predictor", "routing", "conf", "loadtest", "proxy"];
/// Crates (folder, name). Dependencies run one way: each may use those before it. A room may hold several; the room of
/// the proxy holds the offline workbench and the instance managers, which by this order know no other adapter.
const CRATES: [(&str, &str); 18] = [
    ("predictor", "foretide-predictor"),
    ("predictor/forecast", "foretide-forecast"),
    ("routing/steering", "foretide-steering"),
    ("routing/shadow", "foretide-shadow"),
    ("routing", "foretide-routing"),
    ("routing/control", "foretide-control"),
    ("routing/orca", "foretide-orca"),
    ("conf", "foretide-conf"),
    ("loadtest", "foretide-loadtest"),
    ("loadtest/steering", "foretide-steering-lab"),
    ("proxy/workbench", "foretide-workbench"),
    ("proxy/fleet", "foretide-fleet"),
    ("proxy/gossip", "foretide-gossip"),
    ("proxy/guard", "foretide-guard"),
    ("proxy/racer", "foretide-racer"),
    ("proxy/advice", "foretide-advice"),
    ("proxy/admin", "foretide-admin"),
    ("proxy", "foretide"),
];
/// Folders of the crates in the pure rooms.
const PURE: [&str; 7] = [
    "predictor",
    "predictor/forecast",
    "routing/steering",
    "routing/shadow",
    "routing",
    "routing/control",
    "routing/orca",
];
/// These never import each other; only the composition root knows them all.
const ADAPTERS: [&str; 2] = ["engine", "store"];
/// Nor do these, which are crates.
const ADAPTER_CRATES: [&str; 3] = ["fleet", "gossip", "admin"];
/// Longest file, longest crate (sources without tests and benches), longest ARCHITECTURE.md, in lines.
const FILE: usize = 600;
const CRATE: usize = 8_000;
const ARCHITECTURE: usize = 300;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("readable").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<PathBuf> {
    files_below(&top().join(folder).join("src"), ".rs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a file that is not its tests.
fn product_part(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn assert_none(what: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{what}:\n  {}", offences.join("\n  "));
}

#[test]
fn pure_rooms_touch_no_world() {
    let banned = [
        "tokio",
        "Instant::now",
        "SystemTime",
        "std::fs",
        "std::thread",
        "std::env",
        "std::process",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "rand::rng",
        "thread_rng",
        "println!",
        "eprintln!",
        "tracing::",
        "log::",
        "HashMap",
        "HashSet",
    ];
    let mut offences = Vec::new();
    let examples = |room: &&str| files_below(&top().join(room).join("examples"), ".rs");
    let files = PURE.iter().flat_map(|room| sources(room).into_iter().chain(examples(room)));
    for path in files {
        let text = read(&path);
        for (number, line) in product_part(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in banned.iter().filter(|word| code.contains(**word)) {
                offences.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert_none("pure rooms take time and chance as parameters and do no IO", &offences);
}

#[test]
fn dependencies_run_one_way() {
    let mut offences = Vec::new();
    for (index, (folder, name)) in CRATES.iter().enumerate() {
        let manifest = read(&top().join(folder).join("Cargo.toml"));
        for (_, later) in &CRATES[index + 1..] {
            let names_it =
                |line: &&str| line.strip_prefix(later).is_some_and(|rest| rest.starts_with(['.', ' ']));
            if manifest.lines().any(|line| names_it(&line)) {
                offences.push(format!("{name} depends on {later}"));
            }
        }
    }
    assert_none(
        "predictor <- steering <- shadow <- routing <- control <- conf <- loadtest <- laboratory <- workbench <- proxy",
        &offences,
    );
}

#[test]
fn adapters_do_not_know_each_other() {
    let mut offences = Vec::new();
    for adapter in ADAPTERS {
        for path in files_below(&top().join("proxy/src").join(adapter), ".rs") {
            let text = read(&path);
            for other in
                ADAPTERS.iter().chain(&["app", "reconcile", "cli", "demo"]).filter(|o| **o != adapter)
            {
                if text.contains(&format!("crate::{other}::")) || text.contains(&format!("crate::{other};")) {
                    offences.push(format!("{} imports {other}", path.display()));
                }
            }
        }
    }
    for adapter in ADAPTER_CRATES {
        let manifest = read(&top().join("proxy").join(adapter).join("Cargo.toml"));
        for other in ADAPTER_CRATES.iter().filter(|other| **other != adapter) {
            if manifest.contains(&format!("foretide-{other}.")) {
                offences.push(format!("foretide-{adapter} depends on foretide-{other}"));
            }
        }
    }
    assert_none("only the composition root knows the adapters", &offences);
}

#[test]
fn files_and_crates_stay_small() {
    let mut offences = Vec::new();
    let lines_of = |path: &PathBuf| read(path).lines().count();
    for path in ROOMS.iter().flat_map(|room| files_below(&top().join(room), ".rs")) {
        let lines = lines_of(&path);
        if lines > FILE {
            offences.push(format!("{}: {lines} lines, at most {FILE}", path.display()));
        }
    }
    for (folder, name) in CRATES {
        let lines: usize = sources(folder).iter().map(lines_of).sum();
        if lines > CRATE {
            offences.push(format!("{name}: {lines} lines of source, at most {CRATE}; split it into crates"));
        }
    }
    let lines = read(&top().join("ARCHITECTURE.md")).lines().count();
    if lines > ARCHITECTURE {
        offences.push(format!("ARCHITECTURE.md: {lines} lines, at most {ARCHITECTURE}"));
    }
    assert_none("one idea a file", &offences);
}

#[test]
fn names_explain_themselves_and_nothing_is_left_undone() {
    // Put together from halves so that this file does not offend itself.
    let undone =
        [["TO", "DO"], ["FIX", "ME"], ["unimplemented", "!"], ["todo", "!("]].map(|halves| halves.concat());
    let mut offences = Vec::new();
    for path in ROOMS.iter().flat_map(|room| files_below(&top().join(room), ".rs")) {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if ["utils", "util", "helpers", "common", "misc", "manager"].contains(&stem.as_str()) {
            offences.push(format!("{}: the name says nothing", path.display()));
        }
        let text = read(&path);
        for word in undone.iter().filter(|word| text.contains(word.as_str())) {
            offences.push(format!("{}: {word}", path.display()));
        }
    }
    assert_none("say what it is, and finish it", &offences);
}

#[test]
fn the_top_level_holds_what_it_should_and_nothing_else() {
    let mut allowed: BTreeSet<&str> = ROOMS.into();
    allowed.extend([
        "Cargo.toml",
        "Cargo.lock",
        "Dockerfile",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
    ]);
    allowed.extend(["LICENSE", "deny.toml", "rustfmt.toml", "clippy.toml", "target"]);
    let offences: Vec<String> = fs::read_dir(top())
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !allowed.contains(name.as_str()))
        .collect();
    assert_none("five rooms and a few papers", &offences);
}
