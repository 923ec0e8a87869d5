//! Traffic made up from a seed: what people might send to the sample producers in a day.

pub mod schedule;
pub mod send;
pub mod tally;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use self::schedule::Shape;
use self::send::{SendSettings, send};
use self::tally::{TrafficProgress, TrafficSummary};

/// What to send where.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficSettings {
    /// Where to.
    pub target: SocketAddr,
    /// A slower request is over its objective.
    pub objective: Duration,
    /// What, and when.
    pub shape: Shape,
}

/// Sends it all, open loop, and waits for the last answer; progress is told five times a second.
pub async fn drive(settings: TrafficSettings, progress: watch::Sender<TrafficProgress>) -> TrafficSummary {
    let to = SendSettings { target: settings.target, host: None, objective: settings.objective };
    send(schedule::arrivals(settings.shape), to, progress).await
}
