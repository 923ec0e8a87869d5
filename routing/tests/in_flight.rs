//! What scans see of the work in flight is right as soon as nobody changes it, also after changes at the same moment.

use foretide_predictor::time::Timestamp;
use foretide_routing::live::{LiveLoad, Ticket};
use foretide_steering::buckets::Newcomer;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const WORKS_US: [f64; 2] = [100.0, 90_000.0];
const ROUNDS: usize = 20_000;

/// What a light and a heavy newcomer meet.
fn met_us(live: &LiveLoad) -> [f32; 2] {
    [50.0, 1e6].map(|work_us| live.interference_us(Newcomer::of(work_us)))
}

/// Waits without sleeping, so that both go on at the same moment.
fn meet(arrivals: &AtomicUsize, meeting: usize) {
    arrivals.fetch_add(1, SeqCst);
    while arrivals.load(SeqCst) < meeting * WORKS_US.len() {
        std::thread::yield_now();
    }
}

/// Takes and drops a ticket in turn, each at the same moment as the other thread; what was wrong after that, if anything was.
fn take_and_drop(live: &Arc<LiveLoad>, arrivals: &AtomicUsize, work_us: f64) -> Vec<(usize, [f32; 2])> {
    let mut ticket = None;
    let wrong = |round: usize| {
        meet(arrivals, 2 * round + 1);
        ticket = ticket.is_none().then(|| Ticket::take(live, work_us, 4, Timestamp::ZERO));
        meet(arrivals, 2 * round + 2);
        let right = if round.is_multiple_of(2) { [100.0, 90_100.0] } else { [0.0; 2] };
        let seen = met_us(live);
        (seen != right).then_some((round, seen))
    };
    (0..ROUNDS).filter_map(wrong).collect()
}

#[test]
fn two_changes_at_the_same_moment_are_both_seen() {
    let (live, arrivals) = (Arc::new(LiveLoad::default()), AtomicUsize::new(0));
    let (live, arrivals) = (&live, &arrivals);
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let threads = WORKS_US.map(|work_us| scope.spawn(move || take_and_drop(live, arrivals, work_us)));
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(wrong.is_empty(), "{} of {ROUNDS} rounds, first {:?}", wrong.len(), wrong[0]);
}
