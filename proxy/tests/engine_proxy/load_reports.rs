//! What instances say of themselves and of a request's cost (ORCA) is read, and taken off the answer.

use std::time::Duration;

use foretide_routing::settings::{ReportedCost, UpstreamSettings};

use crate::client::{get, http1, http2};
use crate::instance::{self, REPORTS};
use crate::world::World;

fn wanted() -> Option<ReportedCost> {
    Some(ReportedCost { field: "request_cost.cpu_seconds".to_owned(), unit: Duration::from_secs(1) })
}

async fn world(change: impl FnOnce(&mut UpstreamSettings)) -> (World, instance::Instance) {
    let instance = instance::start().await;
    let world = World::with(&[instance.address], |settings| change(&mut settings.routing.pools[0].upstream));
    (world, instance)
}

#[tokio::test]
async fn every_form_is_read_and_no_client_sees_it() {
    for (http2_upstream, client) in [(false, http1()), (true, http2())] {
        let (world, _instance) = world(|upstream| {
            upstream.http2 = http2_upstream;
            upstream.cost_from = wanted();
        })
        .await;
        for which in [0, 1, 3] {
            let answer = get(&client, &world.url(&format!("/api/report/{which}"))).await;
            assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, "reported\n"));
            assert!(!answer.headers().contains_key(REPORTS[which].0), "{:?}", answer.headers());
            let seen = world.observed(1).await;
            // Trailers come with HTTP/2 only, unless a client asks for them.
            if which < 3 || http2_upstream {
                assert_eq!(seen[0].reported.utilisation.cpu, Some(0.25), "{}", REPORTS[which].1);
                assert_eq!(seen[0].reported.work_us, Some(5_000.0), "{}", REPORTS[which].1);
            }
            assert!(seen[0].attained_us > 0.0, "measured all the same");
        }
        world.at_rest().await;
    }
}

#[tokio::test]
async fn a_cost_that_nobody_asked_for_is_not_taken_and_nonsense_does_no_harm() {
    let (world, _instance) = world(|_| {}).await;
    get(&http1(), &world.url("/api/report/0")).await;
    let seen = world.observed(1).await;
    assert_eq!((seen[0].reported.work_us, seen[0].reported.utilisation.cpu), (None, Some(0.25)));
    let answer = get(&http1(), &world.url("/api/report/2")).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key(REPORTS[2].0), "also what cannot be read is not for clients");
    let seen = world.observed(1).await;
    assert_eq!(seen[0].reported, Default::default());
}

#[tokio::test]
async fn operators_may_pass_reports_on() {
    let (world, _instance) = world(|upstream| upstream.pass_load_report = true).await;
    let answer = get(&http1(), &world.url("/api/report/0")).await;
    assert_eq!(answer.headers()[REPORTS[0].0], REPORTS[0].1);
    assert_eq!(world.observed(1).await[0].reported.utilisation.cpu, Some(0.25));
}
