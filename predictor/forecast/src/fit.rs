//! Seasonal forecast with an interval.
//!
//! Two methods. `seasonal-ridge` (`lag-ridge` where no season fits twice into the history): a direct robust regression
//! per horizon on √load. `last-value`: for short histories, and wherever it did better lately. Both are tried on the
//! newest part of the history; that gives the score and how wide the interval must be. Announced events are divided
//! out of the history and multiplied into the future.
//!
//! Bounds: history and horizon are bounded, rows per regression too, so a fit takes milliseconds. Never NaN, never
//! negative, the mean never above 2.25 times the largest load seen and the interval never above nine times (before
//! events). Known weaknesses: the mean is
//! nearer the median, because it is squared back from the root; holidays must be announced as events.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backtest::{Trial, Verdict};
use crate::calendar::{self, ScheduledEvent};
use crate::design::Design;
use crate::history::{self, History};
use crate::ladder::{Ladder, Reach};
use crate::last_value::LastValue;
use crate::series::Series;
use foretide_predictor::estimate::Estimate;
use foretide_predictor::time::Timestamp;

/// Steps of usable history needed for any answer.
const NEEDED: usize = 2;

/// Points of a forecast: two weeks of minutes.
const MOST_STEPS_AHEAD: usize = 20_160;

/// Centre and upper end may exceed the largest root seen by this factor: regressions extrapolate, machines do not grow
/// a hundredfold in a step.
const HIGHEST: (f64, f64) = (1.5, 3.0);

/// Half-widths are at least this share of the root of the load (so twice that of the load).
const NARROWEST: f64 = 0.01;

/// Factor on half-widths that no backtest could check.
const UNCHECKED_WIDENING: f64 = 1.5;

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
    pub fn at(&self, at: Timestamp) -> Option<Estimate> {
        let next = self.points.partition_point(|point| point.at <= at);
        let point = self.points.get(next.checked_sub(1)?)?;
        (at < point.at.plus(self.step)).then_some(point.load)
    }

    /// The step with the largest mean (the earliest of equals) among those that touch `[from, to]`.
    pub fn peak(&self, from: Timestamp, to: Timestamp) -> Option<ForecastPoint> {
        let touching = self.points.iter().filter(|point| point.at <= to && from < point.at.plus(self.step));
        touching
            .copied()
            .reduce(|best, point| if point.load.mean() > best.load.mean() { point } else { best })
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
    series: &Series,
    events: &[ScheduledEvent],
    settings: &ForecastSettings,
) -> Result<Forecast, FitError> {
    let too_short = |have| FitError::TooShort { have, need: NEEDED };
    let history = history::clean(series, events, &settings.seasons).map_err(too_short)?;
    let made_at = series.end().ok_or(too_short(0))?;
    let steps_ahead = settings.steps_ahead.min(MOST_STEPS_AHEAD);
    let design = Design::new(&history.z, &history.seasons);
    let (method, verdict) = choose(&design, steps_ahead);
    let widening = verdict.as_ref().map_or(UNCHECKED_WIDENING, |verdict| verdict.widening);
    let last = history.z.len() - 1;
    let point = |h: usize| {
        let at = made_at.plus(series.step().saturating_mul(h as u32 - 1));
        let load = history.load(method.predict(&design, last, h), widening);
        ForecastPoint { at, load: load.scaled(calendar::ratio_at(events, at)) }
    };
    Ok(Forecast {
        made_at,
        step: series.step(),
        points: (1..=steps_ahead).map(point).collect(),
        score: verdict.map(|verdict| verdict.score),
        method: method.name(&design).to_owned(),
    })
}

enum Method {
    Ridge(Ladder),
    Last(LastValue),
}

impl Method {
    fn predict(&self, design: &Design<'_>, t: usize, h: usize) -> Reach {
        match self {
            Self::Ridge(ladder) => ladder.predict(design, t, h),
            Self::Last(last) => last.predict(h),
        }
    }

    fn name(&self, design: &Design<'_>) -> &'static str {
        match self {
            Self::Ridge(_) if design.shortest_season().is_some() => "seasonal-ridge",
            Self::Ridge(_) => "lag-ridge",
            Self::Last(_) => "last-value",
        }
    }
}

/// The method that did better in the tail, and how it did.
fn choose(design: &Design<'_>, steps_ahead: usize) -> (Method, Option<Verdict>) {
    let z = design.z();
    let last = || Method::Last(LastValue::at(z, z.len() - 1));
    let Some(trial) = Trial::new(design, steps_ahead) else {
        return (last(), None);
    };
    let last_verdict = trial.judge(design, |t, h| LastValue::at(z, t).predict(h));
    let tried = Ladder::fit(design, trial.cut, steps_ahead);
    let ridge_verdict = tried.and_then(|ladder| trial.judge(design, |t, h| ladder.predict(design, t, h)));
    match (Ladder::fit(design, z.len(), steps_ahead), ridge_verdict, last_verdict) {
        (Some(ladder), Some(ridge), plain) if plain.as_ref().is_none_or(|plain| ridge.loss <= plain.loss) => {
            (Method::Ridge(ladder), Some(ridge))
        }
        (_, _, plain) => (last(), plain),
    }
}

impl History {
    /// Back to the load's own unit.
    fn load(&self, reach: Reach, widening: f64) -> Estimate {
        let centre = reach.centre.clamp(0.0, HIGHEST.0);
        let narrowest = NARROWEST * centre.max(0.1);
        let low = (centre - (reach.down * widening).max(narrowest)).max(0.0);
        let high = (centre + (reach.up * widening).max(narrowest)).min(HIGHEST.1);
        let [mean, low, high] = [centre, low, high].map(|root| (root * self.scale).powi(2));
        Estimate::new(mean, low, high).unwrap_or(Estimate::exact(0.0))
    }
}
