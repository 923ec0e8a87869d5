//! Sample producers started by a test itself, for pools with fixed endpoints.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::client::{ask, eventually};
use crate::foretide::BINARY;
use crate::ports;

/// A `foretide producer` process; killed when dropped.
pub(crate) struct Producer {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Producer {
    /// Starts one of this speed and waits until it is warm.
    pub(crate) fn start(speed: f64) -> Self {
        Self::start_all(&[speed]).pop().expect("one was asked for")
    }

    /// Starts several at once.
    pub(crate) fn start_all(speeds: &[f64]) -> Vec<Self> {
        let producers: Vec<Self> = speeds.iter().map(|&speed| Self::spawn(speed)).collect();
        for producer in &producers {
            eventually("the producer is warm", || {
                ask(http::Method::GET, producer.address, "/health", "")
                    .ok()
                    .filter(|answer| answer.status == 200)
            });
        }
        producers
    }

    fn spawn(speed: f64) -> Self {
        let port = ports::neighbours(1);
        let child = Command::new(BINARY)
            .args([
                "producer",
                "--port",
                &port.to_string(),
                "--speed",
                &speed.to_string(),
                "--cold-start",
                "0s",
                "--load-report",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the producer starts");
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// SIGKILL: connections are cut in the middle of answers.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `endpoints = …` of these.
pub(crate) fn endpoints(producers: &[Producer]) -> String {
    let quoted: Vec<String> = producers.iter().map(|producer| format!("\"{}\"", producer.address)).collect();
    format!("endpoints = [{}]", quoted.join(", "))
}
