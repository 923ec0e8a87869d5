//! The load of a round: a closed loop on keep-alive connections, parameters and tenants changing, lean enough to
//! leave the machine to the proxy.
//!
//! A closed loop is right here and wrong elsewhere: what is measured is CPU per request at a fixed number of
//! requests, not latency.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections, each with one request at a time.
const CONNECTIONS: usize = 16;

/// Sends `requests`; any answer but 200 is an error.
pub(crate) async fn drive(address: SocketAddr, requests: usize) -> Result<()> {
    let mut connections = JoinSet::new();
    for index in 0..CONNECTIONS {
        let share = requests / CONNECTIONS + usize::from(index < requests % CONNECTIONS);
        connections.spawn(one_connection(address, index, share));
    }
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(())
}

async fn one_connection(address: SocketAddr, index: usize, requests: usize) -> Result<()> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for turn in 0..requests {
        let mixed = (index * 7_919 + turn * 104_729) % 1_000_003;
        let request = Request::get(format!("/search?rows={}&q=w{}", 1 + mixed % 5_000, mixed % 7))
            .header("host", "bench.example.org")
            .header("user-agent", "overhead")
            .header("x-tenant", format!("tenant-{}", mixed % 20))
            .body(Empty::<Bytes>::new())?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        ensure!(answer.status() == StatusCode::OK, "status {}", answer.status());
        ensure!(answer.into_body().collect().await?.to_bytes().len() == 256, "not the whole body");
    }
    Ok(())
}
