//! Answers to single questions.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use foretide_control::report::PoolReport;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::answer::Refusal;
use super::mask::mask;
use super::{Admin, AdminCommand, DrillKind, snapshot};

/// The control loop answers within a tick; longer means that it hangs, and the operator should know.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reload reads and checks files first.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let mut text = admin.parts.metrics.render();
    snapshot::write(&admin.report(), &mut text);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

pub(super) async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.is_ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

pub(super) async fn drain(State(admin): State<Admin>) -> Result<impl IntoResponse, Refusal> {
    admin.draining.store(true, Ordering::Relaxed);
    admin.send(AdminCommand::Drain)?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "draining": true }))))
}

pub(super) async fn reload(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    match admin.ask(AdminCommand::Reload, RELOAD_PATIENCE).await? {
        Ok(warnings) => Ok(Json(json!({ "reloaded": true, "warnings": warnings }))),
        Err(why) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why).helped(
            "the last good configuration stays in service; `foretide validate FILE` shows all findings",
        )),
    }
}

pub(super) async fn info(State(admin): State<Admin>) -> Json<Value> {
    let report = admin.report();
    Json(json!({
        "product": "foretide",
        "version": admin.parts.version,
        "started_at_us": admin.parts.started_at,
        "report_at_us": report.at,
        "uptime_s": report.at.since(admin.parts.started_at).as_secs_f64(),
        "generation": report.generation,
        "ready": admin.is_ready().is_ok(),
        "draining": admin.draining.load(Ordering::Relaxed),
        "pools": report.pools.iter().map(|pool| &pool.name).collect::<Vec<_>>(),
    }))
}

pub(super) async fn config(State(admin): State<Admin>) -> Result<impl IntoResponse, Refusal> {
    match mask(&admin.parts.config_text.load()) {
        Some(text) => Ok(([(CONTENT_TYPE, "application/toml; charset=utf-8")], text)),
        None => {
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the configuration cannot be shown masked"))
        }
    }
}

pub(super) async fn producers(State(admin): State<Admin>) -> Json<Value> {
    let report = admin.report();
    let pool = |pool: &PoolReport| {
        json!({
            "pool": pool.name,
            "policy": pool.policy,
            "mode": pool.mode,
            "work_rate": pool.work_rate,
            "request_rate": pool.request_rate,
            "capacity": pool.capacity,
            "lead_s": pool.lead_s,
            "panic": pool.panic,
            "proxies": pool.proxies,
            "instances": pool.instances,
        })
    };
    Json(
        json!({ "at": report.at, "generation": report.generation, "pools": report.pools.iter().map(pool).collect::<Vec<_>>() }),
    )
}

/// Other proxies; `gossip` is false where the configuration has none.
pub(super) async fn members(State(admin): State<Admin>) -> Json<Value> {
    let report = admin.report();
    let gossip = report.gossip.as_ref();
    Json(json!({
        "at": report.at,
        "gossip": gossip.is_some(),
        "node": gossip.map(|gossip| &gossip.node),
        "address": gossip.map(|gossip| &gossip.address),
        "members": gossip.map_or(&[][..], |gossip| &gossip.members),
        "pools": report.pools.iter().map(|pool| json!({ "pool": pool.name, "proxies": pool.proxies })).collect::<Vec<_>>(),
    }))
}

pub(super) async fn forecasts(State(admin): State<Admin>) -> Json<Value> {
    let report = admin.report();
    let pool = |pool: &PoolReport| {
        let horizon = |&steps: &usize| {
            let point =
                pool.forecast.as_ref().and_then(|forecast| forecast.points.get(steps.checked_sub(1)?));
            json!({ "steps": steps, "point": point })
        };
        json!({
            "pool": pool.name,
            "horizons": pool.horizons.iter().map(horizon).collect::<Vec<_>>(),
            "coverage": pool.coverage,
            "lead_s": pool.lead_s,
            "error": pool.forecast_error,
            "forecast": pool.forecast,
            "actual": pool.actual,
            "past": pool.forecast_past,
        })
    };
    Json(json!({ "at": report.at, "pools": report.pools.iter().map(pool).collect::<Vec<_>>() }))
}

pub(super) async fn models(State(admin): State<Admin>) -> Json<Value> {
    let report = admin.report();
    Json(json!({
        "at": report.at,
        "cost": report.model,
        "routes": report.gates,
        "weights": report.weights,
        "skills": report.skills,
    }))
}

