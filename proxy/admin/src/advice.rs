//! Weights and leases, for balancers and clients that do not pass through the proxy.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use foretide_advice::leases::{LeaseError, LeaseRequest};
use foretide_advice::weights::Weights;
use foretide_routing::observe::Outcome;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::answer::Refusal;

/// `?pool=NAME`.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    pool: Option<String>,
}

pub(super) async fn weights(
    State(admin): State<Admin>,
    Query(which): Query<Which>,
) -> Result<Json<Weights>, Refusal> {
    let weights = admin.parts.advice.weights(which.pool.as_deref());
    weights.map(Json).ok_or_else(|| Refusal::not_found("no such pool").helped("/api/v1/weights lists all"))
}

pub(super) async fn lease(State(admin): State<Admin>, body: Bytes) -> Result<impl IntoResponse, Refusal> {
    let request: LeaseRequest = serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request(format!("not a request for a lease: {error}"))
            .helped("send {\"pool\": \"NAME\", \"consumer\": \"WHO\", \"parameters\": {}, \"ttl_ms\": 10000}")
    })?;
    let lease = admin.parts.advice.lease(&request).map_err(|error| {
        let (status, help) = match &error {
            LeaseError::Full | LeaseError::NoInstance => {
                (StatusCode::SERVICE_UNAVAILABLE, "try again in a few seconds")
            }
            LeaseError::Unknown => (StatusCode::NOT_FOUND, "name a pool or a route of the configuration"),
            _ => (
                StatusCode::BAD_REQUEST,
                "parameters have the names of the route's own; work_ms is up to 3600000, ttl_ms 1 to 60000",
            ),
        };
        Refusal::new(status, error.to_string()).helped(help)
    })?;
    Ok((StatusCode::CREATED, Json(lease)))
}

/// `?outcome=ok`: how the request ended for which the lease was.
#[derive(Debug, Deserialize)]
pub(super) struct LeaseEnd {
    outcome: Option<Outcome>,
}

pub(super) async fn release(
    State(admin): State<Admin>,
    Path(lease): Path<String>,
    end: Result<Query<LeaseEnd>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(LeaseEnd { outcome }) = end.map_err(|error| {
        Refusal::bad_request(error.body_text())
            .helped("outcome is ok, producer_error, producer_unreachable or client_gone; or leave it out")
    })?;
    let learned = admin.parts.advice.release(&lease, outcome).ok_or_else(|| {
        Refusal::not_found("no such lease").helped("it may have ended by itself: its time to live is over")
    })?;
    Ok(Json(json!({ "released": lease, "learned": learned })))
}
