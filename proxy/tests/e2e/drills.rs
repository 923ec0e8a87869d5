//! Models that are gone or talk nonsense: every request is served, and what it was decided on is said.

use crate::client::{eventually, get, post};
use crate::foretide::{Foretide, config};
use crate::load::{Load, assert_all_served, paths_worth_a_model};
use crate::producer::{Producer, endpoints};
use crate::turn;

const FALLBACKS: &str = "foretide_tier_fallbacks_total";

#[test]
fn requests_are_served_without_a_sound_model_and_the_fallback_is_named() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let producers = Producer::start_all(&[0.5, 0.5]);
    let foretide = Foretide::with(folder.path(), &config(&endpoints(&producers)));
    let load = Load::start(foretide.proxy, 50.0, &paths_worth_a_model());
    let has_model = || !foretide.api("/api/v1/models")["cost"]["card"].is_null();
    eventually("a model is trained", || has_model().then_some(()));

    for (kind, reason) in [("nan_model", "model_failed"), ("remove_model", "no_model")] {
        let label = format!("reason=\"{reason}\"");
        let count = || foretide.metric(FALLBACKS, &[&label]).unwrap_or(0.0);
        let before = count();
        let answer = post(foretide.admin, "/api/v1/models/drill", &format!("{{\"kind\": \"{kind}\"}}"));
        assert_eq!(answer.status, 202, "{answer:?}");
        eventually(&format!("{reason} is counted"), || (count() > before).then_some(()));
        eventually(&format!("a decision says {reason}"), || {
            let decisions = foretide.api("/api/v1/decisions")["routing"].clone();
            decisions.as_array()?.iter().any(|decision| decision["reason"] == reason).then_some(())
        });
        eventually(&format!("the fallback {reason} is in the report"), || {
            let decisions = foretide.api("/api/v1/decisions")["fallbacks"].clone();
            decisions.as_array()?.iter().any(|fallback| fallback["reason"] == reason).then_some(())
        });
        eventually("the next training brings a sound model back", || {
            let latest = foretide.api("/api/v1/decisions?limit=1")["routing"][0].clone();
            (has_model() && latest["predicted"]["basis"] == "model").then_some(())
        });
    }
    let bad = post(foretide.admin, "/api/v1/models/drill", "{\"kind\": \"explode\"}");
    assert_eq!(bad.status, 400, "{bad:?}");
    assert_eq!(get(foretide.proxy, "/search?rows=10").status, 200);
    assert_all_served(&load.stop());
    foretide.stop();
}
