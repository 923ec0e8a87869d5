//! One producer's life: wait for a turn, take a port, start, probe until ready, warm, watch, stop.
//!
//! ```text
//! (wish) → Started → Ready → Exited{asked}
//!              └─→ Failed{why}          why: no port, no program, ended early (with its last words), too slow
//! ```
//! A stop during the start ends in `Exited { asked: true }`.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use foretide_control::io::FleetEvent;
use foretide_predictor::id::InstanceId;
use foretide_routing::settings::ProcessManager;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::ask::Speech;
use super::process::Shared;

/// Time between two readiness probes: a tenth of the shortest cold start worth speaking of.
const PROBE_EVERY: Duration = Duration::from_millis(75);

/// A single readiness probe that hangs is given up and made anew.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Kept of what a producer says on standard error: enough for a panic message with its location.
const LAST_WORDS_BYTES: usize = 4096;

/// After a process has ended its standard error is read for so long at most; a child of its own may hold it open.
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(200);

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    Stop,
}

/// Drives one instance.
pub(super) struct Supervisor {
    pub(super) instance: InstanceId,
    /// Stands for `{instance}`: pool name and number.
    pub(super) label: String,
    pub(super) manager: Arc<ProcessManager>,
    pub(super) speech: Speech,
    pub(super) wished: watch::Receiver<Wish>,
    pub(super) fleet: Arc<Shared>,
}

/// A running process with what is needed to end it.
struct Running {
    child: Child,
    group: Option<Pid>,
    last_words: JoinHandle<String>,
}

/// How a start ended.
enum Start {
    Ready,
    Ended(String),
    TooSlow,
    Stopped,
}

impl Supervisor {
    pub(super) async fn run(self) {
        let event = self.live().await;
        // First free, then told: whoever hears of the end may start it anew.
        self.fleet.forget(self.instance);
        self.fleet.tell(event).await;
    }

    /// From the wish to the end; the last event is returned.
    async fn live(&self) -> FleetEvent {
        let wished_at = Instant::now();
        let turn = tokio::select! {
            turn = self.fleet.starts.acquire() => turn,
            () = self.stop_wished() => return self.exited(true),
        };
        let Some(port) = self.fleet.ports().take(self.manager.ports) else {
            let (first, last) = self.manager.ports;
            return self.failed(format!("no free port in {first}-{last}"));
        };
        let mut process = match self.spawn(port) {
            Ok(process) => process,
            Err(error) => {
                self.fleet.ports().give_back(port);
                let program = self.manager.command.first().map_or("", String::as_str);
                return self.failed(format!("cannot start `{program}`: {error}"));
            }
        };
        self.fleet.ledger.began(process.group);
        let address = format!("127.0.0.1:{port}");
        self.fleet.tell(FleetEvent::Started { instance: self.instance, address: address.clone() }).await;
        let start = self.start_up(&mut process, &address, wished_at + self.manager.start_timeout).await;
        drop(turn);
        let event = match start {
            Start::Ready => {
                let took = wished_at.elapsed();
                self.fleet.tell(FleetEvent::Ready { instance: self.instance, took }).await;
                self.serve(&mut process).await
            }
            Start::Stopped => self.exited(true),
            Start::Ended(how) => {
                let words = last_words(&mut process).await;
                self.failed(format!("ended before it was ready ({how}){words}"))
            }
            Start::TooSlow => {
                let limit = self.manager.start_timeout.as_secs_f64();
                let path = &self.manager.ready_path;
                self.failed(format!("not ready after {limit:.1} s: {path} at {address} gave no 2xx"))
            }
        };
        let group = process.group;
        self.end(process).await;
        self.fleet.ledger.ended(group);
        self.fleet.ports().give_back(port);
        event
    }

