//! The open-loop sender: every request goes out at its time, whatever became of those before it.
//!
//! A closed loop waits for answers and so sends least when the server is slowest; its latencies leave out exactly
//! the waiting that users would have had (coordinated omission). Here a thread of its own keeps time, and latency
//! counts from the *intended* moment, so lateness of this generator is in the figures rather than hidden.
//!
//! Bounded: requests in flight (further ones are dropped and counted as errors), the time of each, and the records.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::schedule::PlannedRequest;
use super::tally::{SentRequest, Tally, TrafficProgress, TrafficSummary};

/// Requests under way at most. A server with 2,000 waiting has failed; more would only exhaust local ports.
pub const IN_FLIGHT: usize = 2_000;

/// A request that takes longer counts as an error.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);

/// Requests handed over before the sender takes them up; time goes on counting meanwhile.
const HANDED_OVER: usize = 1_024;

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// Where to send and how to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendSettings {
    /// Where to.
    pub target: SocketAddr,
    /// `Host` header; `None`: the address.
    pub host: Option<String>,
    /// A slower request is over its objective.
    pub objective: Duration,
}

struct Sender {
    client: HttpClient,
    settings: SendSettings,
    host: Option<HeaderValue>,
    started: Instant,
    tally: Mutex<Tally>,
}

/// Sends a plan, which must be in order of time, and waits for the last answer. Dropping the future stops sending.
pub async fn send(
    plan: impl Iterator<Item = PlannedRequest> + Send + 'static,
    settings: SendSettings,
    progress: watch::Sender<TrafficProgress>,
) -> TrafficSummary {
    let started = Instant::now();
    let tally = Mutex::new(Tally::new(settings.objective));
    let host = settings.host.as_ref().and_then(|host| HeaderValue::from_str(host).ok());
    let sender = Arc::new(Sender { client: client(), settings, host, started, tally });
    let (due, mut next) = mpsc::channel(HANDED_OVER);
    tokio::task::spawn_blocking(move || pace(plan, started, &due));
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut report = interval(PROGRESS_EVERY);
    report.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            request = next.recv() => match request {
                None => break,
                Some(request) => launch(&sender, &in_flight, request),
            },
            _ = report.tick() => { progress.send_replace(sender.tally().progress()); }
        }
    }
    let mut all_back = std::pin::pin!(in_flight.acquire_many(IN_FLIGHT as u32));
    loop {
        tokio::select! {
            _ = &mut all_back => break,
            _ = report.tick() => { progress.send_replace(sender.tally().progress()); }
        }
    }
    progress.send_replace(sender.tally().progress());
    let finished = std::mem::replace(&mut *sender.tally(), Tally::new(Duration::ZERO));
    finished.summary()
}

/// Hands each request over at its time, or at once when late; ends when nobody listens any more.
fn pace(plan: impl Iterator<Item = PlannedRequest>, started: Instant, due: &mpsc::Sender<PlannedRequest>) {
    for request in plan {
        let at = started + request.at;
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if due.is_closed() {
                return;
            }
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left.min(PROGRESS_EVERY));
        }
        if due.blocking_send(request).is_err() {
            return;
        }
    }
}

fn launch(sender: &Arc<Sender>, in_flight: &Arc<Semaphore>, request: PlannedRequest) {
    let Ok(permit) = Arc::clone(in_flight).try_acquire_owned() else {
        sender.tally().dropped();
        return;
    };
    sender.tally().started();
    let sender = Arc::clone(sender);
    tokio::spawn(async move {
        let status = timeout(LONGEST_REQUEST, sender.exchange(&request)).await.ok().flatten().unwrap_or(0);
        sender.finished(request, status);
        drop(permit);
    });
}

impl Sender {
    /// The status, once the whole answer is there.
    async fn exchange(&self, planned: &PlannedRequest) -> Option<u16> {
        let target = self.settings.target.to_string();
        let uri =
            Uri::builder().scheme("http").authority(target).path_and_query(planned.path_and_query.as_str());
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = planned.method.clone();
        *request.uri_mut() = uri.build().ok()?;
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        if !planned.tenant.is_empty() {
            request.headers_mut().insert("x-tenant", HeaderValue::from_str(&planned.tenant).ok()?);
        }
        let answer = self.client.request(request).await.ok()?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.ok()?;
        }
        Some(status)
    }

    fn finished(&self, request: PlannedRequest, status: u16) {
        let latency = self.started.elapsed().saturating_sub(request.at);
        self.tally().finished(SentRequest {
            at_us: request.at.as_micros() as u64,
            latency_us: latency.as_micros() as u64,
            status,
            path: request.path_and_query,
            tenant: request.tenant,
        });
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Counting cannot panic half-way, so a poisoned tally is still right.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(IN_FLIGHT)
        .build(connector)
}
