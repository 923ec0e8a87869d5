//! `foretide train` and `foretide model`: from a table to a model in service, and back.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::client::{eventually, get};
use crate::foretide::{Foretide, config, printed, run, write_config};
use crate::producer::{Producer, endpoints};
use crate::turn;

/// Costs that trees know better than means: the square of a number, times a factor of the tenant.
fn write_table(folder: &Path) {
    let mut table = "route,tenant,n,cost_us\n".to_owned();
    for i in 0..1_500u64 {
        let n = 10 + i * 7919 % 997;
        let _ = writeln!(table, "all,t{},{n},{}", i % 5, n * n * (1 + i % 5));
    }
    std::fs::write(folder.join("t.csv"), table).expect("written");
}

fn train(folder: &Path) -> Value {
    let columns = ["--target", "cost_us", "--route", "route", "--source", "tenant", "--params", "n"];
    let arguments = ["train", "--from", "t.csv", "--out", "t.model", "--json"];
    let output = run(folder, &[&arguments[..], &columns].concat());
    assert!(output.status.success(), "{}", printed(&output));
    assert!(printed(&output).contains("calibration"), "{}", printed(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
}

#[test]
fn a_model_is_trained_from_a_table_and_waits_for_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    write_table(folder.path());
    let card = train(folder.path());
    let rmse = |key: &str| card[key].as_f64().expect("a number");
    assert!(rmse("log_rmse") < rmse("key_mean_log_rmse"), "{card}");
    let written = std::fs::read_to_string(folder.path().join("t.model.card.json")).expect("written");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), card);

    write_config(folder.path(), &config("endpoints = [\"127.0.0.1:1\"]"));
    let model = |arguments: &[&str]| run(folder.path(), &[&["model"], arguments].concat());
    assert!(printed(&model(&["list"])).contains("no model yet"));
    let promoted = printed(&model(&["promote", "t.model"]));
    assert!(promoted.contains("promoted model 1: takes effect at the next start"), "{promoted}");
    let output = model(&["rollback"]);
    assert_eq!(output.status.code(), Some(1), "there is nothing before it: {}", printed(&output));
    let output = model(&["promote", "99"]);
    assert!(printed(&output).contains("versions kept: none"), "{}", printed(&output));
}

#[test]
fn a_promoted_model_serves_at_once_where_foretide_runs() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    write_table(folder.path());
    train(folder.path());
    let producers = [Producer::start(0.5)];
    let text = config(&endpoints(&producers));
    let foretide = Foretide::with(folder.path(), &text);
    // The configuration that names the port the system gave, for the commands only.
    let admin = format!("listen = \"{}\"", foretide.admin);
    let known = text.replacen("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\n{admin}"), 1);
    std::fs::write(folder.path().join("known.toml"), known).expect("written");
    let model = |arguments: &[&str]| {
        let output = run(folder.path(), &[&["model"], arguments, &["--config", "known.toml"]].concat());
        assert!(output.status.success(), "{}", printed(&output));
        printed(&output)
    };
    assert!(model(&["promote", "t.model"]).contains("promoted model 1: in service now"));
    let served = eventually("the model serves", || {
        let version = foretide.api("/api/v1/models")["cost"]["card"]["version"].as_u64();
        version.filter(|version| *version >= 1)
    });
    assert!(model(&["show"]).contains(&format!("model {served} ")));
    assert!(model(&["list"]).contains("promoted by an operator"));

    assert_eq!(get(foretide.proxy, "/?n=30").status, 200);
    let decision = eventually("the decision is known", || {
        let id = foretide.api("/api/v1/decisions?limit=1")["routing"][0]["id"].as_u64()?;
        Some(foretide.api(&format!("/api/v1/decisions/{id}?kind=routing"))["routing"].clone())
    });
    let by_model = decision["predicted"]["basis"] == "model";
    assert_eq!(decision["explanation"]["contributions"].is_array(), by_model, "{decision}");

    foretide.stop();
    let arguments = ["explain", "--config", "known.toml", "--header", "x-tenant: t1", "--request"];
    let output = run(folder.path(), &[&arguments[..], &["GET /anything?n=30"]].concat());
    for words in ["route all", "named by the request", "what moved it", "the median predicted", "█"] {
        assert!(printed(&output).contains(words), "{words} in {}", printed(&output));
    }
    let output = run(folder.path(), &[&arguments[..], &["nothing"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
    let list: Value = serde_json::from_str(&model(&["list", "--json"])).expect("JSON");
    assert_eq!(list["models"][0]["version"], 1, "kept at the last save: {list}");
    assert!(model(&["promote", "1"]).contains("takes effect at the next start"));
}
