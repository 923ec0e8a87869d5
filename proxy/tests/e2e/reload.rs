//! New configuration under load: nobody is turned away, a change takes effect, a mistake changes nothing.

use nix::sys::signal::Signal;

use crate::client::{eventually, get, post};
use crate::foretide::{Foretide, HEAD, write_config};
use crate::load::{Load, assert_all_served};
use crate::producer::{Producer, endpoints};
use crate::turn;

const SUCCESSFUL: &str = "foretide_config_last_reload_successful";

#[test]
fn a_reload_under_load_fails_no_request() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let producers = Producer::start_all(&[0.5, 0.5]);
    let pool = format!("\n[pools.work]\nconcurrency = 1\n{}\n", endpoints(&producers));
    let route = |name: &str, path: &str| {
        format!("\n[[routes]]\nname = \"{name}\"\npath = \"{path}\"\npool = \"work\"\n")
    };
    let narrow = format!("{HEAD}{}{pool}", route("search", "/search"));
    let wide = format!("{HEAD}{}{}{pool}", route("search", "/search"), route("hashes", "/hash"));

    let foretide = Foretide::with(folder.path(), &narrow);
    let load = Load::start(foretide.proxy, 40.0, &["/search?rows=800"]);
    load.until_finished(40);
    let hash_status = || get(foretide.proxy, "/hash?n=10").status;
    let until_hash = |what: &str, status| eventually(what, || (hash_status() == status).then_some(()));
    assert_eq!(hash_status(), 404, "there is no such route yet");

    write_config(folder.path(), &wide);
    let answer = post(foretide.admin, "/api/v1/reload", "");
    assert_eq!((answer.status, &answer.json()["reloaded"]), (200, &true.into()), "{answer:?}");
    until_hash("the new route after POST", 200);
    eventually("the new route counts", || {
        foretide.metric("foretide_http_requests_total", &["route=\"hashes\"", "code=\"200\""])
    });
    assert!(get(foretide.admin, "/api/v1/config").body.contains("hashes"));

    write_config(folder.path(), &narrow);
    until_hash("the route goes when the file is saved", 404);

    let reloads = || foretide.log().matches("configuration reloaded").count();
    let before = reloads();
    foretide.signal(Signal::SIGHUP);
    eventually("SIGHUP reads the file again", || (reloads() > before).then_some(()));

    write_config(folder.path(), "version = 1\nno such = \"file\n");
    eventually("the mistake is seen", || (foretide.metric(SUCCESSFUL, &[]) == Some(0.0)).then_some(()));
    let answer = post(foretide.admin, "/api/v1/reload", "");
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.body.contains("foretide.toml:2:"), "says where: {answer:?}");
    assert_eq!(get(foretide.proxy, "/search?rows=10").status, 200, "the last good one stays");
    assert_eq!(hash_status(), 404);

    write_config(folder.path(), &wide);
    eventually("good again", || (foretide.metric(SUCCESSFUL, &[]) == Some(1.0)).then_some(()));
    until_hash("the route is back", 200);
    let before = load.finished();
    load.until_finished(before + 40);
    assert_all_served(&load.stop());
    foretide.stop();
}
