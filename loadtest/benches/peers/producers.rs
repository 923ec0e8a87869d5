//! Worker pools: so many requests at once, the others wait in order of arrival. Work is waiting.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::workload::asked;
use crate::{SPEEDS, WORKERS};

/// Serves on all addresses, each at its own speed, until it is killed.
pub(crate) fn run(addresses: &[&str]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut listeners = tokio::task::JoinSet::new();
        for (address, speed) in addresses.iter().zip(SPEEDS.into_iter().cycle()) {
            listeners.spawn(serve(TcpListener::bind(address).await?, speed));
        }
        while listeners.join_next().await.is_some() {}
        Ok(())
    })
}

async fn serve(listener: TcpListener, speed: f64) {
    // Tokio's semaphore serves waiters in order.
    let workers = Arc::new(Semaphore::new(WORKERS));
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let workers = Arc::clone(&workers);
        let answer = service_fn(move |request: Request<Incoming>| {
            let workers = Arc::clone(&workers);
            async move { Ok::<_, Infallible>(work(&request, &workers, speed).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn work(request: &Request<Incoming>, workers: &Semaphore, speed: f64) -> Response<Full<Bytes>> {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let mut answer = Response::new(Full::new(Bytes::from_static(b"done\n")));
    match (asked(target), workers.acquire().await) {
        (Some(asked), Ok(_working)) => sleep(Duration::from_secs_f64(asked.work.as_secs_f64() / speed)).await,
        _ => *answer.status_mut() = StatusCode::NOT_FOUND,
    }
    answer
}