    async fn start_up(&self, process: &mut Running, address: &str, deadline: Instant) -> Start {
        let ready_and_warm = async {
            let (asker, path) = (&self.fleet.asker, &self.manager.ready_path);
            while !asker.succeeds(address, &self.speech, path, PROBE_TIMEOUT).await {
                sleep(PROBE_EVERY).await;
            }
            // Ready counts even if warming does not finish in time.
            let warming = async {
                for path in &self.manager.warm_paths {
                    asker.warm(address, &self.speech, path).await;
                }
            };
            let _ = timeout_at(deadline, warming).await;
        };
        // The process's end comes first: whoever else may answer on the port is not our producer.
        tokio::select! {
            biased;
            status = process.child.wait() => Start::Ended(describe(status)),
            () = self.stop_wished() => Start::Stopped,
            () = ready_and_warm => Start::Ready,
            () = tokio::time::sleep_until(deadline) => Start::TooSlow,
        }
    }

    /// Until it ends by itself or is to stop.
    async fn serve(&self, process: &mut Running) -> FleetEvent {
        tokio::select! {
            biased;
            () = self.stop_wished() => self.exited(true),
            status = process.child.wait() => {
                let how = describe(status);
                let words = last_words(process).await;
                tracing::warn!(instance = %self.label, "producer ended ({how}){words}");
                self.exited(false)
            }
        }
    }

    fn spawn(&self, port: u16) -> std::io::Result<Running> {
        let fill =
            |text: &String| text.replace("{port}", &port.to_string()).replace("{instance}", &self.label);
        let mut words = self.manager.command.iter().map(fill);
        let program = words.next().ok_or_else(|| std::io::Error::other("the command is empty"))?;
        let mut child = Command::new(executable(&program))
            .args(words)
            .envs(self.manager.environment.iter().map(|(name, value)| (name, fill(value))))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let last_words = tokio::spawn(keep_last_words(child.stderr.take()));
        Ok(Running { child, group, last_words })
    }

    /// SIGTERM, the grace, SIGKILL; returns when the process is gone. For one that has ended it only clears what is
    /// left of its group.
    async fn end(&self, mut process: Running) {
        let asked = process.child.id().is_some() && signal(process.group, Signal::SIGTERM);
        if asked && timeout(self.manager.stop_grace, process.child.wait()).await.is_err() {
            tracing::warn!(instance = %self.label, "producer did not stop in time and is killed");
        }
        // Also after a clean end: the group may hold children that it left behind.
        signal(process.group, Signal::SIGKILL);
        let _ = process.child.wait().await;
        process.last_words.abort();
    }

    async fn stop_wished(&self) {
        let mut wished = self.wished.clone();
        // A dropped sender means that the fleet has given the instance up.
        let _ = wished.wait_for(|&wish| wish == Wish::Stop).await;
    }

    fn exited(&self, asked: bool) -> FleetEvent {
        FleetEvent::Exited { instance: self.instance, asked }
    }

    fn failed(&self, why: String) -> FleetEvent {
        FleetEvent::Failed { instance: self.instance, why }
    }
}

/// Whether there was somebody to hear it.
fn signal(group: Option<Pid>, signal: Signal) -> bool {
    group.is_some_and(|group| killpg(group, signal).is_ok())
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("unknown: {error}"),
    }
}

/// Reads to the end and keeps the tail: a full pipe would block the producer.
async fn keep_last_words(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut kept: Vec<u8> = Vec::with_capacity(2 * LAST_WORDS_BYTES);
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        if kept.len() > 2 * LAST_WORDS_BYTES - chunk.len() {
            kept.drain(..kept.len() - LAST_WORDS_BYTES);
        }
    }
    kept.drain(..kept.len().saturating_sub(LAST_WORDS_BYTES));
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// `: ` and what it said last, or nothing.
async fn last_words(process: &mut Running) -> String {
    match timeout(LAST_WORDS_PATIENCE, &mut process.last_words).await {
        Ok(Ok(words)) if !words.is_empty() => format!(": {words}"),
        _ => String::new(),
    }
}

/// The bare name `foretide` means this very program: the sample producer is part of it and need not be on the PATH.
fn executable(program: &str) -> PathBuf {
    match std::env::current_exe() {
        Ok(this) if program == "foretide" => this,
        _ => PathBuf::from(program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_flood_only_the_tail_is_kept() {
        let flood = format!("{}\nthe end", "x".repeat(100_000));
        let words = keep_last_words(Some(flood.as_bytes())).await;
        assert!(words.ends_with("the end"));
        assert_eq!(words.len(), LAST_WORDS_BYTES);
    }
}
