//! Looks at the status reports while the demo runs: makes the live lines and remembers the timeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foretide_control::report::{PoolReport, StatusReport};
use foretide_loadtest::traffic::tally::TrafficProgress;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::table::InstanceState;
use tokio::sync::watch;

use crate::demo::plan::DemoPlan;

/// A line this often.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// What was to be seen.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// First status report.
    pub first_seen: Timestamp,
    /// When traffic began.
    pub traffic_start: Timestamp,
    /// Last status report.
    pub last_seen: Timestamp,
    /// (seconds, work rate).
    pub actual: Vec<(f64, f64)>,
    /// (seconds, low, mean, high), as forecast a lead time ahead.
    pub forecast: Vec<(f64, f64, f64, f64)>,
    /// (seconds, warm, all that were asked for and are not gone).
    pub fleet: Vec<(f64, usize, usize)>,
    /// (seconds, words).
    pub decisions: Vec<(f64, String)>,
    instances: BTreeMap<InstanceId, Life>,
}

#[derive(Clone, Debug)]
struct Life {
    speed: f64,
    asked_at: Timestamp,
    warm_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

/// Looks and remembers.
pub struct Watcher {
    report: watch::Receiver<Arc<StatusReport>>,
    plan: DemoPlan,
    timeline: Timeline,
    seen_decision: Option<u64>,
    next_line: Timestamp,
}

impl Timeline {
    /// Sum over instances of the time from the wish to the end.
    pub fn instance_seconds(&self) -> f64 {
        let lives = self.instances.values();
        lives.map(|life| life.ended_at.unwrap_or(self.last_seen).since(life.asked_at).as_secs_f64()).sum()
    }

    /// Declared speed of an instance; 1 of one that was never seen.
    pub fn speed_of(&self, instance: InstanceId) -> f64 {
        self.instances.get(&instance).map_or(1.0, |life| life.speed)
    }

    /// Speeds in order of start.
    pub fn speeds(&self) -> Vec<f64> {
        self.instances.values().map(|life| life.speed).collect()
    }

    /// Cold starts in order of start; instances that never got ready are left out.
    pub fn cold_starts(&self) -> Vec<Duration> {
        self.instances.values().filter_map(|life| Some(life.warm_at?.since(life.asked_at))).collect()
    }
}

impl Watcher {
    /// Begins to look.
    pub fn new(report: watch::Receiver<Arc<StatusReport>>, plan: &DemoPlan) -> Self {
        let now = report.borrow().at;
        let timeline =
            Timeline { first_seen: now, traffic_start: now, last_seen: now, ..Timeline::default() };
        Self { report, plan: plan.clone(), timeline, seen_decision: None, next_line: now }
    }

    /// Second 0 of the timeline.
    pub fn traffic_started(&mut self, now: Timestamp) {
        self.timeline.traffic_start = now;
        self.next_line = now.plus(LINE_EVERY);
    }

    /// What there is to say, if anything is new.
    pub fn watch(&mut self, sent: &TrafficProgress) -> Vec<String> {
        if !self.report.has_changed().unwrap_or(false) {
            return Vec::new();
        }
        let latest = Arc::clone(&self.report.borrow_and_update());
        let mut lines = self.look(&latest);
        if latest.at >= self.next_line {
            self.next_line = latest.at.plus(LINE_EVERY);
            lines.extend(latest.pools.iter().map(|pool| self.line(&latest, pool, sent)));
        }
        lines
    }

    /// Remembers a report; answers with new scaling decisions.
    pub fn look(&mut self, report: &StatusReport) -> Vec<String> {
        self.timeline.last_seen = report.at;
        let second = self.second(report.at);
        for pool in &report.pools {
            self.note_instances(pool, report.at);
            self.timeline.actual.push((second, pool.work_rate));
            if let Some(past) = pool.forecast_past.last() {
                let at = self.second(past.at);
                if self.timeline.forecast.last().is_none_or(|(last, ..)| *last < at) {
                    self.timeline.forecast.push((at, past.low, past.mean, past.high));
                }
            }
            let warm = pool.instances.iter().filter(|i| i.state == InstanceState::Warm).count();
            let all = pool.instances.iter().filter(|i| i.state != InstanceState::Gone).count();
            self.timeline.fleet.push((second, warm, all));
        }
        self.note_decisions(report)
    }

    /// Gives the timeline away.
    pub fn finish(self) -> Timeline {
        self.timeline
    }

    fn note_instances(&mut self, pool: &PoolReport, now: Timestamp) {
        for instance in &pool.instances {
            let life = self.timeline.instances.entry(instance.id).or_insert(Life {
                speed: 1.0,
                asked_at: now,
                warm_at: None,
                ended_at: None,
            });
            if let Some(address) = &instance.address {
                life.speed = self.plan.speed_of(address);
            }
            if instance.state == InstanceState::Warm {
                life.warm_at.get_or_insert(now);
            }
            if instance.state == InstanceState::Gone {
                life.ended_at.get_or_insert(now);
            }
        }
        let here = |id: &InstanceId| pool.instances.iter().any(|instance| instance.id == *id);
        for (id, life) in &mut self.timeline.instances {
            if !here(id) {
                life.ended_at.get_or_insert(now);
            }
        }
    }

    fn note_decisions(&mut self, report: &StatusReport) -> Vec<String> {
        let seen = self.seen_decision;
        let mut lines = Vec::new();
        for decision in
            report.scaling_decisions.iter().rev().filter(|decision| seen.is_none_or(|s| decision.id > s))
        {
            self.seen_decision = Some(decision.id);
            if !decision.instances.is_empty() {
                let second = self.second(decision.at);
                self.timeline.decisions.push((second, decision.plan.words.clone()));
                lines.push(format!("{second:>6.1} s  ► {}", decision.plan.words));
            }
        }
        lines
    }

    fn line(&self, report: &StatusReport, pool: &PoolReport, sent: &TrafficProgress) -> String {
        let count = |state| pool.instances.iter().filter(|instance| instance.state == state).count();
        let ahead = Duration::from_secs_f64(pool.lead_s);
        let forecast = pool.forecast.as_ref().and_then(|f| f.at(report.at.plus(ahead))).map_or_else(
            || "no forecast yet".to_owned(),
            |load| {
                format!("in {:.1} s {:.2} [{:.2}–{:.2}]", pool.lead_s, load.mean(), load.low(), load.high())
            },
        );
        let coming = count(InstanceState::Cold) + count(InstanceState::Warming);
        let model = report.model.card.as_ref().map_or_else(
            || format!("running means, {} rows", report.model.rows),
            |card| {
                format!(
                    "model {} (log-RMSE {:.2}, key mean {:.2})",
                    card.version, card.log_rmse, card.key_mean_log_rmse
                )
            },
        );
        format!(
            "{:>6.1} s  {:>4.0} req/s, load {:.2} of {:.2}; forecast {forecast}; {} warm, {coming} starting, {} draining; \
             {model}; {} sent, {} errors",
            self.second(report.at),
            pool.request_rate,
            pool.work_rate,
            pool.capacity,
            count(InstanceState::Warm),
            count(InstanceState::Draining),
            sent.sent,
            sent.errors,
        )
    }

    fn second(&self, at: Timestamp) -> f64 {
        at.as_secs_f64() - self.timeline.traffic_start.as_secs_f64()
    }
}
