//! The demo as CI runs it: nobody gets an error, and instances are started before the crowd they are for.

use serde_json::Value;

use crate::foretide::{printed, run};
use crate::turn;

/// From the sentence that introduces the traffic: "a campaign at 19 s for 5 s".
fn campaign_start_s(text: &str) -> f64 {
    let after =
        text.split("a campaign at ").nth(1).unwrap_or_else(|| panic!("no campaign announced:\n{text}"));
    after
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no second:\n{text}"))
}

/// Lines like "  12.3 s  ► 2 → 4: …".
fn scaling_decisions(text: &str) -> Vec<(f64, &str)> {
    let parts = text.lines().filter_map(|line| line.split_once(" s  ► "));
    parts.map(|(second, words)| (second.trim().parse().expect("a second"), words)).collect()
}

/// The sizes in "2 → 4: …".
fn sizes(words: &str) -> Option<(u32, u32)> {
    let (before, after) = words.split_once(": ")?.0.split_once(" → ")?;
    Some((before.trim().parse().ok()?, after.trim().parse().ok()?))
}

/// Not "4 → 2: …".
fn grows(words: &str) -> bool {
    sizes(words).is_some_and(|(before, after)| after > before)
}

/// The instances that a demo may have.
const CEILING: u32 = 6;

/// How fast a machine is at the time decides how many instances it needs: the floor may carry all of it, and on one that
/// slowed down after it was measured, what is there already may need the ceiling before the campaign.
fn nothing_left_to_start(decisions: &[(f64, &str)], campaign_start_s: f64) -> bool {
    let before = decisions.iter().take_while(|(second, _)| *second < campaign_start_s);
    let size = before.filter_map(|(_, words)| sizes(words)).last().map(|(_, after)| after);
    size == Some(CEILING) || !decisions.iter().any(|(_, words)| grows(words))
}

/// "2 → 4: forecast up to …" or "2 → 4: event 'campaign' brings …"; a surge or a release is neither.
fn starts_for_what_is_coming(words: &str) -> bool {
    let cause = words.split_once(": ").map_or("", |(_, cause)| cause);
    grows(words) && (cause.starts_with("forecast up to") || cause.starts_with("event '"))
}

#[test]
fn the_fleet_grows_for_what_is_coming_and_nobody_gets_an_error() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    // The usual rate, said here because unoptimised producers at much more would fill a small machine.
    let arguments =
        ["demo", "--headless", "--duration", "30s", "--rate", "24", "--report", "out.html", "--json"];
    let output = run(folder.path(), &arguments);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("seed 7"), "the seed is printed: {text}");

    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    let summary: Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in the last line: {text}"));
    assert_eq!(summary["seed"], 7);
    assert_eq!(summary["errors"], 0, "{text}");
    assert!(summary["requests"].as_u64() > Some(300), "{summary}");
    for run in ["live", "predictive", "reactive"] {
        for key in ["p50_ms", "p99_ms", "p999_ms", "over_objective_ratio", "instance_seconds"] {
            assert!(summary[run][key].as_f64().is_some_and(f64::is_finite), "{run} has no {key}: {summary}");
        }
        assert!(summary[run]["instance_seconds"].as_f64() > Some(20.0), "{run}: {summary}");
    }

    let start_s = campaign_start_s(&text);
    let decisions = scaling_decisions(&text);
    let foreseen = decisions.iter().any(|(_, words)| starts_for_what_is_coming(words));
    assert!(
        foreseen || nothing_left_to_start(&decisions, start_s),
        "nothing was started for what was coming at {start_s} s: {decisions:#?}\n{text}"
    );

    let page = std::fs::read_to_string(folder.path().join("out.html")).expect("the report is written");
    assert!(page.contains("<svg"), "no chart");
    assert!(!page.contains("http://") || !page.contains("<script"), "the page asks nobody");
    eprintln!("{last}");
}
