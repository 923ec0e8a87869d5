//! What other proxies say of instances that this one has not measured.

use crate::world::{World, pool, settings};
use foretide_control::hearsay::{Heard, LIFETIME, Member, Saying, Word};
use foretide_control::io::Input;
use foretide_routing::settings::choice::Endpoint;
use std::collections::BTreeMap;

const FAST: &str = "10.0.0.1:80";
const SLOW: &str = "10.0.0.2:80";

fn heard(beat: u64, slowness: f64) -> Input {
    let said = [(FAST, -slowness), (SLOW, slowness)].map(|(address, slowness)| Saying {
        address: address.to_owned(),
        slowness: Some(slowness),
        samples: 400,
        out: false,
        errors: 0.0,
    });
    let words = said.iter().filter_map(|one| Some((one.address.clone(), Word::judged(one)?)));
    let member = Member {
        name: "other".to_owned(),
        beat,
        pools: BTreeMap::from([("web".to_owned(), words.collect())]),
        ..Member::default()
    };
    Input::Heard(Box::new(Heard { node: "me".to_owned(), members: vec![member], ..Heard::default() }))
}

fn world() -> World {
    let mut settings = settings();
    settings.pools = vec![pool("web")];
    settings.pools[0].manager = None;
    settings.pools[0].endpoints = [FAST, SLOW].map(Endpoint::from).to_vec();
    World::new(settings)
}

fn speeds(world: &World) -> Vec<f64> {
    let report = world.controller.report(world.now);
    report.pools[0].instances.iter().map(|one| (one.speed * 1e6).round() / 1e6).collect()
}

#[test]
fn the_untried_are_as_fast_as_others_say_for_as_long_as_they_say_it() {
    let mut world = world();
    world.run_until(2_000);
    assert_eq!(world.controller.report(world.now).pools[0].proxies, None, "nobody listens");
    world.tell(heard(1, 0.7));
    world.run_until(3_000);
    let told = speeds(&world);
    assert!(told[0] > 1.9 && told[1] < 0.6, "{told:?}");
    assert_eq!(world.controller.report(world.now).pools[0].proxies, Some(2));
    let entry = &world.controller.table().pools[0].instances[1];
    assert!((entry.live.speed_residual() - 0.7).abs() < 1e-6, "{}", entry.live.speed_residual());
    let too_late = 3_500 + LIFETIME.as_millis() as u64;
    for ms in (3_500..=too_late).step_by(500) {
        world.tell(heard(1, 0.7));
        world.run_until(ms);
    }
    assert_eq!(speeds(&world), [1.0, 1.0], "its beat stands still");
    assert_eq!(world.controller.report(world.now).pools[0].proxies, Some(1));
}

#[test]
fn absurd_words_move_nothing_and_large_ones_no_further_than_ones_own() {
    for (slowness, slowest) in [(1e300, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (9.0, (-1.5_f64).exp())]
    {
        let mut world = world();
        world.tell(heard(1, slowness));
        world.run_until(2_000);
        let told = speeds(&world);
        assert!((told[1] - slowest).abs() < 1e-6, "{slowness}: {told:?}");
    }
}
