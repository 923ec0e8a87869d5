//! Instances that cost next to nothing: a fixed small answer.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

static BODY: [u8; 256] = [b'.'; 256];

/// Serves on all addresses until it is killed.
pub(crate) fn run(addresses: &[&str]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut listeners = tokio::task::JoinSet::new();
        for address in addresses {
            let listener = TcpListener::bind(address).await?;
            listeners.spawn(serve(listener));
        }
        while listeners.join_next().await.is_some() {}
        Ok(())
    })
}

async fn serve(listener: TcpListener) {
    let answer = |_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&BODY)))) };
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}
