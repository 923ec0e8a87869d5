//! Replay: drives any address with the shape of a recording, open loop, at a chosen speed and scale.
//!
//! Safe by default: only loopback targets, and of a log only GET and HEAD. Bodies are not recorded and so not sent.

pub mod access_log;
pub mod moment;
pub mod path_template;
pub mod plan;
pub mod recording;
pub mod series;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Uri};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::watch;

use self::path_template::PathTemplate;
use self::plan::Scale;
use self::recording::{BadRow, Recorded, RowRange, read_file};
use crate::traffic::schedule::{MOST_REQUESTS, PlannedRequest};
use crate::traffic::send::{SendSettings, send};
use crate::traffic::tally::{TrafficProgress, TrafficSummary};

/// What to replay, where to, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplaySettings {
    /// The recording.
    pub file: PathBuf,
    /// Which rows of it.
    pub range: RowRange,
    /// `http://host:port` or `host:port`.
    pub target: String,
    /// Targets that are not loopback are allowed.
    pub allow_remote: bool,
    /// Recorded seconds per second; above 0.
    pub speed: f64,
    /// How much of it.
    pub scale: Scale,
    /// Paths to ask where the recording has none; empty: the default mix of the sample producer.
    pub paths: Vec<PathTemplate>,
    /// Methods other than GET and HEAD are sent too.
    pub any_method: bool,
    /// A slower request is over its objective.
    pub objective: Duration,
    /// Seed of arrivals, paths and thinning.
    pub seed: u64,
}

/// A recording ready to be sent.
pub struct ReplayPlan {
    /// Requests in order of time, at most [`MOST_REQUESTS`].
    pub requests: Box<dyn Iterator<Item = PlannedRequest> + Send>,
    /// Share of the recorded requests that is sent.
    pub scale: f64,
    /// Good rows of the recording.
    pub rows: usize,
    /// Requests of a log left out for their method.
    pub other_methods: usize,
    /// The first bad rows.
    pub bad_rows: Vec<BadRow>,
    /// How many were bad.
    pub bad_row_count: u64,
    /// Good rows for which there was no room.
    pub rows_not_kept: u64,
}

/// Why nothing was sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// As the user named it.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it to send.
    #[error("{file} has no row to replay ({bad_rows} bad rows{first})")]
    Empty {
        /// As the user named it.
        file: String,
        /// How many rows were bad.
        bad_rows: u64,
        /// The first of them, or nothing.
        first: String,
    },
    /// A number that makes no sense.
    #[error("{what} must be above 0, not {value}")]
    NotPositive {
        /// Which.
        what: &'static str,
        /// As given.
        value: f64,
    },
    /// Not an address.
    #[error("target {target:?}: {reason}")]
    Target {
        /// As given.
        target: String,
        /// Why.
        reason: String,
    },
    /// Not this machine.
    #[error("target {target:?} is {address}, which is not loopback; allow remote targets if you may load it")]
    Remote {
        /// As given.
        target: String,
        /// What it is.
        address: SocketAddr,
    },
}

/// Reads the recording and plans what to send.
///
/// # Errors
/// The file cannot be read, has no good row, or speed or scale is not above 0.
pub fn prepare(settings: &ReplaySettings) -> Result<ReplayPlan, ReplayError> {
    let (Scale::Ratio(scale) | Scale::PeakRate(scale)) = settings.scale;
    for (what, value) in [("speed", settings.speed), ("scale", scale)] {
        if !(value.is_finite() && value > 0.0) {
            return Err(ReplayError::NotPositive { what, value });
        }
    }
    let file = settings.file.display().to_string();
    let recording = match read_file(&settings.file, settings.range) {
        Ok(recording) => recording,
        Err(source) => return Err(ReplayError::Read { file, source }),
    };
    let mut plan = ReplayPlan {
        requests: Box::new(std::iter::empty()),
        scale: 0.0,
        rows: 0,
        other_methods: 0,
        bad_rows: recording.bad_rows,
        bad_row_count: recording.bad_row_count,
        rows_not_kept: recording.not_kept,
    };
    match recording.recorded {
        Recorded::Series(points) => {
            plan.rows = points.len();
            let pieces = plan::pieces(&points, settings.speed);
            plan.scale = plan::scale_of_pieces(&pieces, settings.scale);
            let requests = plan::series_plan(pieces, plan.scale, settings.paths.clone(), settings.seed);
            plan.requests = Box::new(requests.take(MOST_REQUESTS));
        }
        Recorded::Requests(mut log) => {
            plan.rows = log.len();
            log.retain(|request| {
                settings.any_method || [Method::GET, Method::HEAD].contains(&request.method)
            });
            plan.other_methods = plan.rows - log.len();
            plan.scale = plan::scale_of_log(&log, settings.speed, settings.scale);
            let requests = plan::log_plan(log, settings.speed, plan.scale, settings.seed);
            plan.requests = Box::new(requests.take(MOST_REQUESTS));
        }
    }
    if plan.rows > 0 {
        return Ok(plan);
    }
    let first =
        plan.bad_rows.first().map(|row| format!("; line {}: {}", row.line, row.reason)).unwrap_or_default();
    Err(ReplayError::Empty { file, bad_rows: plan.bad_row_count, first })
}

/// The address of a target, if it may be loaded, and the `Host` to send.
///
/// # Errors
/// It is not `http`, cannot be resolved, or is not loopback and `allow_remote` is off.
pub async fn resolve(target: &str, allow_remote: bool) -> Result<(SocketAddr, String), ReplayError> {
    let wrong = |reason: String| ReplayError::Target { target: target.into(), reason };
    let uri: Uri = target.parse().map_err(|error| wrong(format!("{error}")))?;
    if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
        return Err(wrong("only http is spoken".into()));
    }
    let authority = uri.authority().ok_or_else(|| wrong("no host and port".into()))?;
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let found = lookup_host((host, port)).await.map_err(|error| wrong(error.to_string()))?.next();
    let address = found.ok_or_else(|| wrong("no address".into()))?;
    if !allow_remote && !address.ip().to_canonical().is_loopback() {
        return Err(ReplayError::Remote { target: target.into(), address });
    }
    Ok((address, authority.to_string()))
}

/// Sends a plan and waits for the last answer.
///
/// # Errors
/// Those of [`resolve`].
pub async fn replay(
    plan: ReplayPlan,
    settings: &ReplaySettings,
    progress: watch::Sender<TrafficProgress>,
) -> Result<TrafficSummary, ReplayError> {
    let (target, host) = resolve(&settings.target, settings.allow_remote).await?;
    let to = SendSettings { target, host: Some(host), objective: settings.objective };
    Ok(send(plan.requests, to, progress).await)
}
