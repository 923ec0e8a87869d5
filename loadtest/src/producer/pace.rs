//! A fleet of sample producers, fitted to the machine it runs on.
//!
//! The work is real, so a machine twice as fast would need half the instances and show nothing, and one half as fast
//! would drown. The shares of a core that instances get follow from how long this machine takes over a fixed piece of
//! the usual traffic; where the cores do not suffice, there is less traffic.
//!
//! Known weakness: a machine whose speed changes after that (a noisy neighbour, heat) shows something else.

use std::thread;
use std::time::Duration;

use super::emulated_core::{Progress, thread_cpu_time};
use super::warehouse::Warehouse;
use super::work::Work;
use crate::traffic::schedule::{PlannedRequest, Shape, arrivals, default_mix};

/// Shares of one core that instances get, by port, on a machine that takes [`USUAL_CPU`]: unequal, as machines are, and
/// together less than two cores, so that a demo measures the proxy's choices and not the machine's limits.
const SPEEDS: [f64; 6] = [0.30, 0.20, 0.28, 0.16, 0.25, 0.22];

/// Requests whose work is measured: a second and a half with the pauses, and the heavy ones among them have their usual share.
const MEASURED_REQUESTS: usize = 100;

/// CPU time of these on the machine that [`SPEEDS`] are for; then a request takes some 8 ms of a core.
const USUAL_CPU: Duration = Duration::from_millis(800);

/// After each step, as a core with a quota has them: one that works without a pause does the same in a tenth to a fifth less CPU
/// time, and the fleet would be too slow for the traffic.
const PAUSE: Duration = Duration::from_millis(3);

/// The fleet may keep this share of the machine's cores busy; proxy, clients and the rest need some too.
const MOST_OF_THE_MACHINE: f64 = 0.75;

/// What a demo may use of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Shares of one core that instances get, by port.
    pub speeds: [f64; 6],
    /// Traffic that this machine can carry, over the usual traffic: at most 1.
    pub traffic_ratio: f64,
}

impl Machine {
    /// Measures this one; blocks for some two seconds. Where that cannot be done it is taken for a usual one.
    pub fn measured() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self::of(cpu_time_beside_others().unwrap_or(USUAL_CPU), cores)
    }

    fn of(cpu: Duration, cores: usize) -> Self {
        let wanted = cpu.as_secs_f64() / USUAL_CPU.as_secs_f64();
        let room = MOST_OF_THE_MACHINE * cores as f64 / SPEEDS.iter().sum::<f64>();
        // The fastest instance is one thread: it cannot have more than a core.
        let slowdown = wanted.min(room).min(1.0 / SPEEDS.iter().copied().fold(0.0, f64::max)).max(0.1);
        Self {
            speeds: SPEEDS.map(|speed| (speed * slowdown * 1e3).round() / 1e3),
            traffic_ratio: (slowdown / wanted.max(1e-3)).min(1.0),
        }
    }

    /// The speed that a port gets: the producer chooses by the same rule.
    pub fn speed_of(&self, port: u16) -> f64 {
        speed_by_port(&self.speeds, port)
    }
}

/// The speed of a list that a port gets: in turn.
pub fn speed_by_port(speeds: &[f64], port: u16) -> f64 {
    speeds.get(usize::from(port) % speeds.len().max(1)).copied().unwrap_or(1.0)
}

/// CPU time of the measured requests on two threads at once, as instances do them.
fn cpu_time_beside_others() -> Option<Duration> {
    thread::scope(|scope| {
        let workers = [0, 1].map(|worker| {
            let requests = measured_requests().skip(worker).step_by(2);
            scope.spawn(move || cpu_time_of(requests, worker as u64))
        });
        workers.into_iter().map(|worker| worker.join().ok().flatten()).sum()
    })
}

/// CPU time of these requests, one after the other on the caller's thread, with pauses; making their data does not count.
/// Blocks for all that, and some 0.2 s more. `None`: SQLite has no memory, or one is not for the sample producer.
fn cpu_time_of(requests: impl Iterator<Item = PlannedRequest>, seed: u64) -> Option<Duration> {
    let mut warehouse = Warehouse::stocked(seed, |piece| piece())?;
    let mut used = Duration::ZERO;
    for request in requests {
        let (path, query) = request.path_and_query.split_once('?').unwrap_or((&request.path_and_query, ""));
        let mut work = Work::parse(path, query, &request.tenant)?.ok()?;
        loop {
            let before = thread_cpu_time();
            let progress = work.step(&mut warehouse);
            used += thread_cpu_time().saturating_sub(before);
            match progress {
                Progress::More => thread::park_timeout(PAUSE),
                Progress::Done(_) => break,
                Progress::Failed => return None,
            }
        }
    }
    Some(used)
}

/// Always the same ones.
fn measured_requests() -> impl Iterator<Item = PlannedRequest> {
    let shape = Shape {
        seed: 7,
        duration: Duration::from_secs(600),
        rate_per_s: 24.0,
        day: Duration::from_secs(60),
        amplitude: 0.0,
        campaign: None,
        tenants: 20,
        mix: default_mix(),
    };
    arrivals(shape).take(MEASURED_REQUESTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(machine: &Machine) -> f64 {
        machine.speeds.iter().sum()
    }

    #[test]
    fn work_over_speed_is_the_same_on_any_machine_that_is_fast_enough() {
        let usual = Machine::of(USUAL_CPU, 2);
        assert_eq!((usual.speeds, usual.traffic_ratio), (SPEEDS, 1.0));
        let fast = Machine::of(USUAL_CPU / 2, 2);
        assert!((total(&fast) * 2.0 / total(&usual) - 1.0).abs() < 0.01, "{fast:?}");
        let slow = Machine::of(USUAL_CPU * 2, 8);
        assert!((total(&slow) / 2.0 / total(&usual) - 1.0).abs() < 0.01, "{slow:?}");
        assert_eq!((fast.traffic_ratio, slow.traffic_ratio), (1.0, 1.0));
    }

    #[test]
    fn where_cores_do_not_suffice_there_is_less_traffic() {
        let slow = Machine::of(USUAL_CPU * 2, 2);
        assert!(total(&slow) <= 1.505, "{slow:?}");
        assert!((slow.traffic_ratio - total(&slow) / total(&Machine::of(USUAL_CPU, 2)) / 2.0).abs() < 0.01);
        let one_core = Machine::of(USUAL_CPU * 20, 64);
        assert!(one_core.speeds.iter().all(|speed| *speed <= 1.0), "{one_core:?}");
    }

    #[test]
    fn no_work_at_all_is_survived() {
        let machine = Machine::of(Duration::ZERO, 1);
        assert!(machine.speeds.iter().all(|speed| *speed >= 0.01), "{machine:?}");
        assert_eq!(machine.traffic_ratio, 1.0);
    }

    #[test]
    fn the_measured_requests_can_be_done() {
        let cpu = cpu_time_of(measured_requests().take(3), 1);
        assert!(cpu.is_some_and(|cpu| cpu > Duration::ZERO), "{cpu:?}");
    }
}
