//! The report as a stream: server-sent events, made to JSON once for all who listen.
//!
//! A listener that is slow skips reports and gets the newest: the channel holds one.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use foretide_control::report::StatusReport;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{Semaphore, watch};
use tokio_stream::wrappers::WatchStream;

use super::answer::Refusal;
use super::metrics::ScalingCounter;
use super::{Admin, EVENT_STREAMS};

/// Decisions of each kind in an event; `/api/v1/decisions` has more.
const DECISIONS_IN_EVENT: usize = 60;

/// Follows the reports until their sender is gone: counts new scaling decisions, and makes JSON when somebody listens.
pub(super) async fn publish(
    mut reports: watch::Receiver<Arc<StatusReport>>,
    json: watch::Sender<Arc<str>>,
    streams: Arc<Semaphore>,
) {
    let mut counter = ScalingCounter::default();
    loop {
        let report = Arc::clone(&reports.borrow_and_update());
        counter.observe(&report);
        if streams.available_permits() < EVENT_STREAMS {
            json.send_replace(to_json(&report));
        }
        if reports.changed().await.is_err() {
            return;
        }
    }
}

/// `GET /api/v1/events`.
pub(super) async fn stream(
    State(admin): State<Admin>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let permit = Arc::clone(&admin.streams)
        .try_acquire_owned()
        .map_err(|_| Refusal::unavailable(format!("{EVENT_STREAMS} event streams are open")))?;
    let mut later = admin.json.clone();
    later.mark_unchanged();
    let first = to_json(&admin.report());
    let mut stopping = admin.stopping.clone();
    let stopped = async move {
        // A sender that is gone means the same.
        let _ = stopping.wait_for(|&stopping| stopping).await;
    };
    let events = stream::once(std::future::ready(first))
        .chain(WatchStream::from_changes(later))
        .map(move |json| {
            let _held_while_streaming = &permit;
            Ok(Event::default().event("report").data(&*json))
        })
        .take_until(stopped);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn to_json(report: &StatusReport) -> Arc<str> {
    let mut report = report.clone();
    report.routing_decisions.truncate(DECISIONS_IN_EVENT);
    report.scaling_decisions.truncate(DECISIONS_IN_EVENT);
    // Only maps with keys that are no strings could fail, and the report has none.
    serde_json::to_string(&report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")).into()
}
