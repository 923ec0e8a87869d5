//! Asks the admin listener of a running Foretide; its answers are small.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A running Foretide answers within a tick.
const TIMEOUT: Duration = Duration::from_secs(6);
/// A longer answer is not ours.
const LONGEST: u64 = 1 << 20;

/// Status and JSON of a request without a body.
///
/// # Errors
/// Nobody answers there, or not in JSON.
pub(super) fn ask(address: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let close = "Content-Length: 0\r\nConnection: close";
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{close}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let status =
        answer.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| wrong("no status"))?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| wrong("no end of the head"))?;
    Ok((status, serde_json::from_str(body).map_err(|error| wrong(&error.to_string()))?))
}
