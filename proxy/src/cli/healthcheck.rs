//! `foretide healthcheck`: images without a shell have no curl either.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

/// A container's health check gives three seconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Arguments of `healthcheck`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Admin address of the running Foretide.
    #[arg(long, default_value = "127.0.0.1:9900")]
    admin: SocketAddr,
    /// Ask whether it lives instead of whether it is ready.
    #[arg(long)]
    live: bool,
}

/// Asks.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let path = if args.live { "/live" } else { "/ready" };
    let status = ask(args.admin, path).with_context(|| {
        format!("no answer from http://{}{path}; is `admin.listen` set to this?", args.admin)
    })?;
    println!("{path}: {status}");
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(admin: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    // "HTTP/1.1 200" is all that matters.
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head[9..])?;
    Ok(status.parse()?)
}
