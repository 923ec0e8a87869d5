//! Producers that report what a request cost them: the proxy learns that instead of what it measured.

use crate::client::{eventually, get};
use crate::foretide::{Foretide, config};
use crate::producer::{Producer, endpoints};
use crate::turn;

#[test]
fn reported_costs_are_learned_and_utilisation_is_shown() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    // At a twentieth of a core service takes twenty times the CPU time that is reported.
    let producers = [Producer::start(0.05)];
    let upstream = "[pools.work.upstream]\ncost_from = \"request_cost.cpu_seconds\"";
    let foretide = Foretide::with(folder.path(), &config(&format!("{}\n{upstream}", endpoints(&producers))));
    let direct = get(producers[0].address, "/hash?n=20000");
    assert!(direct.headers.contains_key("endpoint-load-metrics"), "{direct:?}");
    for _ in 0..8 {
        let answer = get(foretide.proxy, "/hash?n=20000");
        assert_eq!(answer.status, 200);
        assert!(!answer.headers.contains_key("endpoint-load-metrics"), "not for clients: {answer:?}");
    }
    let decision = eventually("a cost is known", || {
        let decisions = foretide.api("/api/v1/decisions");
        let known = |one: &&serde_json::Value| one["actual_work_us"].is_number();
        decisions["routing"].as_array()?.iter().find(known).cloned()
    });
    let (cost, served) = (decision["actual_work_us"].as_f64(), decision["upstream_us"].as_f64());
    assert!(cost.zip(served).is_some_and(|(cost, served)| cost < served / 4.0), "{decision}");
    let labels = ["pool=\"work\"", "resource=\"cpu\""];
    let busy = eventually("utilisation is shown", || {
        get(foretide.proxy, "/hash?n=20000");
        foretide.metric("foretide_instance_utilization", &labels).filter(|share| *share > 0.0)
    });
    assert!(busy <= 1.0, "{busy}");
    let producers = foretide.api("/api/v1/producers");
    assert!(producers["pools"][0]["instances"][0]["utilisation"]["cpu"].is_number(), "{producers}");
    assert!(foretide.metric("foretide_load_reports_total", &["result=\"read\""]) >= Some(8.0));
    foretide.stop();
}
