//! k6 itself runs the load scripts against the proxy; its exit code says whether the objectives held.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::foretide::{Foretide, config, printed};
use crate::outside_tool;
use crate::producer::{Producer, endpoints};
use crate::turn;

const TOOL: (&str, &str) = ("FORETIDE_K6", "k6 (in loadtest/k6: go build -o /somewhere/k6 go.k6.io/k6/v2)");

/// The scripts, each with what makes it short.
const SCRIPTS: [(&str, &[(&str, &str)]); 3] = [
    ("smoke.js", &[("DURATION", "3s")]),
    ("average.js", &[("RATE", "10"), ("RAMP", "2s"), ("DURATION", "3s")]),
    ("spike.js", &[("RATE", "4"), ("CALM", "2s"), ("DURATION", "3s")]),
];

#[test]
fn objectives_hold_under_smoke_average_and_spike() {
    let Some(k6) = outside_tool::find(TOOL.0, TOOL.1) else { return };
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let producers = Producer::start_all(&[0.6, 0.6]);
    let foretide = Foretide::with(folder.path(), &config(&endpoints(&producers)));
    let scripts: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest/k6");
    for (script, environment) in SCRIPTS {
        let summary = folder.path().join(format!("{script}.json"));
        let output = Command::new(&k6)
            .args(["run", "--quiet", "--no-usage-report"])
            .arg(scripts.join(script))
            .env("BASE_URL", format!("http://{}", foretide.proxy))
            .env("SUMMARY_JSON", &summary)
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            .output()
            .expect("k6 starts");
        assert!(output.status.success(), "{script}: {}\n{}", output.status, printed(&output));
        let text = std::fs::read_to_string(&summary).expect("the script writes its summary");
        let figures: Value = serde_json::from_str(&text).expect("JSON");
        let count = &figures["metrics"]["http_reqs"]["values"]["count"];
        assert!(count.as_f64() > Some(5.0), "{script} sent next to nothing: {count}");
        eprintln!("{script}: {}", String::from_utf8_lossy(&output.stdout));
    }
    foretide.stop();
}
