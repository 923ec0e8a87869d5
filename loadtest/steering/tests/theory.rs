//! The laboratory against queueing theory, within 2 %.

use foretide_steering::score::Form;
use foretide_steering_lab::policy::Policy;
use foretide_steering_lab::run::run;
use foretide_steering_lab::sizes::Sizes;
use foretide_steering_lab::world::World;

const SEEDS: [u64; 2] = [21, 22];
const REQUESTS: usize = 2_000_000;
const TOLERANCE: f64 = 0.02;

/// Mean response time of one undisturbed instance of speed 1, milliseconds.
fn mean_ms(form: Form, slots: usize, sizes: Sizes, load: f64) -> f64 {
    let world =
        |seed| World { slots, speeds: vec![1.0], ..World::quiet(form, sizes, 1, load).with(REQUESTS, seed) };
    let means = SEEDS.map(|seed| run(&world(seed), &world(seed).arrivals(), Policy::Random).mean_ms);
    means.iter().sum::<f64>() / means.len() as f64
}

fn assert_close(what: &str, found: f64, theory: f64) {
    println!("{what}: {found:.3} ms, theory {theory:.3} ms, seeds {SEEDS:?}");
    assert!((found / theory - 1.0).abs() < TOLERANCE, "{what}: {found} ms, theory {theory} ms");
}

/// M/M/1: E[T] = E[S] / (1 − rho), under FIFO and under processor sharing.
#[test]
fn one_server_with_exponential_work() {
    for form in [Form::WorkerPool, Form::ProcessorSharing] {
        let found = mean_ms(form, 1, Sizes::Exponential(9.0), 0.7);
        assert_close(&format!("M/M/1 {form:?}"), found, 9.0 / 0.3);
    }
}

/// M/G/1 processor sharing: the mean depends on the mean work only (insensitivity; Kleinrock 1976).
#[test]
fn processor_sharing_is_insensitive() {
    for sizes in [Sizes::Constant(5.95), Sizes::Bimodal(0.05), Sizes::LogNormal { mean: 5.0, sigma: 1.0 }] {
        let found = mean_ms(Form::ProcessorSharing, 1, sizes, 0.7);
        assert_close(&format!("M/G/1-PS {sizes:?}"), found, sizes.mean_ms() / 0.3);
    }
}

/// M/G/1 FIFO: W = λ E[S²] / (2 (1 − rho)) (Pollaczek–Khinchine).
#[test]
fn waiting_grows_with_the_second_moment() {
    let (sizes, load) = (Sizes::Bimodal(0.05), 0.7);
    let second = 0.05 * 100.0f64.powi(2) + 0.95;
    let rate = load / sizes.mean_ms();
    let theory = sizes.mean_ms() + rate * second / (2.0 * (1.0 - load));
    assert_close("Pollaczek–Khinchine", mean_ms(Form::WorkerPool, 1, sizes, load), theory);
}

/// M/M/4: W = C(4, a) · E[S] / (4 − a) (Erlang C).
#[test]
fn four_workers_follow_erlang_c() {
    let (mean, load) = (6.0, 0.85);
    let offered: f64 = 4.0 * load;
    let terms: Vec<f64> = (0..=4)
        .scan(1.0, |term, k| {
            let now = *term;
            *term *= offered / f64::from(k + 1);
            Some(now)
        })
        .collect();
    let waiting = terms[4] / (1.0 - load);
    let probability = waiting / (terms[..4].iter().sum::<f64>() + waiting);
    let theory = mean + probability * mean / (4.0 - offered);
    assert_close("Erlang C", mean_ms(Form::WorkerPool, 4, Sizes::Exponential(mean), load), theory);
}
