//! A process under test: started, found ready, measured, and ended with the value that stands for it. Shared by the
//! benches that compare proxies.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A program that does not listen after this has failed.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running process; it is killed when this is dropped.
pub(crate) struct Contestant {
    /// For the table.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    process: Child,
    _files: Option<TempDir>,
}

impl Contestant {
    /// This program in another role, with `front` (if it is a proxy) and the instances as arguments.
    pub(crate) fn own_role(
        name: &'static str,
        front: Option<SocketAddr>,
        instances: &[SocketAddr],
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name).args(front.iter().chain(instances).map(SocketAddr::to_string));
        Self::start(name, front.unwrap_or(instances[0]), &mut command, None)
    }

    /// Starts a program and waits until it listens on `address`; `files` live as long as it does.
    pub(crate) fn start(
        name: &'static str,
        address: SocketAddr,
        command: &mut Command,
        files: Option<TempDir>,
    ) -> Result<Self> {
        let process = command.stdout(Stdio::null()).spawn().with_context(|| format!("starting {name}"))?;
        let mut contestant = Self { name, address, process, _files: files };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = contestant.process.try_wait()? {
                bail!("{name} ended at once: {status}");
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("{name} does not listen on {address}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(contestant)
    }

    /// CPU time of all its threads so far, user and system, in nanoseconds' resolution (`/proc/<pid>/stat` has only
    /// hundredths of a second: a tenth of what a round costs).
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.process.id().try_into()?))?;
        Ok(clock_gettime(clock)?.into())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to do about it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
