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
    assert!(printed(&output).contains("versions kept: 1"), "{}", printed(&output));
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

/// What nginx would have logged as JSON: costs that trees know better than means, by number and tenant.
fn write_log(folder: &Path) {
    let mut log = String::new();
    for i in 0..1_500u64 {
        let (n, tenant) = (10 + i * 7919 % 997, i % 5);
        let (at, took) = (1_700_000_000.0 + i as f64 * 0.05, (n * n * (1 + tenant)) as f64 / 1e7);
        let _ = writeln!(
            log,
            "{{\"time_iso8601\":{at:.3},\"request_method\":\"GET\",\"request_uri\":\"/search?n={n}\",\
             \"status\":200,\"request_time\":\"{took:.6}\",\"http_x_tenant\":\"t{tenant}\"}}"
        );
    }
    std::fs::write(folder.join("access.jsonl"), log).expect("written");
}

#[test]
fn models_from_a_log_are_promoted_and_taken_back() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    write_log(folder.path());
    let producers = [Producer::start(0.5)];
    let text = config(&endpoints(&producers));
    write_config(folder.path(), &text);
    let foretide = |arguments: &[&str]| {
        let output = run(folder.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", printed(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let train = |from: &str, config: &str, out: &str| -> Value {
        let arguments = ["train", "--from", from, "--config", config, "--out", out, "--json"];
        let text = foretide(&arguments);
        assert!(text.contains("looks at: "), "{text}");
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
    };
    let card = train("access.jsonl", "foretide.toml", "one.model");
    assert_eq!((&card["version"], &card["routes"]["all"]), (&Value::from(1), &Value::from(1_500)), "{card}");
    assert!(card["features"][0]["factor"].as_f64() > Some(1.0), "{card}");
    assert!(
        foretide(&["model", "promote", "one.model"]).contains("promoted model 1: takes effect at the next")
    );

    let running = Foretide::with(folder.path(), &text);
    let admin = format!("[admin]\nlisten = \"{}\"", running.admin);
    let known = text.replacen("[admin]\nlisten = \"127.0.0.1:0\"", &admin, 1);
    std::fs::write(folder.path().join("known.toml"), known).expect("written");
    let model = |arguments: &[&str]| foretide(&[&["model"], arguments, &["--config", "known.toml"]].concat());
    let serves = |version: u64| {
        eventually(&format!("model {version} serves"), || {
            let card = running.api("/api/v1/models")["cost"]["card"].clone();
            (card["version"] == version).then_some(card)
        })
    };
    serves(1);
    assert_eq!(get(running.proxy, "/search?n=30").status, 200);
    // The log's own number for it would be taken.
    assert_eq!(train("access.jsonl", "known.toml", "two.model")["version"], 2);
    assert!(model(&["promote", "two.model"]).contains("promoted model 2: in service now"));
    let card = serves(2);
    let listed: Value = serde_json::from_str(&model(&["list", "--json"])).expect("JSON");
    let versions: Vec<_> =
        listed["models"].as_array().expect("a list").iter().map(|card| &card["version"]).collect();
    assert_eq!((versions, &listed["serving"]), (vec![&Value::from(1), &Value::from(2)], &Value::from(2)));
    assert_eq!(listed["models"][1], card);

    assert!(model(&["rollback"]).contains("rolled back to model 1: in service now"));
    serves(1);
    assert_eq!(get(running.proxy, "/search?n=30").status, 200);
    let decisions = model(&["list"]);
    assert!(decisions.contains("rolled back to by an operator"), "{decisions}");
    let output = run(folder.path(), &["model", "rollback", "--config", "known.toml"]);
    assert_eq!(output.status.code(), Some(1), "nothing is before it: {}", printed(&output));
    running.stop();

    // What was learned can be trained on anew: here the log's own rows.
    std::fs::copy(folder.path().join("one.model"), folder.path().join("state/learned.bin")).expect("copied");
    assert_eq!(train("history", "foretide.toml", "three.model")["version"], 2);
    let refused = run(
        folder.path(),
        &[
            "train",
            "--from",
            "access.jsonl",
            "--config",
            "foretide.toml",
            "--route",
            "x",
            "--out",
            "no.model",
        ],
    );
    assert_eq!(refused.status.code(), Some(2), "{}", printed(&refused));
}
