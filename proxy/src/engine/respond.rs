//! Answers of our own.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::engine::{headers, outcome};

/// Until a client should ask again when no instance is ready: some ticks of the controller.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Sends a status with a few words.
pub(super) async fn respond(session: &mut Session, status: u16, id: &HeaderValue) -> Result<()> {
    respond_later(session, status, id, ASK_AGAIN).await
}

/// The same; a 503 says when to ask again, rounded up to whole seconds.
pub(super) async fn respond_later(
    session: &mut Session,
    status: u16,
    id: &HeaderValue,
    again: Duration,
) -> Result<()> {
    let words = outcome::words(status);
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = ResponseHeader::build(code, Some(6))?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("text/plain"))?;
    head.insert_header(CONTENT_LENGTH, HeaderValue::from(words.len()))?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    if status == 503 {
        let whole = again.as_millis().div_ceil(1_000).max(1) as u64;
        head.insert_header(RETRY_AFTER, HeaderValue::from(whole))?;
    }
    headers::answer(&mut head, id)?;
    let bodiless = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(Bytes::from_static(words.as_bytes())), true).await?;
    }
    Ok(())
}
