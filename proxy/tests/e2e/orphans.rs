//! SIGKILL of Foretide itself: the next start ends the producers that nobody stopped.

use std::fs;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::client::{eventually, get};
use crate::foretide::{Foretide, config, managed};
use crate::turn;

#[test]
fn producers_of_a_killed_foretide_are_ended_by_the_next_one() {
    let _turn = turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let text = config(&managed(2, 3));
    let mut foretide = Foretide::with(folder.path(), &text);
    let named = || {
        let text = fs::read_to_string(folder.path().join("state/producers")).unwrap_or_default();
        let pid = |line: &str| line.split(' ').next().and_then(|pid| pid.parse::<i32>().ok());
        text.lines().skip(1).filter_map(pid).map(Pid::from_raw).collect::<Vec<_>>()
    };
    let before = eventually("both producers are written down", || Some(named()).filter(|all| all.len() == 2));
    // A zombie has ended; not every container has somebody to bury it.
    let runs = |pid: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    };
    foretide.signal(Signal::SIGKILL);
    // Its log is held open by the producers, so that only the process itself is waited for.
    eventually("foretide is gone", || foretide.has_ended().then_some(()));
    assert!(before.iter().all(runs), "nobody was there to stop them");

    let again = Foretide::with(folder.path(), &text);
    assert!(again.log().contains("producers of an earlier Foretide still run"), "{}", again.log());
    eventually("the old producers end", || (!before.iter().any(runs)).then_some(()));
    assert_eq!(get(again.proxy, "/search?rows=10").status, 200);
    again.stop();
    assert!(named().is_empty(), "who ends in good order leaves nobody behind");
}
