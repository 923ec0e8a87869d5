//! SIGKILL of an instance under load: its requests are tried again elsewhere and no client sees it.

use crate::client::{eventually, get};
use crate::foretide::{Foretide, config};
use crate::load::{Load, assert_all_served};
use crate::producer::{Producer, endpoints};
use crate::turn;

#[test]
fn no_client_sees_an_instance_die() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let mut producers = Producer::start_all(&[0.5, 0.5, 0.5]);
    let pool = format!("{}\n[pools.work.health]\nevery = \"500ms\"\ntimeout = \"2s\"", endpoints(&producers));
    let foretide = Foretide::with(folder.path(), &config(&pool));
    let victim = producers[0].address;

    let load = Load::start(foretide.proxy, 40.0, &["/search?rows=1500", "/hash?n=4000", "/report?rows=3000"]);
    load.until_finished(60);
    let of_victim = || {
        let report = foretide.api("/api/v1/producers");
        let instances = report["pools"][0]["instances"].as_array().expect("instances").clone();
        instances.into_iter().find(|i| i["address"] == victim.to_string()).expect("the victim is known")
    };
    eventually("the victim gets requests", || (of_victim()["requests"].as_u64() > Some(0)).then_some(()));
    producers[0].kill();
    let before = load.finished();
    load.until_finished(before + 160);
    eventually("the dead instance is noticed", || {
        matches!(of_victim()["state"].as_str(), Some("unhealthy" | "ejected")).then_some(())
    });
    let summary = load.stop();
    assert_all_served(&summary);
    assert_eq!(get(foretide.proxy, "/search?rows=10").status, 200);
    foretide.stop();
}
