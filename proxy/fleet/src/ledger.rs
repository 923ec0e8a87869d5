//! Producers that outlived the Foretide that started them.
//!
//! If Foretide is killed with SIGKILL, nobody is left to stop its producers. So it writes down, in a file of the state
//! directory, the process id and the start time of each that it runs; the next start ends those that still run. The start
//! time (in the system's ticks since boot) and the boot's own id tell a producer from a stranger who got its number later.
//! The state directory is locked by one process, so what the file names belongs to nobody else.
//!
//! Known weakness: only where `/proc` tells start times (Linux); elsewhere nothing is written and nobody is ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// Name of the file in the state directory.
const LEDGER_FILE: &str = "producers";
/// Leftovers that do not end by themselves in this time are killed.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A process that is no other: its id and when it started, in ticks since boot.
type Leftover = (i32, u64);

/// Who runs now, on disk. Without a directory it remembers nothing.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    directory: Option<PathBuf>,
    running: Mutex<BTreeMap<i32, u64>>,
}

impl Ledger {
    /// In this directory, with those whom an earlier process left behind. They are no part of the new ledger.
    pub(super) fn open(directory: &Path) -> (Self, Vec<Leftover>) {
        let text = fs::read_to_string(directory.join(LEDGER_FILE)).unwrap_or_default();
        let left = leftovers(&text, &boot_id().unwrap_or_default(), started);
        (Self { directory: Some(directory.to_owned()), running: Mutex::default() }, left)
    }

    /// A producer runs.
    pub(super) fn began(&self, pid: Option<Pid>) {
        if let Some((pid, start)) = pid.and_then(|pid| Some((pid.as_raw(), started(pid.as_raw())?))) {
            self.change(|running| running.insert(pid, start));
        }
    }

    /// It has ended, and its group.
    pub(super) fn ended(&self, pid: Option<Pid>) {
        if let Some(pid) = pid {
            self.change(|running| running.remove(&pid.as_raw()));
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<i32, u64>) -> Option<u64>) {
        let Some(directory) = &self.directory else { return };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        if let Err(error) = write(directory, &running) {
            tracing::warn!(%error, "producers not written down: killed now, Foretide would leave them behind");
        }
    }
}

/// Not forced to disk: after a crash of the machine there are no producers left.
fn write(directory: &Path, running: &BTreeMap<i32, u64>) -> io::Result<()> {
    let lines = running.iter().map(|(pid, start)| format!("{pid} {start}\n")).collect::<String>();
    let beside = directory.join(format!("{LEDGER_FILE}.new"));
    fs::write(&beside, format!("{}\n{lines}", boot_id().unwrap_or_default()))?;
    fs::rename(beside, directory.join(LEDGER_FILE))
}

/// Those of the file that still run, by what `started` says of them.
fn leftovers(text: &str, boot: &str, started: impl Fn(i32) -> Option<u64>) -> Vec<Leftover> {
    let Some((of_boot, lines)) = text.split_once('\n') else { return Vec::new() };
    let parse = |line: &str| {
        let (pid, start) = line.split_once(' ')?;
        Some((pid.parse().ok()?, start.parse().ok()?))
    };
    let same = |left: &Leftover| left.0 > 1 && started(left.0) == Some(left.1);
    let left = lines.lines().filter_map(parse).filter(same);
    if boot.is_empty() || of_boot != boot { Vec::new() } else { left.collect() }
}

/// Asks them to end, with all that they started, and kills those that do not.
pub(super) async fn end(leftovers: Vec<Leftover>) {
    let runs = |left: &&Leftover| started(left.0) == Some(left.1);
    let tell = |signal| {
        for left in leftovers.iter().filter(runs) {
            // One that has just ended needs no signal.
            let _ = killpg(Pid::from_raw(left.0), signal);
        }
    };
    tell(Signal::SIGTERM);
    let asked = Instant::now();
    while asked.elapsed() < GRACE && leftovers.iter().any(|left| runs(&left)) {
        sleep(LOOK_EVERY).await;
    }
    tell(Signal::SIGKILL);
    tracing::info!(count = leftovers.len(), "producers of an earlier Foretide have been ended");
}

/// This boot of the machine.
fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// When a process started, in ticks since boot; `None`: it does not run (one that waits for its parent does not either).
fn started(pid: i32) -> Option<u64> {
    start_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/PID/stat`, see proc(5). The name in field 2 may hold anything, so it is counted from its end.
fn start_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_processes_count() {
        let started =
            |pid| [(100, 7), (101, 8)].into_iter().find(|known| known.0 == pid).map(|known| known.1);
        let text = "boot\n100 7\n101 9\n102 5\n1 1\nnonsense\n-5 7\n";
        assert_eq!(leftovers(text, "boot", started), [(100, 7)]);
        assert!(leftovers(text, "another boot", started).is_empty());
        assert!(leftovers("", "", started).is_empty());
        assert!(leftovers("\n100 7\n", "", started).is_empty(), "a boot without an id proves nothing");
    }

    #[test]
    fn a_start_is_found_behind_any_name() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1000 5 18446744073709551615";
        assert_eq!(start_in(stat), Some(4_242));
        assert_eq!(start_in(&stat.replace(") S", ") Z")), None);
        assert_eq!(start_in("7 (a"), None);
        assert!(started(i32::try_from(std::process::id()).unwrap()).is_some(), "this very process");
    }

    #[test]
    fn the_file_names_who_runs_now() {
        let folder = tempfile::tempdir().unwrap();
        let me = Some(Pid::this());
        let (ledger, left) = Ledger::open(folder.path());
        assert!(left.is_empty());
        ledger.began(me);
        let (_, left) = Ledger::open(folder.path());
        assert_eq!(left.iter().map(|left| left.0).collect::<Vec<_>>(), [Pid::this().as_raw()]);
        ledger.ended(me);
        assert!(Ledger::open(folder.path()).1.is_empty());
    }
}
