//! The load history of a pool or an instance, its forecast, and how good earlier forecasts were.
//!
//! One fit at a time, every `refit_every`, off the tick. Each time a step closes, what the forecast says about the
//! step one lead time ahead is noted; when that step has closed too, it is scored against what happened, with "as it
//! was when the forecast was made" as the naive rival. The noted ones are the band on the dashboard.
//!
//! What is forecast is the mean over about one lead time (at most [`SMOOTHED_STEPS`] steps), not the single step: the
//! noise of a step that is much shorter than a start only fills queues for a moment, and a fleet sized for its upper end
//! is a fleet sized for noise. Where a step is as long as a start, as in production, nothing changes.
//! States: no history → first fit asked for → forecast in service (or the reason why not). A forecast that was not
//! renewed for three periods is stale and not used.
use crate::io::{FitJob, SeriesKey};
use crate::report::PastForecast;
use foretide_forecast::calendar::ScheduledEvent;
use foretide_forecast::fit::{Forecast, ForecastSettings};
use foretide_forecast::series::Series;
use foretide_predictor::estimate::Estimate;
use foretide_predictor::scorecard::Scorecard;
use foretide_predictor::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// Past forecasts kept for the dashboard, and as many waiting for their step.
const KEPT: usize = 512;
/// More would make the forecast late for a fast rise by more than four steps.
const SMOOTHED_STEPS: usize = 8;
/// Predictions that the scorecard remembers.
const CARD_MEMORY: usize = 200;
/// Periods after which a forecast is stale, and a fit without an answer lost.
const STALE_PERIODS: u32 = 3;

/// History and forecast of one series.
#[derive(Debug)]
pub(crate) struct Track {
    /// Work rate by step.
    pub(crate) series: Series,
    /// The latest forecast.
    pub(crate) forecast: Option<Forecast>,
    /// Why the last fit failed.
    pub(crate) error: Option<String>,
    /// Accuracy at lead time.
    pub(crate) card: Scorecard,
    /// Forecasts of steps that are over.
    pub(crate) past: VecDeque<PastForecast>,
    waiting: VecDeque<Waiting>,
    raw: VecDeque<f64>,
    fit_due: Timestamp,
    fitting_since: Option<Timestamp>,
}

/// A forecast whose step is not over.
#[derive(Debug)]
struct Waiting {
    said: PastForecast,
    naive: f64,
}

/// When and how to fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FitPlan<'a> {
    /// Season lengths in steps.
    pub(crate) seasons: &'a [usize],
    /// Announced events.
    pub(crate) events: &'a [ScheduledEvent],
    /// How far ahead.
    pub(crate) steps_ahead: usize,
    /// Time between fits.
    pub(crate) every: Duration,
}

impl Track {
    /// An empty history.
    pub(crate) fn new(step: Duration, capacity: usize, now: Timestamp) -> Self {
        Self {
            series: Series::new(step, capacity.max(1)),
            forecast: None,
            error: None,
            card: Scorecard::new(CARD_MEMORY),
            past: VecDeque::new(),
            waiting: VecDeque::new(),
            raw: VecDeque::new(),
            fit_due: now,
            fitting_since: None,
        }
    }

    /// In steps of another width, or with room for more of them. Forecasts and what they were worth begin anew.
    pub(crate) fn rescaled(&self, step: Duration, capacity: usize, now: Timestamp) -> Self {
        Self { series: self.series.rescaled(step, capacity.max(1)), ..Self::new(step, capacity, now) }
    }

    /// A step is over: scores what was said about it and notes what is said about the step a lead from now.
    pub(crate) fn close(&mut self, at: Timestamp, work_rate: f64, lead: Duration) {
        let work_rate = self.smoothed(work_rate, lead);
        self.series.put(at, work_rate);
        while let Some(first) = self.waiting.front() {
            if first.said.at > at {
                break;
            }
            let Some(Waiting { said, naive }) = self.waiting.pop_front() else { break };
            if said.at == at
                && let Some(estimate) = Estimate::new(said.mean, said.low, said.high)
            {
                self.card.observe(estimate, work_rate, naive);
                keep(&mut self.past, said);
            }
        }
        let step = self.series.step();
        let ahead = step.saturating_mul(steps_in(lead, step).saturating_add(1) as u32);
        let target = at.plus(ahead);
        if let Some(load) = self.forecast.as_ref().and_then(|forecast| forecast.at(target)) {
            let said = PastForecast { at: target, mean: load.mean(), low: load.low(), high: load.high() };
            keep(&mut self.waiting, Waiting { said, naive: work_rate });
        }
    }