/// Takes the model that `foretide model promote` has laid into the state directory.
pub(super) async fn promote(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    match admin.ask(AdminCommand::Promote, PATIENCE).await? {
        Ok(version) => Ok(Json(json!({ "promoted": version }))),
        Err(why) => Err(Refusal::new(StatusCode::CONFLICT, why)
            .helped("`foretide model promote VERSION --config FILE` chooses one and calls this")),
    }
}

/// `?pool=NAME&limit=N`.
#[derive(Debug, Deserialize)]
pub(super) struct DecisionFilter {
    pool: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn decisions(
    State(admin): State<Admin>,
    filter: Result<Query<DecisionFilter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(filter) = filter.map_err(|error| Refusal::bad_request(error.body_text()))?;
    let report = admin.report();
    let limit = filter.limit.unwrap_or(usize::MAX);
    let wanted = |pool: &str| filter.pool.as_deref().is_none_or(|wanted| wanted == pool);
    let routing = report.routing_decisions.iter().filter(|decision| wanted(&decision.pool)).take(limit);
    let scaling = report.scaling_decisions.iter().filter(|decision| wanted(&decision.pool)).take(limit);
    let refused = report.refusals.iter().filter(|refusal| wanted(&refusal.pool)).take(limit);
    Ok(Json(json!({
        "at": report.at,
        "routing": routing.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
        "scaling": scaling.collect::<Vec<_>>(),
        "fallbacks": report.fallbacks.iter().map(|(reason, count)| json!({ "reason": reason, "count": count })).collect::<Vec<_>>(),
    })))
}

/// `?kind=routing` or `?kind=scaling`: the two number their decisions independently.
#[derive(Debug, Deserialize)]
pub(super) struct DecisionKind {
    kind: Option<String>,
}

pub(super) async fn decision(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    Query(DecisionKind { kind }): Query<DecisionKind>,
) -> Result<Json<Value>, Refusal> {
    let id: u64 =
        id.parse().map_err(|_| Refusal::bad_request(format!("`{id}` is not a decision's number")))?;
    let report = admin.report();
    let wants = |name: &str| kind.as_deref().is_none_or(|kind| kind == name);
    if !wants("routing") && !wants("scaling") {
        return Err(Refusal::bad_request("no such kind of decision").helped("kind is `routing` or `scaling`"));
    }
    let mut routing = None;
    if wants("routing") {
        // The control loop also says what moved the prediction; the report stands in for one that is busy.
        let asked = admin.ask(|reply| AdminCommand::RoutingDecision { id, reply }, PATIENCE).await;
        let shown = report.routing_decisions.iter().find(|decision| decision.id == id).cloned();
        routing = match (asked, shown) {
            (Ok(Some(decision)), _) | (_, Some(decision)) => Some(decision),
            (asked, None) => asked?,
        };
    }
    let mut scaling = None;
    if wants("scaling") {
        scaling = report.scaling_decisions.iter().find(|decision| decision.id == id).cloned();
        if scaling.is_none() {
            scaling = admin.ask(|reply| AdminCommand::ScalingDecision { id, reply }, PATIENCE).await?;
        }
    }
    if routing.is_none() && scaling.is_none() {
        return Err(Refusal::not_found(format!("decision {id} is unknown"))
            .helped("only the decisions of the last while are kept; /api/v1/decisions lists the latest"));
    }
    Ok(Json(json!({ "routing": routing, "scaling": scaling })))
}

#[derive(Debug, Deserialize)]
struct Drill {
    kind: DrillKind,
}

pub(super) async fn drill(State(admin): State<Admin>, body: Bytes) -> Result<impl IntoResponse, Refusal> {
    let Drill { kind } = serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request(format!("not a drill: {error}"))
            .helped("send {\"kind\": \"remove_model\"} or {\"kind\": \"nan_model\"}")
    })?;
    admin.ask(|reply| AdminCommand::Drill(kind, reply), PATIENCE).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({ "done": true, "help": "the next training brings a sound model back" })),
    ))
}

impl Admin {
    fn send(&self, command: AdminCommand) -> Result<(), Refusal> {
        self.parts
            .commands
            .try_send(command)
            .map_err(|_| Refusal::unavailable("the control loop takes no commands"))
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> AdminCommand,
        patience: Duration,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Refusal::unavailable("the control loop gave no answer")),
            Err(_) => Err(Refusal::unavailable(format!("no answer in {} s", patience.as_secs()))),
        }
    }
}
