//! Errors for people and programs: `{"error": what, "help": what to do}` with a fitting status.

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A request that is not fulfilled, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    help: &'static str,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), help: "" }
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error).helped("try again in a few seconds")
    }

    pub(super) fn wrong_method(method: &Method) -> Self {
        let help = if method == Method::GET { "use POST" } else { "use GET" };
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible here")).helped(help)
    }

    pub(super) fn helped(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "help": self.help }))).into_response()
    }
}