    /// A step read back from the history, as it was recorded.
    pub(crate) fn recall(&mut self, at: Timestamp, work_rate: f64, lead: Duration) {
        let work_rate = self.smoothed(work_rate, lead);
        self.series.put(at, work_rate);
    }

    /// The highest load held, 0 without any.
    pub(crate) fn peak(&self) -> f64 {
        self.series.values().iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max)
    }

    /// Mean of the last steps, as many as a start takes.
    fn smoothed(&mut self, work_rate: f64, lead: Duration) -> f64 {
        let steps = steps_in(lead, self.series.step()).clamp(1, SMOOTHED_STEPS);
        self.raw.push_back(work_rate);
        while self.raw.len() > steps {
            self.raw.pop_front();
        }
        self.raw.iter().sum::<f64>() / self.raw.len() as f64
    }

    /// The next fit, if it is time for one and there is history.
    pub(crate) fn next_fit(&mut self, of: SeriesKey, plan: FitPlan<'_>, now: Timestamp) -> Option<FitJob> {
        let lost = plan.every.saturating_mul(STALE_PERIODS);
        let busy = self.fitting_since.is_some_and(|since| now.since(since) < lost);
        if busy || now < self.fit_due || self.series.values().is_empty() {
            return None;
        }
        self.fitting_since = Some(now);
        self.fit_due = now.plus(plan.every);
        let settings = ForecastSettings { seasons: plan.seasons.to_vec(), steps_ahead: plan.steps_ahead };
        Some(FitJob { of, series: self.series.clone(), events: plan.events.to_vec(), settings })
    }

    /// A fit came back. The last forecast stays when there is no new one; it gets stale by itself. An answer that
    /// nobody waits for is not ours: pools are renumbered by new settings.
    pub(crate) fn fitted(&mut self, result: Result<Forecast, String>) {
        if self.fitting_since.take().is_none() {
            return;
        }
        match result {
            Ok(forecast) => {
                self.error = None;
                self.forecast = Some(forecast);
            }
            Err(why) => self.error = Some(why),
        }
    }

    /// Puts the next fit off and ignores what comes until then: answers under way belong to somebody else.
    pub(crate) fn refit_not_before(&mut self, at: Timestamp) {
        self.fit_due = self.fit_due.max(at);
        self.fitting_since = None;
    }

    /// Fits at the next opportunity, also while a fit is under way: what it rests on has changed.
    pub(crate) fn refit(&mut self, now: Timestamp) {
        self.fit_due = now;
        self.fitting_since = None;
    }

    /// The forecast, unless it is stale.
    pub(crate) fn fresh(&self, every: Duration, now: Timestamp) -> Option<&Forecast> {
        let oldest = every.max(self.series.step()).saturating_mul(STALE_PERIODS);
        self.forecast.as_ref().filter(|forecast| now.since(forecast.made_at) <= oldest)
    }

    /// Latest steps, oldest first; gaps are left out.
    pub(crate) fn latest(&self, count: usize) -> Vec<(Timestamp, f64)> {
        let Some(start) = self.series.start() else { return Vec::new() };
        let values = self.series.values();
        let skipped = values.len().saturating_sub(count);
        let step_us = self.series.step().as_micros() as u64;
        let at = |index: usize| Timestamp::from_us(start.as_us() + index as u64 * step_us);
        let known = values.iter().enumerate().skip(skipped).filter(|(_, value)| value.is_finite());
        known.map(|(index, value)| (at(index), *value)).collect()
    }
}

/// The step with the highest upper end among those that touch `[from, to]`.
pub(crate) fn highest(forecast: &Forecast, from: Timestamp, to: Timestamp) -> Option<Estimate> {
    let touches = |at: Timestamp| at <= to && at.plus(forecast.step) > from;
    let loads = forecast.points.iter().filter(|point| touches(point.at)).map(|point| point.load);
    loads.max_by(|a, b| a.high().total_cmp(&b.high()))
}

/// Whole steps that cover `span`.
pub(crate) fn steps_in(span: Duration, step: Duration) -> usize {
    (span.as_micros().div_ceil(step.as_micros().max(1))) as usize
}

fn keep<T>(ring: &mut VecDeque<T>, item: T) {
    if ring.len() == KEPT {
        ring.pop_front();
    }
    ring.push_back(item);
}
