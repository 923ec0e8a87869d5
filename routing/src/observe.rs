//! What a finished request tells the control plane. `Copy`, fixed size: it travels through a bounded ring.
use crate::decide::Decision;
use crate::live::Attained;
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::id::PoolId;
use foretide_predictor::time::Timestamp;
use foretide_steering::admission::Priority;
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
    /// The client went away: says nothing about the producer, and of the cost only what it is at least.
    ClientGone,
}

/// Shares of its resources that an instance says it uses; above 1: beyond a limit of its own. `None`: not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Utilisation {
    /// Of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f32>,
    /// Of the memory, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<f32>,
    /// Of whatever limits the application, by its own judgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<f32>,
}

/// What an instance said in its load report (ORCA).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reported {
    /// What the request cost, microseconds of work, where its pool takes costs from reports; `None`: not said.
    pub work_us: Option<f64>,
    /// Of the instance.
    pub utilisation: Utilisation,
}

impl Utilisation {
    /// Share of capacity in use: the application's own judgement, else the processor's (as gRPC's weighted round robin has
    /// it, proposal A58).
    pub fn used(&self) -> Option<f32> {
        self.application.filter(|share| *share > 0.0).or(self.cpu)
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
    /// Predicted cost with its features, and what steered the choice because of it.
    pub prediction: CostPrediction,
    /// What was decided for this try.
    pub decision: Decision,
    /// Sent to the instance until its last byte, microseconds.
    pub upstream_us: u64,
    /// Measured work with waiting taken off, at the instance's own speed, microseconds, by the form of its pool;
    /// 0 when nothing ran there. Of a try that was cut short it is what had run until then: its work is at least that.
    pub attained_us: f64,
    /// The same by either form, to find out which one fits ([`crate::live::Ticket::finish`]).
    pub attained: Attained,
    /// Status sent by the producer; 0: none.
    pub status: u16,
    /// Size of the response's body as the producer sent it, bytes; `None` when it was cut short.
    pub response_bytes: Option<u64>,
    /// What the instance said of it and of itself.
    pub reported: Reported,
    /// How it ended.
    pub outcome: Outcome,
    /// True for all but the last try of a request.
    pub retried: bool,
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// It would probably have been late.
    Late,
    /// The pool had all it was thought to bear.
    Limit,
    /// It could no longer be in time when it had waited for a while.
    LateInQueue,
    /// Every instance had as many requests as it may (`limits.max_requests`).
    InstancesFull,
    /// As many as may wait already did.
    QueueFull,
    /// It had waited for as long as anybody may.
    QueueTimeout,
}

/// A request that was not let in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// When it came.
    pub arrived_at: Timestamp,
    /// Pool it wanted.
    pub pool: PoolId,
    /// What was asked.
    pub query: CostQuery,
    /// Its predicted work, microseconds.
    pub work_us: f64,
    /// Predicted latency, waiting included, microseconds; `None`: nobody knew.
    pub latency_us: Option<f64>,
    /// Later its answer would have been worth nothing, microseconds from its arrival.
    pub deadline_us: Option<f64>,
    /// What it could expect.
    pub priority: Priority,
    /// In the pool and its queue at the time.
    pub in_flight: u32,
    /// Why.
    pub reason: RefusalReason,
}
