//! The shipped scenario `campaign`: is the crowd met by instances that were started because it was announced?

use foretide_conf::{scenario, shipped};
use foretide_loadtest::sim::contest::Standing;
use foretide_loadtest::sim::{arrivals, run};
use std::time::Duration;

#[test]
fn instances_are_started_for_the_announced_crowd_before_it_begins() {
    let (name, text) = shipped::SCENARIOS[0];
    assert_eq!(name, "campaign");
    let (mut scenario, _) = scenario::parse(name, text, |path| std::fs::read_to_string(path))
        .unwrap_or_else(|findings| panic!("{findings:?}"));
    let crowd = scenario.arrivals.campaign.expect("a campaign");
    let cold_start_s = 5.0;
    // What happens once it is there is not asked here.
    scenario.duration = crowd.start + Duration::from_secs(1);
    let contender = scenario.contenders.iter().find(|one| one.name == "predictive").expect("a contender");
    let world = arrivals::world(&scenario, contender).expect("a sound scenario");
    let standing = Standing::new(&contender.name, run::run(&world));
    assert_eq!(standing.violations, Vec::<String>::new());
    // The fleet that a run begins with is warm at once; nobody may conclude that starts are instant.
    let beyond_floor =
        |(_, why): &&(f64, String)| why.contains("a start takes") && !why.contains("the floor is");
    let starts: Vec<_> = standing.scaling.iter().filter(beyond_floor).collect();
    let known = |(_, why): &&(f64, String)| why.contains(&format!("a start takes {cold_start_s:.1} s"));
    assert!(!starts.is_empty() && starts.iter().all(known), "seed {}: {starts:?}", scenario.seed);
    let begins_s = crowd.start.as_secs_f64();
    let for_it: Vec<_> =
        standing.scaling.iter().filter(|(_, why)| why.contains("event 'campaign'")).collect();
    let (first_s, why) =
        for_it.first().unwrap_or_else(|| panic!("seed {}: {:?}", scenario.seed, standing.scaling));
    println!("seed {}: {:.1} s before the crowd: {why}", scenario.seed, begins_s - first_s);
    assert!(*first_s <= begins_s - cold_start_s, "{first_s} s: too late to be ready at {begins_s} s");
    assert!(*first_s > begins_s - 60.0, "{first_s} s: not that early, it is paid for");
}
