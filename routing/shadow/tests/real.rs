//! Shadows against what really happened, where what happens is a fleet of the test's own.
use foretide_predictor::hash::mix;
use foretide_shadow::chooser::Policy;
use foretide_shadow::fleet::{Member, Setup};
use foretide_shadow::producer::Producer;
use foretide_shadow::shadow::{Finished, Shadow, ShadowReport};
use foretide_steering::score::Form;
use proptest::prelude::*;

const SPEEDS: [f64; 6] = [0.6, 1.0, 1.0, 1.6, 1.0, 0.6];
const SLOTS: usize = 2;
/// Five in a hundred are a hundred times heavier.
const SIZES_US: (f64, f64) = (1_000.0, 100_000.0);
const MEAN_US: f64 = 5_950.0;
const LOAD: f64 = 0.7;
/// A Unix time, as in production.
const EPOCH_US: u64 = 1_790_000_000_000_000;

fn unit(seed: u64, number: u64) -> f64 {
    (mix(mix(seed).wrapping_add(number)) >> 11) as f64 / (1u64 << 53) as f64
}

fn setup(form: Form, speeds: [f64; 6], temper: f64) -> Setup {
    let member = |(id, speed): (u32, f64)| Member { id, speed };
    let members = (0..).zip(speeds).map(member).collect();
    Setup { form, slots: SLOTS, temper, heavy_yields: 0.0, members, late_binding: false }
}

/// Requests through a real pool of least-request, which tells the shadows of each when it ends. `steered(number, work)`:
/// what was predicted.
fn watched(setup: Setup, requests: u64, seed: u64, steered: impl Fn(u64, f64) -> f64) -> Shadow {
    let mut shadow = Shadow::new();
    let producer = |member: &Member| Producer::new(setup.form, SLOTS, member.speed, 0.0);
    let mut producers: Vec<Producer> = setup.members.iter().map(producer).collect();
    let speed = setup.members.iter().map(|member| member.speed).sum::<f64>();
    let rate = LOAD * SLOTS as f64 * speed / MEAN_US;
    shadow.set(setup);
    let mut came: Vec<(f64, f64)> = Vec::new();
    let mut now_us = 0.0;
    for number in 0..requests {
        now_us += -unit(seed, number).ln() / rate;
        end_until(now_us, &mut producers, &came, &mut shadow, &steered);
        let work_us = if unit(seed ^ 1, number) < 0.05 { SIZES_US.1 } else { SIZES_US.0 };
        let fewest = producers.iter().map(Producer::requests).min().expect("instances");
        let tied: Vec<usize> =
            (0..producers.len()).filter(|&at| producers[at].requests() == fewest).collect();
        let chosen = tied[(mix(number ^ seed << 20) % tied.len() as u64) as usize];
        producers[chosen].add(came.len(), work_us, now_us);
        came.push((now_us, work_us));
    }
    end_until(f64::MAX, &mut producers, &came, &mut shadow, &steered);
    let last_us = EPOCH_US + now_us as u64;
    while shadow.advance(last_us + 300_000_000) {}
    shadow
}

fn end_until(
    until_us: f64,
    producers: &mut [Producer],
    came: &[(f64, f64)],
    shadow: &mut Shadow,
    steered: &impl Fn(u64, f64) -> f64,
) {
    loop {
        let dues = producers.iter().map(Producer::due_us).enumerate();
        let (which, due_us) = dues.min_by(|a, b| a.1.total_cmp(&b.1)).expect("instances");
        if due_us > until_us {
            return;
        }
        let Some(ended) = producers[which].end(due_us) else { continue };
        let (at_us, work_us) = came[ended.job];
        let request = Finished {
            at_us: EPOCH_US + at_us as u64,
            latency_us: due_us - at_us,
            work_us,
            steered_us: steered(ended.job as u64, work_us),
        };
        let now_us = EPOCH_US + due_us as u64;
        shadow.observe(request, now_us);
        shadow.advance(now_us);
    }
}

fn mean_s(report: &ShadowReport, policy: Policy) -> f64 {
    report.policies.iter().find(|one| one.policy == policy).expect("reported").figures.mean_s
}

#[test]
fn the_shadow_of_what_really_ran_agrees_with_what_was_measured() {
    let seed = 5;
    for form in [Form::ProcessorSharing, Form::WorkerPool] {
        let report = watched(setup(form, SPEEDS, 0.5), 60_000, seed, |_, work_us| work_us).report();
        let measured = report.measured.expect("measured");
        let ratio = mean_s(&report, Policy::LeastRequest) / measured.mean_s;
        println!("seed {seed}, {form:?}: shadow over measured {ratio:.3}; {report:#?}");
        assert!((ratio - 1.0).abs() < 0.1, "{ratio}");
        assert_eq!((report.late, report.emptied), (0, 0), "{} slices make one", report.stride);
    }
}

#[test]
fn a_good_predictor_is_worth_something_and_a_useless_one_nothing() {
    let seed = 6;
    println!("seed {seed}");
    let form = Form::ProcessorSharing;
    let good =
        watched(setup(form, SPEEDS, 0.5), 60_000, seed, |_, work_us| work_us).report().worth.expect("enough");
    // What the skill gate makes of a useless one, where there are no speeds to be known.
    let equal = setup(form, [1.0; 6], 0.25);
    let blind = watched(equal, 60_000, seed, |_, _| MEAN_US).report().worth.expect("enough");
    println!("good {good:?}, blind {blind:?}");
    assert!(good.mean < 0.95 && good.p99 < 0.9 && good.mean_slowdown < 0.95, "{good:?}");
    assert!((0.93..1.1).contains(&blind.mean), "{blind:?}");
}

#[test]
fn nothing_is_left_at_rest() {
    println!("seed 7");
    let shadow = watched(setup(Form::WorkerPool, SPEEDS, 0.5), 5_000, 7, |_, work_us| work_us);
    assert_eq!(shadow.in_flight(), 0);
}

proptest! {
    #[test]
    fn nothing_makes_it_grow_or_say_what_is_no_number(
        events in prop::collection::vec((any::<u64>(), any::<f64>(), any::<f64>(), any::<f64>(), 0u64..1 << 40), 0..300),
        speeds in prop::collection::vec(any::<f64>(), 0..5),
        temper: f64,
        slots in 0usize..4,
    ) {
        let mut shadow = Shadow::new();
        let members = (0..).zip(speeds).map(|(id, speed)| Member { id, speed }).collect();
        shadow.set(Setup { form: Form::WorkerPool, slots, temper, heavy_yields: 0.0, members, late_binding: true });
        let mut last_us = 0;
        for (at_us, latency_us, work_us, steered_us, now_us) in events {
            let at_us = at_us % (1 << 40);
            last_us = now_us.max(last_us);
            shadow.observe(Finished { at_us, latency_us, work_us, steered_us }, last_us);
            shadow.advance(last_us);
        }
        // What is begun only there still needs its time.
        for now_us in [1 << 50, 1 << 51] {
            while shadow.advance(now_us) {}
        }
        prop_assert_eq!(shadow.in_flight(), 0);
        let report = shadow.report();
        for figures in report.policies.iter().map(|one| one.figures).chain(report.measured) {
            prop_assert!([figures.mean_s, figures.p99_s, figures.mean_slowdown].iter().all(|one| one.is_finite()));
        }
    }
}
