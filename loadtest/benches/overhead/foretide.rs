//! Foretide as this bench runs it: all tiers on, one worker thread.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::contestant::Contestant;

/// Starts it with a configuration of its own.
pub(crate) fn start(
    program: &Path,
    front: SocketAddr,
    instances: &[SocketAddr],
    log: bool,
) -> Result<Contestant> {
    let files = TempDir::new()?;
    let config = files.path().join("foretide.toml");
    std::fs::write(&config, configuration(front, instances, log))?;
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(&config).current_dir(files.path());
    let name = if log { "foretide, access log" } else { "foretide" };
    Contestant::start(name, front, &mut command, Some(files))
}

fn configuration(front: SocketAddr, instances: &[SocketAddr], log: bool) -> String {
    let mut text = format!(
        "version = 1\n\
         [server]\nlisten = [\"{front}\"]\nthreads = 1\nstate_dir = \"state\"\n\
         [admin]\nlisten = \"off\"\n\
         [[routes]]\nname = \"search\"\npath = \"/search\"\npool = \"work\"\nconsumer = [\"header:x-tenant\"]\n\
         parameters = [\"query:rows:number\", \"query:q:category\"]\n\
         [pools.work]\npolicy = \"predictive\"\nconcurrency = 1\n"
    );
    let endpoints: Vec<String> = instances.iter().map(|address| format!("\"{address}\"")).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "endpoints = [{}]", endpoints.join(", "));
    if log {
        text.push_str("[access_log]\npath = \"access.log\"\nformat = \"json\"\n");
    }
    text
}
