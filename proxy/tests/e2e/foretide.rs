//! A running `foretide run`, and the configurations it runs with.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::{ask, eventually, get};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_foretide");

/// Runs a command of the binary to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("foretide {arguments:?}: {error}"))
}

/// What was printed, both streams.
pub(crate) fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The process; told to end, and killed if it does not, when dropped.
pub(crate) struct Foretide {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Foretide {
    /// Starts with this configuration file, in its folder, and waits until it is ready.
    pub(crate) fn start(config: &Path) -> Self {
        let mut child = Command::new(BINARY)
            .args(["run", "--config"])
            .arg(config)
            .current_dir(config.parent().expect("a folder"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("foretide starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("piped");
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                *lines.lock().expect("no panic while writing") += &(line + "\n");
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child, log, reader: Some(reader), proxy: nowhere, admin: nowhere };
        running.proxy = running.said("listening address=");
        running.admin = running.said("dashboard and API on http://");
        running.until_ready();
        running
    }

    /// Writes the configuration to `foretide.toml` in this folder and starts with it.
    pub(crate) fn with(folder: &Path, config: &str) -> Self {
        Self::start(&write_config(folder, config))
    }

    fn said(&mut self, before: &str) -> SocketAddr {
        eventually(&format!("the log says `{before}`"), || {
            let log = self.log();
            if let Some(status) = self.child.try_wait().expect("asked") {
                panic!("foretide ended with {status}:\n{log}");
            }
            let after = log.split(before).nth(1)?;
            let (address, _) = after.split_once(['\n', '/', ' '])?;
            Some(address.parse().unwrap_or_else(|error| panic!("{address}: {error}\n{log}")))
        })
    }

    pub(crate) fn until_ready(&self) {
        eventually("it is ready", || {
            ask(http::Method::GET, self.admin, "/ready", "").ok().filter(|answer| answer.status == 200)
        });
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic while writing").clone()
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal::kill(Pid::from_raw(self.pid()), which).expect("it runs");
    }

    /// GET of the admin API, which must be good JSON.
    pub(crate) fn api(&self, path: &str) -> Value {
        let answer = get(self.admin, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub(crate) fn metrics(&self) -> String {
        let answer = get(self.admin, "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Sum of all samples of a metric whose labels contain all of these; `None`: there is no such sample.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.metrics();
        let of_name = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        let values = of_name.map(|line| {
            let value = line.rsplit(' ').next().unwrap_or_default();
            value.parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"))
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// Whether the process is gone.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("asked").is_some()
    }

    /// Waits for the end, which must come.
    pub(crate) fn until_ended(&mut self) -> ExitStatus {
        let status = eventually("foretide ends", || self.child.try_wait().expect("asked"));
        if let Some(reader) = self.reader.take() {
            // Its producers, should they outlive it, hold the pipe open; that must not hold up the test.
            eventually("the log ends with the process", || reader.is_finished().then_some(()));
        }
        status
    }

    /// SIGTERM and a clean end.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.until_ended();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.log()
    }
}

impl Drop for Foretide {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of foretide {} ---\n{}",
                self.pid(),
                self.log.lock().map(|log| log.clone()).unwrap_or_default()
            );
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Gently first, so that it takes its producers with it.
        let _ = signal::kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(15) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes `foretide.toml` by rename, as careful editors do.
pub(crate) fn write_config(folder: &Path, config: &str) -> PathBuf {
    let (file, beside) = (folder.join("foretide.toml"), folder.join("foretide.toml.new"));
    std::fs::write(&beside, config).expect("written");
    std::fs::rename(&beside, &file).expect("renamed");
    file
}

/// What most tests run: one route and a pool of the given instances, learning at the pace of a test.
pub(crate) fn config(pool: &str) -> String {
    format!("{HEAD}{ROUTE}\n[pools.work]\nconcurrency = 1\n{pool}\n")
}

/// Everything before the routes. Two threads, as on a small machine; steps of a tenth of a second.
pub(crate) const HEAD: &str = r#"version = 1
[server]
listen = ["127.0.0.1:0"]
threads = 2
state_dir = "state"
drain_timeout = "60s"
[admin]
listen = "127.0.0.1:0"
[access_log]
path = "access.log"
[learning]
step = "100ms"
seasons = ["2s"]
horizons = ["500ms", "1s"]
history = "1m"
refit_every = "500ms"
retrain_every = "1s"
retrain_rows = 100
"#;

/// A route that takes all.
pub(crate) const ROUTE: &str = r#"
[[routes]]
name = "all"
pool = "work"
consumer = ["header:x-tenant"]
parameters = ["segment:0:category", "query:rows:number", "query:n:number"]
"#;

/// A managed pool that acts, with ports of its own.
pub(crate) fn managed(floor: u16, ceiling: u16) -> String {
    let first = crate::ports::neighbours(ceiling + 2);
    let last = first + ceiling + 1;
    format!(
        "[pools.work.manager]\n\
         command = [\"foretide\", \"producer\", \"--port\", \"{{port}}\", \"--speed\", \"0.3\", \"--cold-start\", \"200ms\"]\n\
         ports = \"{first}-{last}\"\n\
         [pools.work.scaling]\n\
         mode = \"act\"\nfloor = {floor}\nceiling = {ceiling}\ncooldown = \"5s\"\nassumed_lead = \"1s\""
    )
}
