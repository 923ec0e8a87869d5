//! The sample producer: an HTTP server whose requests cost real CPU time, on a core of a chosen speed.
//!
//! It stands for a small containerised service: a share of one core, a cold start of seconds, tenants of different
//! size, endpoints of very different cost. What a request cost is to be found out; asked to, it reports that as
//! well-behaved producers do, in a header (ORCA).
//!
//! States: *cold* (data being made; `/health` says 503, work waits), *warm* (`/health` says 200), *closing* (no new
//! connections, requests in flight are finished).

mod emulated_core;
pub mod pace;
mod warehouse;
mod work;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::emulated_core::{CoreHandle, Finished, Progress, Quota, Throttle};
use self::warehouse::Warehouse;
use self::work::Work;

const INDEX: &str = "\
A sample producer. It does real work:
  GET  /search?rows=N&q=WORD   scan and sort N rows of the tenant's table
  GET  /report?rows=N          aggregate N rows and render JSON
  GET  /export?kb=N            write and compress N KiB
  GET  /hash?n=N               a chain of N SHA-256
  GET  /thumbnail?size=N       scale a picture to N x N pixels
  POST /echo                   sends the body back
  GET  /health                 200 once warm, 503 before
The header x-tenant chooses whose data it is.
";

/// What kind of instance to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerSettings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Share of one core, 0.01 to 1, like a container's CPU limit.
    pub speed: f64,
    /// From the start to warm, at least; making the data may take longer on a slow core.
    pub cold_start: Duration,
    /// Seed of the data.
    pub seed: u64,
    /// Whether answers carry a load report: share of time busy, and CPU seconds of the request.
    pub load_report: bool,
}

/// Body of an answer: made here, or the request's own.
type AnswerBody = Either<Full<Bytes>, Incoming>;

struct Instance {
    core: CoreHandle<Option<Warehouse>>,
    warm: Arc<AtomicBool>,
    name: HeaderValue,
    load_report: bool,
}

/// Serves until `shutdown` completes, then finishes requests in flight. Prints nothing.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(settings: ProducerSettings, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let listener = TcpListener::bind(settings.address).await?;
    serve_on(listener, settings, shutdown).await
}

/// As [`serve`], on a listener of the caller's: the way to learn the port before the first request.
///
/// # Errors
/// The listener has no local address, or no thread can be started.
pub async fn serve_on(
    listener: TcpListener,
    settings: ProducerSettings,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let name = HeaderValue::from(listener.local_addr()?.port());
    let warm = Arc::new(AtomicBool::new(false));
    let (cold_start, seed, warm_flag) = (settings.cold_start, settings.seed, Arc::clone(&warm));
    let core = CoreHandle::start(Quota::new(settings.speed), move |throttle| {
        let warehouse = start_cold(throttle, cold_start, seed);
        warm_flag.store(warehouse.is_some(), Ordering::Release);
        warehouse
    })?;
    let instance = Arc::new(Instance { core, warm, name, load_report: settings.load_report });
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve_connection(stream, Arc::clone(&instance), closing.clone()));
                } else {
                    // Out of descriptors, most likely: give connections a moment to end.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // No connection may be left to hear it, which is no error.
    let _ = close.send(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Makes the data at the core's own speed, then waits out the cold start. `None` only if SQLite has no memory.
fn start_cold(
    throttle: &mut Throttle<'_, Option<Warehouse>>,
    cold_start: Duration,
    seed: u64,
) -> Option<Warehouse> {
    let started = Instant::now();
    let warehouse = Warehouse::stocked(seed, |piece| throttle.work(piece))?;
    throttle.wait(cold_start.saturating_sub(started.elapsed()));
    Some(warehouse)
}

async fn serve_connection(stream: TcpStream, instance: Arc<Instance>, mut closing: watch::Receiver<bool>) {
    // Nagle would add its delay to every answer of two packets; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let instance = Arc::clone(&instance);
        async move { Ok::<_, Infallible>(answer(&instance, request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // A connection's error is its client's affair.
        _ = &mut connection => return,
        _ = closing.wait_for(|&closing| closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn answer(instance: &Instance, request: Request<Incoming>) -> Response<AnswerBody> {
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::POST | &Method::PUT, "/echo") => echo(request),
        (&Method::GET | &Method::HEAD, "/") => text(StatusCode::OK, INDEX),
        (&Method::GET | &Method::HEAD, "/health") => match instance.warm.load(Ordering::Acquire) {
            true => text(StatusCode::OK, "warm\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        },
        (&Method::GET | &Method::HEAD, _) => work(instance, &request).await,
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET here, and POST /echo\n"),
    };
    response.headers_mut().insert("x-instance", instance.name.clone());
    response
}

async fn work(instance: &Instance, request: &Request<Incoming>) -> Response<AnswerBody> {
    let tenant = request.headers().get("x-tenant").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
    let mut work = match Work::parse(request.uri().path(), request.uri().query().unwrap_or(""), tenant) {
        None => return text(StatusCode::NOT_FOUND, "no such endpoint; GET / names them\n"),
        Some(Err(wrong)) => return text(StatusCode::BAD_REQUEST, wrong),
        Some(Ok(work)) => work,
    };
    let content_type = HeaderValue::from_static(work.content_type());
    let finished = instance.core.run(move |warehouse| match warehouse {
        Some(warehouse) => work.step(warehouse),
        None => Progress::Failed,
    });
    let Some(finished) = finished.await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "cannot do this now\n");
    };
    let report = load_report(&finished).filter(|_| instance.load_report);
    let mut response = respond(StatusCode::OK, content_type, Either::Left(Full::from(finished.body)));
    if let Some(report) = report {
        response.headers_mut().insert("endpoint-load-metrics", report);
    }
    response
}

/// ORCA's text form.
fn load_report(finished: &Finished) -> Option<HeaderValue> {
    let (busy, seconds) = (finished.busy_permille as f64 / 1e3, finished.used.as_secs_f64());
    HeaderValue::try_from(format!("TEXT cpu_utilization={busy:.3},request_cost.cpu_seconds={seconds:.6}"))
        .ok()
}

fn echo(request: Request<Incoming>) -> Response<AnswerBody> {
    let octets = HeaderValue::from_static("application/octet-stream");
    let content_type = request.headers().get(CONTENT_TYPE).cloned().unwrap_or(octets);
    respond(StatusCode::OK, content_type, Either::Right(request.into_body()))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<AnswerBody> {
    respond(
        status,
        HeaderValue::from_static("text/plain; charset=utf-8"),
        Either::Left(Full::new(body.into())),
    )
}

fn respond(status: StatusCode, content_type: HeaderValue, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
