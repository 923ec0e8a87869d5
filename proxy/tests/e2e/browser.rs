//! The dashboard in a real browser: it draws what the API says, and keeps itself up to date.

use std::path::Path;
use std::process::{Command, Output};

use crate::client::{eventually, get};
use crate::foretide::{Foretide, config, printed};
use crate::load::Load;
use crate::outside_tool;
use crate::producer::{Producer, endpoints};
use crate::turn;

const TOOL: (&str, &str) =
    ("FORETIDE_CHROMIUM", "a Chromium or headless shell (Debian: apt-get install chromium)");

/// Nothing but the page asked for: no first-run pages, no updates, no traces of an earlier run.
const QUIET: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

fn browse(chromium: &Path, profile: &Path, wanted: &str, url: &str) -> Output {
    Command::new(chromium)
        .args(QUIET)
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--window-size=1400,1600", "--timeout=8000", wanted, url])
        .output()
        .expect("the browser starts")
}

#[test]
fn the_dashboard_shows_pool_instances_and_forecast() {
    let Some(chromium) = outside_tool::find(TOOL.0, TOOL.1) else { return };
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let producers = Producer::start_all(&[0.5]);
    let foretide =
        Foretide::with(folder.path(), &config(&endpoints(&producers)).replace("work", "engine-room"));
    let load = Load::start(foretide.proxy, 10.0, &["/search?rows=300"]);
    eventually("there is a forecast to be drawn", || {
        (!foretide.api("/api/v1/forecasts")["pools"][0]["forecast"].is_null()).then_some(())
    });

    let url = format!("http://{}/", foretide.admin);
    let output = browse(&chromium, &folder.path().join("profile"), "--dump-dom", &url);
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(page.contains("</html>"), "no page: {}", printed(&output));
    let source = get(foretide.admin, "/").body;
    for drawn in ["engine-room", &producers[0].address.to_string(), "class=\"band\""] {
        assert!(!source.contains(drawn), "{drawn} is in the source, so it proves nothing");
        assert!(page.contains(drawn), "{drawn} is not on the page:\n{page}");
    }
    assert!(page.contains("Load: what came, what is coming"), "no forecast section:\n{page}");

    let picture = folder.path().join("page.png");
    let wanted = format!("--screenshot={}", picture.display());
    let output = browse(&chromium, &folder.path().join("profile-2"), &wanted, &url);
    let bytes = std::fs::read(&picture).unwrap_or_else(|error| panic!("{error}: {}", printed(&output)));
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 20_000, "an empty picture: {} bytes", bytes.len());
    load.stop();
    foretide.stop();
}
