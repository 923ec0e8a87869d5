//! The end: requests in flight are finished, producers go with their master, the exit code says that all is well.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::client::{Answer, ask, eventually, get, post};
use crate::foretide::{Foretide, config, managed, run};
use crate::load::Load;
use crate::producer::{Producer, endpoints};
use crate::turn;

/// Requests due this long before the signal are certainly sent by then, also on a busy machine.
const SURELY_SENT: Duration = Duration::from_millis(700);

/// Processes whose parent this is.
fn children_of(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("Linux");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&child| parent_of(child) == Some(pid)).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    // The name, in brackets, may contain anything; the state and the parent come after it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

type InFlight = Vec<thread::JoinHandle<Result<Answer, String>>>;

/// The longest piece of work a producer does for one request, under way in the background.
fn slow_request(foretide: &Foretide) -> thread::JoinHandle<Result<Answer, String>> {
    let proxy = foretide.proxy;
    thread::spawn(move || ask(http::Method::GET, proxy, "/hash?n=500000", ""))
}

/// Slow requests of which at least so many were seen in flight. How long one takes depends on the machine, so a burst that was
/// over before anybody looked is followed by one twice as large.
fn slow_requests_in_flight(foretide: &Foretide, at_least: u8) -> InFlight {
    let mut burst = usize::from(at_least);
    eventually("the slow requests are in flight", || {
        let requests: InFlight = (0..burst).map(|_| slow_request(foretide)).collect();
        burst = (2 * burst).min(64);
        while !requests.iter().all(thread::JoinHandle::is_finished) {
            if foretide.metric("foretide_requests_in_flight", &[]) >= Some(f64::from(at_least)) {
                return Some(requests);
            }
        }
        None
    })
}

#[test]
fn sigterm_under_load_finishes_what_is_in_flight_and_leaves_no_orphan() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let mut foretide = Foretide::with(folder.path(), &config(&managed(2, 2)));
    let addresses = eventually("both producers serve", || {
        let report = foretide.api("/api/v1/producers");
        let instances = report["pools"][0]["instances"].as_array()?;
        let warm = instances.iter().filter(|instance| instance["state"] == "warm");
        let addresses: Vec<String> = warm.filter_map(|i| Some(i["address"].as_str()?.to_owned())).collect();
        (addresses.len() == 2).then_some(addresses)
    });
    let producers = children_of(foretide.pid());
    assert_eq!(producers.len(), 2, "two producers of its own");

    let load = Load::start(foretide.proxy, 20.0, &["/search?rows=500"]);
    load.until_finished(20);
    let slow = slow_requests_in_flight(&foretide, 3);
    let signalled = load.began.elapsed();
    foretide.signal(Signal::SIGTERM);
    for request in slow {
        let answer = request.join().expect("no panic").expect("answered in the drain");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let status = foretide.until_ended();
    assert_eq!(status.code(), Some(0), "{}", foretide.log());
    let summary = load.stop();
    let sent_before = |at_us: u64| Duration::from_micros(at_us) + SURELY_SENT < signalled;
    let sent: Vec<_> = summary.requests.iter().filter(|request| sent_before(request.at_us)).collect();
    assert!(!sent.is_empty());
    for request in sent {
        assert_eq!(request.status, 200, "sent before the signal at {signalled:?}: {request:?}");
    }
    assert!(
        summary.requests.iter().all(|request| [0, 200].contains(&request.status)),
        "after the signal requests are answered well or connections refused, no errors are made up"
    );

    for pid in producers {
        assert_eq!(parent_of(pid), None, "producer {pid} outlived its master");
    }
    for address in addresses {
        TcpListener::bind(&address).unwrap_or_else(|error| panic!("{address} is still in use: {error}"));
    }
}

#[test]
fn post_drain_is_seen_by_health_checks_before_the_end() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    // Slow enough that the drain outlasts all that is asked meanwhile, also on an idle machine.
    let producers = [Producer::start(0.03)];
    let mut foretide = Foretide::with(folder.path(), &config(&endpoints(&producers)));
    let admin = foretide.admin.to_string();
    let healthcheck = |arguments: &[&str]| {
        let all = [&["healthcheck", "--admin", &admin], arguments].concat();
        run(folder.path(), &all).status.code()
    };
    assert_eq!(healthcheck(&[]), Some(0));
    assert_eq!(healthcheck(&["--live"]), Some(0));

    let slow = slow_requests_in_flight(&foretide, 4);
    let asked = Instant::now();
    let answer = post(foretide.admin, "/drain", "");
    assert_eq!(answer.status, 202, "{answer:?}");
    let answer = get(foretide.admin, "/ready");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("draining"), "{answer:?}");
    assert_eq!(healthcheck(&[]), Some(1), "{:?} after the drain was asked for", asked.elapsed());
    assert_eq!(healthcheck(&["--live"]), Some(0));
    assert_eq!(foretide.api("/api/v1/info")["draining"], true);
    for request in slow {
        assert_eq!(request.join().expect("no panic").expect("answered in the drain").status, 200);
    }
    assert_eq!(foretide.until_ended().code(), Some(0), "{}", foretide.log());
    assert_eq!(healthcheck(&[]), Some(1), "nobody is there any more");
}
