//! Both kinds of producers under the proxy's own measurements: labels are exact, and the form is found out.

use foretide_predictor::time::Timestamp;
use foretide_routing::live::{LiveLoad, Ticket};
use foretide_shadow::producer::Producer;
use foretide_steering::score::Form;
use foretide_steering::serving::Serving;
use foretide_steering_lab::sizes::Sizes;
use foretide_steering_lab::world::World;
use std::sync::Arc;

const FORMS: [Form; 2] = [Form::ProcessorSharing, Form::WorkerPool];

/// A finished request: the service its producer gave it, and both measurements of that, microseconds.
struct Seen {
    service_us: f64,
    sharing_us: f64,
    in_turn_us: f64,
}

/// Sends the world's arrivals to whoever has the fewest requests and hands over every end.
fn play(world: &World, mut seen: impl FnMut(f64, Seen)) {
    let slots = world.slots as u32;
    let producer = |&speed: &f64| Producer::new(world.form, world.slots, speed, 0.0);
    let mut producers: Vec<Producer> = world.speeds.iter().map(producer).collect();
    let lives: Vec<Arc<LiveLoad>> = producers.iter().map(|_| Arc::default()).collect();
    let arrivals = world.arrivals();
    let mut tickets: Vec<Option<Ticket>> = arrivals.iter().map(|_| None).collect();
    let mut next = 0;
    loop {
        let arrives = arrivals.get(next).map_or(f64::INFINITY, |arrival| arrival.at_us);
        let due = producers.iter().map(Producer::due_us).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        let (index, ends) = due.expect("producers");
        if arrives < ends {
            let chosen = (0..producers.len()).min_by_key(|&index| producers[index].requests()).unwrap();
            tickets[next] = Some(Ticket::take(&lives[chosen], arrivals[next].work_us, slots, at(arrives)));
            producers[chosen].add(next, arrivals[next].work_us, arrives);
            next += 1;
        } else if ends.is_finite() {
            while let Some(ended) = producers[index].end(ends) {
                let attained = tickets[ended.job].take().expect("ends once").finish(at(ends));
                let (sharing_us, in_turn_us) = (attained.sharing_us, attained.in_turn_us);
                seen(
                    arrivals[ended.job].work_us,
                    Seen { service_us: ended.service_us, sharing_us, in_turn_us },
                );
            }
        } else {
            break;
        }
    }
    assert!(tickets.iter().all(Option::is_none), "everybody was served");
}

fn at(us: f64) -> Timestamp {
    Timestamp::from_us(us as u64)
}

#[test]
fn the_fitting_measurement_is_the_service_that_the_producer_gave() {
    let seed = 11;
    println!("seed {seed}");
    for form in FORMS {
        for slots in [1, 4] {
            let world = World { slots, ..World::quiet(form, Sizes::Api, 1, 0.9).with(40_000, seed) };
            let (mut waited, mut wrong) = (0, 0);
            play(&world, |_, seen| {
                let measured = if form == Form::WorkerPool { seen.in_turn_us } else { seen.sharing_us };
                let off = measured - seen.service_us;
                // Times are whole microseconds, and who shares counts a fraction of each event's.
                wrong += usize::from(off.abs() > 3.0 + 0.01 * seen.service_us);
                // Who is overtaken by more than is kept has its wait taken off by and large.
                assert!(off > -3.0 - 0.01 * seen.service_us, "{off}");
                waited += usize::from((seen.sharing_us - seen.in_turn_us).abs() > 10.0);
            });
            println!("{form:?} on {slots}: {waited} of 40000 waited, {wrong} measured otherwise");
            assert!(waited > 1_000);
            // One worker serves nobody meanwhile, and nobody is overtaken.
            assert!(wrong <= if slots == 1 { 0 } else { 10 });
        }
    }
}

#[test]
fn the_form_is_found_out_whatever_was_assumed_and_never_flaps() {
    let sizes = [
        ("bimodal", Sizes::Bimodal(0.05)),
        ("rare", Sizes::Bimodal(0.005)),
        ("pareto", Sizes::Pareto { alpha: 1.5, least: 2.0, most: 20_000.0 }),
        ("api", Sizes::Api),
        ("exponential", Sizes::Exponential(5.0)),
        ("constant", Sizes::Constant(5.0)),
    ];
    for (seed, (name, sizes)) in (20..).zip(sizes) {
        for (form, assumed) in FORMS.into_iter().flat_map(|form| FORMS.map(|assumed| (form, assumed))) {
            let world = World::unequal(form, sizes, 1, 0.9).with(60_000, seed);
            let world = World { speeds: vec![0.6, 1.0, 1.0, 1.6], ..world };
            for predictor in ["by size", "constant"] {
                let (changes, serving) = found(&world, assumed, predictor == "constant");
                let ratio = serving.ratio();
                println!(
                    "seed {seed} {name} {predictor}: {form:?}, assumed {assumed:?}: {ratio:?} from {} in {changes} changes, {:.3} early",
                    serving.seen(),
                    serving.early()
                );
                assert_eq!((serving.form(), changes), (form, u32::from(form != assumed)));
            }
        }
    }
}

/// What expects the running mean of the logs of a size's octave, or of all, by the form in force: as wrong as that is.
fn found(world: &World, assumed: Form, constant: bool) -> (u32, Serving) {
    let mut serving = Serving::assuming(assumed);
    let mut means = [8.0f64; 64];
    let mut changes = 0;
    play(world, |work_us, seen| {
        let mean = &mut means[if constant { 0 } else { work_us.log2().clamp(0.0, 63.0) as usize }];
        changes += u32::from(serving.observe(seen.sharing_us, seen.in_turn_us, mean.exp()));
        let label = if serving.form() == Form::WorkerPool { seen.in_turn_us } else { seen.sharing_us };
        if label > 0.0 {
            *mean += 0.05 * (label.ln() - *mean);
        }
    });
    (changes, serving)
}
