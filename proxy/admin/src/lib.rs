//! What operators see and touch: metrics, readiness, the API, the dashboard.
//!
//! The adapter only shows and passes on. What it shows is the controller's last report; what is asked of it goes as an
//! [`AdminCommand`] to the composition root, with an answer in bounded time. It listens on loopback unless the operator
//! insists, and defends what a browser on the same machine could be tricked into (see `guard`).
//!
//! | path | gives |
//! |---|---|
//! | `/` | the dashboard |
//! | `/metrics` | Prometheus text |
//! | `/live`, `/ready` | 200, or 503 with a reason |
//! | `POST /drain` | not ready any more; requests in flight end |
//! | `POST /api/v1/reload` | reads the configuration again |
//! | `/api/v1/{info,config,producers,forecasts,decisions,models}` | JSON (`config`: TOML) |
//! | `/api/v1/members` | JSON: other proxies, as gossip knows them |
//! | `/api/v1/decisions/{id}` | one decision with its inputs; `?kind=routing` or `scaling` |
//! | `POST /api/v1/models/drill` | `{"kind": "remove_model"}` or `{"kind": "nan_model"}` |
//! | `/api/v1/weights` | JSON: each instance's share and for how long it holds; `?pool=NAME` |
//! | `POST /api/v1/leases` | an instance for one request that goes there by itself; see `foretide_advice::leases` |
//! | `DELETE /api/v1/leases/{lease}` | ends it before its time; `?outcome=ok`: and learns what it cost |
//! | `/api/v1/events` | server-sent events: the report, about once a second |

mod advice;
mod answer;
mod api;
mod events;
mod guard;
mod mask;
pub mod metrics;
mod page;
mod snapshot;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::Method;
use axum::middleware;
use axum::routing::{delete, get, post};
use foretide_advice::Advice;
use foretide_control::report::{RoutingDecisionReport, ScalingDecisionReport, StatusReport};
use foretide_predictor::time::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use answer::Refusal;

/// What the admin listener is given.
#[derive(Clone)]
pub struct AdminParts {
    /// The controller's latest report.
    pub report: watch::Receiver<Arc<StatusReport>>,
    /// From [`metrics::install`].
    pub metrics: PrometheusHandle,
    /// Answered by the composition root.
    pub commands: mpsc::Sender<AdminCommand>,
    /// Weights and leases.
    pub advice: Arc<Advice>,
    /// The configuration in service as it was written; secrets are masked here.
    pub config_text: Arc<ArcSwap<String>>,
    /// Whether the first table has an instance and no shutdown has begun.
    pub ready: Arc<AtomicBool>,
    /// Start of the process.
    pub started_at: Timestamp,
    /// Version of the product.
    pub version: &'static str,
}

/// Asked by an operator; an answer that nobody waits for any more is dropped.
#[derive(Debug)]
pub enum AdminCommand {
    /// Read the configuration again; warnings, or why the last good one stays.
    Reload(oneshot::Sender<Result<Vec<String>, String>>),
    /// Put the promoted model to service; its version, or why not.
    Promote(oneshot::Sender<Result<u64, String>>),
    /// Stop taking new work and end once requests in flight are done.
    Drain,
    /// A routing decision that the report no longer holds.
    RoutingDecision {
        /// Its id.
        id: u64,
        /// `None`: unknown or forgotten.
        reply: oneshot::Sender<Option<RoutingDecisionReport>>,
    },
    /// A scaling decision that the report no longer holds.
    ScalingDecision {
        /// Its id.
        id: u64,
        /// `None`: unknown or forgotten.
        reply: oneshot::Sender<Option<ScalingDecisionReport>>,
    },
    /// Take the model away or put a broken one to service, to see that requests are still served.
    Drill(DrillKind, oneshot::Sender<()>),
}

/// What to do to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    /// No model: running means answer.
    RemoveModel,
    /// A model that answers NaN to everything.
    NanModel,
}

/// Event streams open at once; each costs a connection and one report a second.
const EVENT_STREAMS: usize = 32;

/// After the shutdown signal, answers under way get so long.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What handlers share.
#[derive(Clone)]
struct Admin {
    parts: AdminParts,
    draining: Arc<AtomicBool>,
    /// The report as JSON, made once for all streams.
    json: watch::Receiver<Arc<str>>,
    streams: Arc<Semaphore>,
    /// Turns true at shutdown; open streams end then.
    stopping: watch::Receiver<bool>,
    loopback: bool,
}

/// Serves until `shutdown` completes. Errors only when the listener is unusable.
pub async fn serve(
    listener: TcpListener,
    parts: AdminParts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let loopback = listener.local_addr()?.ip().is_loopback();
    let (json_out, json) = watch::channel(Arc::from("{}"));
    let (stop, stopping) = watch::channel(false);
    let streams = Arc::new(Semaphore::new(EVENT_STREAMS));
    let publisher = tokio::spawn(events::publish(parts.report.clone(), json_out, Arc::clone(&streams)));
    let admin =
        Admin { parts, draining: Arc::default(), json, streams, stopping: stopping.clone(), loopback };
    let server = axum::serve(listener, router(admin)).with_graceful_shutdown(async move {
        shutdown.await;
        stop.send_replace(true);
    });
    let mut stopped = stopping;
    let patience = async {
        // The sender lives in the server's future, so this ends by the signal or with the server.
        let _ = stopped.wait_for(|&stopped| stopped).await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    let result = tokio::select! {
        result = server => result,
        () = patience => Ok(()),
    };
    publisher.abort();
    result
}

fn router(admin: Admin) -> Router {
    let guarded = Router::new()
        .route("/", get(page::index))
        .route("/dashboard.css", get(page::style))
        .route("/dashboard.js", get(page::script))
        .route("/chart.js", get(page::chart))
        .route("/metrics", get(api::metrics))
        .route("/drain", post(api::drain))
        .route("/api/v1/reload", post(api::reload))
        .route("/api/v1/info", get(api::info))
        .route("/api/v1/config", get(api::config))
        .route("/api/v1/members", get(api::members))
        .route("/api/v1/producers", get(api::producers))
        .route("/api/v1/forecasts", get(api::forecasts))
        .route("/api/v1/decisions", get(api::decisions))
        .route("/api/v1/decisions/{id}", get(api::decision))
        .route("/api/v1/models", get(api::models))
        .route("/api/v1/models/drill", post(api::drill))
        .route("/api/v1/models/promote", post(api::promote))
        .route("/api/v1/weights", get(advice::weights))
        .route("/api/v1/leases", post(advice::lease))
        .route("/api/v1/leases/{lease}", delete(advice::release))
        .route("/api/v1/events", get(events::stream))
        .fallback(async || Refusal::not_found("no such page").helped("see / for the dashboard"))
        .method_not_allowed_fallback(async |method: Method| Refusal::wrong_method(&method))
        .layer(middleware::from_fn_with_state(admin.clone(), guard::check));
    // Checkers come under whatever name their network gives us, and learn nothing but a word.
    Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(api::ready))
        .merge(guarded)
        .with_state(admin)
}

impl Admin {
    fn is_ready(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("draining");
        }
        if !self.parts.ready.load(Ordering::Relaxed) {
            return Err("no instance to send requests to, or shutting down");
        }
        Ok(())
    }

    fn report(&self) -> Arc<StatusReport> {
        Arc::clone(&self.parts.report.borrow())
    }
}
