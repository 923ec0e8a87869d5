//! `foretide replay`: a recorded hour of the World Cup of 1998 through the proxy.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::foretide::{Foretide, config, printed, run};
use crate::producer::{Producer, endpoints};
use crate::turn;

/// The recording, which lies beside the checkout; without it a short one made here, except in CI.
fn recording(folder: &Path) -> (PathBuf, &'static str) {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/load/wc98_1m.csv.gz");
    if shared.exists() {
        return (shared, "90000");
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing; CI puts the recordings beside the checkout",
        shared.display()
    );
    eprintln!("{} is missing: replaying ten made-up minutes instead", shared.display());
    let mut text = "unique_id,ds,y\n".to_owned();
    for minute in 0..10 {
        writeln!(text, "made-up,1998-06-10 12:{minute:02}:00,{}", 600 + 40 * minute)
            .expect("a string takes all");
    }
    let file = folder.join("made-up.csv");
    std::fs::write(&file, text).expect("written");
    (file, "0")
}

#[test]
fn a_recording_goes_through_the_proxy_and_is_answered_whole() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let producers = Producer::start_all(&[0.6, 0.6]);
    let foretide = Foretide::with(folder.path(), &config(&endpoints(&producers)));
    let (file, from) = recording(folder.path());
    let (file, target) = (file.display().to_string(), format!("http://{}", foretide.proxy));
    let mut arguments = vec!["replay", &file, "--target", &target, "--from", from, "--rows", "8", "--json"];
    arguments.extend([
        "--speed",
        "80",
        "--peak-rate",
        "25",
        "--path",
        "/search?rows={100..1500}",
        "--path",
        "/hash?n={10..3000}",
    ]);
    let output = run(folder.path(), &arguments);
    assert!(output.status.success(), "{}", printed(&output));
    assert!(printed(&output).contains("8 rows"), "{}", printed(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let sent = summary["sent"].as_u64().expect("a count");
    assert!(sent >= 50, "{summary}");
    assert_eq!(summary["status_classes"], serde_json::json!([0, sent, 0, 0, 0]), "{summary}");
    assert_eq!((&summary["errors"], &summary["dropped"]), (&0.into(), &0.into()), "{summary}");
    let counted = foretide.metric("foretide_http_requests_total", &["code=\"200\""]);
    assert_eq!(counted, Some(sent as f64), "all went through the proxy");

    let away = run(folder.path(), &["replay", &file, "--target", "http://192.0.2.1:80", "--rows", "1"]);
    assert!(!away.status.success(), "a stranger's address needs --allow-remote");
    foretide.stop();
}
