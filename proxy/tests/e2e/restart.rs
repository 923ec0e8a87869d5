//! What was learned outlives the process; broken files are set aside, and nobody has to wait for either.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::client::{eventually, get};
use crate::foretide::{Foretide, config};
use crate::load::{Load, assert_all_served, paths_worth_a_model};
use crate::producer::{Producer, endpoints};
use crate::turn;

fn actual(foretide: &Foretide) -> Vec<Value> {
    foretide.api("/api/v1/forecasts")["pools"][0]["actual"].as_array().expect("steps").clone()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn learned_state_survives_a_restart_and_broken_state_does_no_harm() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let producers = Producer::start_all(&[0.5, 0.5]);
    let text = config(&endpoints(&producers));

    let foretide = Foretide::with(folder.path(), &text);
    let load = Load::start(foretide.proxy, 50.0, &paths_worth_a_model());
    eventually("a model is trained and a forecast made", || {
        let cost = &foretide.api("/api/v1/models")["cost"];
        let forecast = &foretide.api("/api/v1/forecasts")["pools"][0]["forecast"];
        (!cost["card"].is_null() && !forecast.is_null()).then_some(())
    });
    assert_all_served(&load.stop());
    let cost = foretide.api("/api/v1/models")["cost"].clone();
    let last_step = actual(&foretide).last().expect("some history")[0].as_u64().expect("microseconds");
    let ended = eventually("rows are settled", || cost["rows"].as_u64().filter(|&rows| rows >= 100));
    foretide.stop();

    let foretide = Foretide::with(folder.path(), &text);
    assert!(foretide.log().contains("learned state restored"), "{}", foretide.log());
    let again = foretide.api("/api/v1/models")["cost"].clone();
    assert!(again["rows"].as_u64() >= Some(ended), "{again} after {cost}");
    assert!(!again["card"].is_null(), "the model is there at once: {again}");
    assert!(again["cells"].as_u64() > Some(0), "{again}");
    let steps = actual(&foretide);
    assert!(
        steps.iter().any(|step| step[0].as_u64() <= Some(last_step) && step[1].as_f64() > Some(0.0)),
        "no load of before the restart: {steps:?}"
    );
    eventually("a forecast without any traffic since the restart", || {
        (!foretide.api("/api/v1/forecasts")["pools"][0]["forecast"].is_null()).then_some(())
    });
    // From the first request on the model answers, not a running mean.
    assert_eq!(get(foretide.proxy, "/search?rows=1000").status, 200);
    let decision = eventually("the decision is told", || {
        foretide.api("/api/v1/decisions")["routing"].as_array().and_then(|all| all.first().cloned())
    });
    assert_eq!(decision["predicted"]["basis"], "model", "{decision}");
    foretide.stop();

    for name in ["learned.bin", "history.sqlite"] {
        assert!(state.join(name).exists(), "{name} is missing: {:?}", names(&state));
        for beside in ["-wal", "-shm"] {
            // Whatever is left of a log would mend what is broken on purpose here.
            let _ = fs::remove_file(state.join(format!("{name}{beside}")));
        }
        fs::write(state.join(name), b"certainly not what was saved here ".repeat(400)).expect("written");
    }
    let foretide = Foretide::with(folder.path(), &text);
    assert_eq!(get(foretide.proxy, "/search?rows=1000").status, 200);
    let aside: Vec<String> = names(&state).into_iter().filter(|name| name.contains(".broken-")).collect();
    for name in ["learned.bin", "history.sqlite"] {
        let new_name = aside.iter().find(|aside| aside.starts_with(name));
        let new_name = new_name.unwrap_or_else(|| panic!("{name} was not set aside: {:?}", names(&state)));
        assert!(
            foretide.log().contains(new_name.as_str()),
            "{new_name} is not in the log:\n{}",
            foretide.log()
        );
    }
    foretide.stop();
}
