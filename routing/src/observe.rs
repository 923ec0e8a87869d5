//! What a finished request tells the control plane. `Copy`, fixed size: it travels through a bounded ring.
use crate::decide::Decision;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::id::PoolId;
use foretide_predictor::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A response below 500 was delivered.
    Ok,
    /// The producer answered 5xx.
    ProducerError,
    /// No connection, or it broke, or a timeout.
    ProducerUnreachable,
    /// The client went away: says nothing about cost or producer.
    ClientGone,
}

/// One try of one request, finished.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Head received.
    pub arrived_at: Timestamp,
    /// End of the response, or of the attempt.
    pub finished_at: Timestamp,
    /// Pool it went to.
    pub pool: PoolId,
    /// What was asked.
    pub query: CostQuery,
    /// What was decided for this try.
    pub decision: Decision,
    /// Sent to the instance until its last byte, microseconds.
    pub upstream_us: u64,
    /// Measured work with waiting taken off, at the instance's own speed, microseconds ([`crate::live::Ticket::finish`]);
    /// 0 when unknown (failed or cut short).
    pub attained_us: f64,
    /// Status sent by the producer; 0: none.
    pub status: u16,
    /// Size of the response's body as the producer sent it, bytes; `None` when it was cut short.
    pub response_bytes: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// True for all but the last try of a request.
    pub retried: bool,
}
