//! Seasonal forecast with an interval (contract; body to come).
use crate::estimate::Estimate;
use crate::forecast::calendar::ScheduledEvent;
use crate::forecast::series::Series;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How to forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct ForecastSettings {
    /// Season lengths in steps, e.g. a day and a week; those longer than half the history are left out.
    pub seasons: Vec<usize>,
    /// How many steps ahead to forecast.
    pub steps_ahead: usize,
}

/// How a forecast did on origins in its own recent past, before it was made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BacktestScore {
    /// Mean absolute error over that of "as one season (or step) ago"; below 1 is better.
    pub mase: f64,
    /// Share of actual values inside the 90 % interval.
    pub coverage: f64,
    /// Origins scored.
    pub origins: usize,
}

/// Predicted load of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastPoint {
    /// Start of the step.
    pub at: Timestamp,
    /// Load in the series' unit.
    pub load: Estimate,
}

/// Load for the steps ahead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// End of the history it rests on.
    pub made_at: Timestamp,
    /// Width of a step.
    pub step: Duration,
    /// One point a step, evenly spaced from `made_at` on.
    pub points: Vec<ForecastPoint>,
    /// How good the method was here lately; `None` when history is too short to say.
    pub score: Option<BacktestScore>,
    /// Name of the method, for people: `seasonal-ridge`, `last-value`, …
    pub method: String,
}

impl Forecast {
    /// Load of the step that holds `at`; `None` before the first and after the last.
    pub fn at(&self, _at: Timestamp) -> Option<Estimate> {
        todo!()
    }
    /// The step with the largest mean in `[from, to]`.
    pub fn peak(&self, _from: Timestamp, _to: Timestamp) -> Option<ForecastPoint> {
        todo!()
    }
}

/// Why there is no forecast.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// Nothing to go on.
    #[error("{have} steps of history, {need} needed")]
    TooShort {
        /// Steps at hand.
        have: usize,
        /// Steps needed.
        need: usize,
    },
}

/// Forecasts the series. Milliseconds to tens of them: off the tick. Pure. With little history it answers with wide
/// intervals around the last values rather than failing; events multiply what is usual.
pub fn fit(
    _series: &Series,
    _events: &[ScheduledEvent],
    _settings: &ForecastSettings,
) -> Result<Forecast, FitError> {
    todo!()
}
