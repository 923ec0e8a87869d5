//! One request on its way: what was decided, what is still owed, and what is said about it in the end.
//!
//! States: begun → routed → (trying → concluded)+ → finished. Dropping a context in any state is safe and complete: the
//! ticket comes back, the try is observed as cut off, the line is written. That is the path of cancelled requests, of
//! those whose time ran out in the middle of a response, and of those that a drain could not wait for.

pub(super) mod entering;
pub(super) mod hedging;
mod sight;

use std::sync::Arc;
use std::time::Duration;

use foretide_guard::upgrade::Upgrade;
use foretide_guard::watch;
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::claim::Claim;
use foretide_routing::decide::{Attempt, Decision, Reason, decide, predict};
use foretide_routing::extract::RequestFacts;
use foretide_routing::live::shown::Guest;
use foretide_routing::live::{Attained, Ticket};
use foretide_routing::observe::{Observation, Outcome, Reported};
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::UpstreamSettings;
use foretide_routing::table::{PoolTable, RoutingTable};
use http::{HeaderMap, HeaderValue};
use pingora_proxy::Session;
use tokio::time::Instant;

use crate::clock::Moment;
use crate::engine::access_line::{Flag, Line, LineHead, LineRoute, LineTry};
use crate::engine::admission::Admitted;
use crate::engine::metrics::{Report, RouteMetrics};
use crate::engine::shared::Shared;
use crate::engine::waiting::Pass;
use crate::engine::{headers, report};

/// Tries of one request at most, whatever a pool's settings say.
pub(super) const MOST_TRIES: usize = 16;
/// Status of a request whose client went away before it was answered; nginx's, as there is no official one.
pub(super) const CLIENT_GONE: u16 = 499;

/// The time of every so many-th prediction is measured: it varies little, and every look at the clock is work too.
const PREDICTIONS_TIMED: u64 = 16;

/// One request.
pub(super) struct RequestContext {
    pub(super) shared: Arc<Shared>,
    pub(super) request_id: HeaderValue,
    pub(super) deadline: Option<Instant>,
    pub(super) flag: Flag,
    pub(super) routed: Option<Routed>,
    /// Of the try that is about to connect.
    pub(super) upgrade: Option<Upgrade>,
    arrived: Moment,
    /// The last reading of the clock. What follows within microseconds of it takes it for now.
    latest: Moment,
    sampled: bool,
    head: Option<LineHead>,
    tries: usize,
    tried: Tried,
    reused_stale: bool,
    finished: bool,
    /// Not one of the requests that are counted.
    aside: bool,
}

/// A request that a route took.
pub(super) struct Routed {
    pub(super) table: Arc<RoutingTable>,
    pub(super) facts: RequestFacts,
    wish: Wish,
    prediction: CostPrediction,
    metrics: Arc<RouteMetrics>,
    current: Option<Try>,
    /// The first of two tries at the same time, while both may win.
    rival: Option<Try>,
    last: Option<LineTry>,
    /// What it may expect.
    claim: Claim,
    /// By the pool's door, where it has one.
    admitted: Option<Admitted>,
    /// Its slot, in gateway mode.
    pass: Option<Pass>,
    /// As others see it, where sight is shared.
    guest: Option<Guest>,
}

/// One try at one instance.
struct Try {
    decision: Decision,
    address: Arc<str>,
    ticket: Option<Ticket>,
    sent_at: Timestamp,
    status: u16,
    response_bytes: u64,
    /// The instance has it, or may have it.
    sent: bool,
    reported: Reported,
    done: Option<Done>,
    _in_flight: InFlight,
}

#[derive(Clone, Copy)]
struct Done {
    at: Timestamp,
    attained: Attained,
}

/// What the forwarding half needs to know of a choice.
pub(super) struct Chosen {
    pub(super) address: Arc<str>,
    pub(super) left: Option<Duration>,
}

/// How a request ended, for its line.
pub(super) struct End {
    pub(super) status: u16,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

/// Instances that failed this request.
#[derive(Default)]
struct Tried {
    instances: [Option<InstanceId>; MOST_TRIES],
}

impl Tried {
    fn add(&mut self, instance: InstanceId) {
        if let Some(free) = self.instances.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(instance);
        }
    }

    /// Calls `with` with the instances as a slice, on the stack.
    fn with<T>(&self, with: impl FnOnce(&[InstanceId]) -> T) -> T {
        let mut flat = [InstanceId(0); MOST_TRIES];
        let mut count = 0;
        for instance in self.instances.iter().flatten() {
            flat[count] = *instance;
            count += 1;
        }
        with(&flat[..count])
    }
}

struct InFlight(Arc<RouteMetrics>);

impl InFlight {
    fn new(metrics: &Arc<RouteMetrics>) -> Self {
        metrics.in_flight.increment(1.0);
        Self(metrics.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.decrement(1.0);
    }
}

impl Routed {
    /// The fleet may have changed since; the routes must be the same, or our ids would mean something else.
    fn refresh(&mut self, newest: &Arc<RoutingTable>) {
        if Arc::ptr_eq(&newest.routes, &self.table.routes) {
            self.table = Arc::clone(newest);
        }
    }
}

impl RequestContext {
    /// A head was read.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let number = shared.stats.request_started();
        let arrived = shared.clock.read();
        Self {
            arrived,
            latest: arrived,
            sampled: number.is_multiple_of(PREDICTIONS_TIMED),
            shared,
            request_id: HeaderValue::from_static("-"),
            deadline: None,
            flag: Flag::None,
            routed: None,
            upgrade: None,
            head: None,
            tries: 0,
            tried: Tried::default(),
            reused_stale: false,
            finished: false,
            aside: false,
        }
    }

    /// Reads the clock; from here on this is now.
    pub(super) fn read_clock(&mut self) -> Moment {
        self.latest = self.shared.clock.read();
        self.latest
    }

    /// The whole request must be over so long after it came.
    pub(super) fn limit_to(&mut self, limit: Duration) -> Instant {
        let deadline = Instant::from_std(self.arrived.instant) + limit;
        self.deadline = Some(deadline);
        deadline
    }

    /// Takes from the head what is needed to the end.
    pub(super) fn begin(&mut self, session: &Session) {
        self.request_id = headers::request_id(session, &self.shared.chance);
        if self.shared.log.enabled() {
            self.head = Some(LineHead::of(session));
        }
    }

    /// A route took it: predicts, once.
    pub(super) fn route(&mut self, table: Arc<RoutingTable>, mut facts: RequestFacts, claim: Claim) {
        // The others; this one is counted already.
        facts.query.in_flight = self.shared.stats.in_flight().saturating_sub(1) as f32;
        let metrics = self.shared.metrics.route(&table, facts.route, facts.pool);
        let before = self.sampled.then(std::time::Instant::now);
        let prediction = predict(&table, &facts, self.latest.stamp);
        if let Some(before) = before {
            self.shared.metrics.predicted_in(before.elapsed());
        }
        metrics.cost_predicted.record(prediction.estimate.work_us.mean() / 1e6);
        self.routed = Some(Routed {
            table,
            facts,
            prediction,
            metrics,
            current: None,
            rival: None,
            last: None,
            claim,
            admitted: None,
            pass: None,
            wish: Wish::default(),
            guest: None,
        });
    }

    /// The request says where it would like to go.
    pub(super) fn wants(&mut self, wish: Wish) {
        if let Some(routed) = self.routed.as_mut() {
            routed.wish = wish;
        }
    }

    /// Decides and takes the cost on. `None`: the pool has no instance.
    pub(super) fn choose(&mut self) -> Option<Chosen> {
        if self.tries > 0 {
            self.read_clock();
        }
        let now = self.latest.stamp;
        let left = self.time_left();
        let routed = self.routed.as_mut()?;
        if self.tries > 0 {
            routed.refresh(&self.shared.table.load());
        }
        let pool = routed.table.pools.get(routed.facts.pool.index())?;
        if self.tries == 0 {
            pool.retry_budget.deposit(now);
        }
        let draw = self.shared.chance.draw();
        let (mut decision, ticket) = self.tried.with(|tried| {
            let attempt = Attempt { tried, id: draw.id, chance: draw.bits, wish: routed.wish, now };
            decide(&routed.table, pool, &routed.facts, &routed.prediction, attempt)
        })?;
        let address = pool.instances.get(decision.index)?.address.clone();
        if let Some(rival) = &routed.rival {
            if rival.decision.instance == decision.instance {
                return None;
            }
            decision.reason = Reason::Hedged;
        }
        self.shared.metrics.decided(decision.reason);
        self.tries += 1;
        routed.current = Some(Try {
            decision,
            address: address.clone(),
            ticket: Some(ticket),
            sent_at: now,
            status: 0,
            response_bytes: 0,
            sent: false,
            reported: Reported::default(),
            done: None,
            _in_flight: InFlight::new(&routed.metrics),
        });
        self.ask_beside(draw.bits);
        Some(Chosen { address, left })
    }

    /// The pool of a routed request.
    pub(super) fn pool(&self) -> Option<&PoolTable> {
        pool_of(self.routed.as_ref()?)
    }

    /// Where the request is, and where it would have liked to go.
    pub(super) fn placed(&self) -> Option<(&PoolTable, &str, Wish)> {
        let routed = self.routed.as_ref()?;
        Some((pool_of(routed)?, &routed.current.as_ref()?.address, routed.wish))
    }

    /// How the pool talks to its instances.
    pub(super) fn upstream(&self) -> Option<&UpstreamSettings> {
        Some(&self.pool()?.settings.upstream)
    }

    /// The instance has got the request, or is about to. On a kept connection that is as soon as it is chosen.
    pub(super) fn sent(&mut self, reused: bool) {
        let now = if reused { None } else { Some(self.read_clock().stamp) };
        if let Some(current) = self.current() {
            current.sent = true;
            current.sent_at = now.unwrap_or(current.sent_at);
        }
    }

    /// The instance answers.
    pub(super) fn answered(&mut self, status: u16) {
        if let Some(current) = self.current() {
            current.status = status;
        }
    }

    /// Reads the instance's load report, if there is one; true: it must be taken off, clients are not to see it.
    pub(super) fn read_report(&mut self, headers: &HeaderMap) -> bool {
        let Some(routed) = self.routed.as_mut() else { return false };
        let Some(upstream) = pool_of(routed).map(|pool| &pool.settings.upstream) else { return false };
        let Some(read) = report::read_from(headers, upstream) else { return false };
        let hide = !upstream.pass_load_report;
        routed.metrics.reported(if read.is_some() { Report::Read } else { Report::Broken });
        if let (Some(read), Some(current)) = (read, routed.current.as_mut()) {
            current.reported = read;
        }
        hide
    }

    /// A piece of the instance's answer is here.
    pub(super) fn received(&mut self, bytes: usize) {
        if let Some(current) = self.current() {
            current.response_bytes += bytes as u64;
        }
    }

    /// The instance's last byte is here: its work is over, however slowly the client reads.
    pub(super) fn upstream_done(&mut self) {
        let at = self.read_clock().stamp;
        if let Some(current) = self.current()
            && let Some(ticket) = current.ticket.take()
        {
            current.done = Some(Done { at, attained: ticket.finish(at) });
            self.leave();
        }
    }

    /// Its slot is free for the next one.
    fn leave(&mut self) {
        if let Some(routed) = self.routed.as_mut() {
            routed.pass = None;
            if let Some(guest) = &mut routed.guest {
                guest.leave();
            }
        }
    }

    fn current(&mut self) -> Option<&mut Try> {
        self.routed.as_mut()?.current.as_mut()
    }

    /// What was left of the request's own time at the last look at the clock; zero when it is over.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::from_std(self.latest.instant)))
    }

    /// When the first byte of the response is due, if the request has just been sent.
    pub(super) fn first_byte_due(&self) -> Option<Instant> {
        let due = Instant::from_std(self.latest.instant) + self.upstream()?.first_byte_timeout;
        Some(self.deadline.map_or(due, |deadline| due.min(deadline)))
    }

    /// Whether another try is allowed now, by attempts, by the request's time and by the pool's budget. Draws on it.
    pub(super) fn may_retry(&mut self) -> bool {
        let now = self.read_clock().stamp;
        let Some(pool) = self.pool() else { return false };
        let attempts = (pool.settings.retry.attempts as usize).min(MOST_TRIES);
        let in_time = self.time_left().is_none_or(|left| !left.is_zero());
        self.tries < attempts && in_time && pool.retry_budget.withdraw(now)
    }

    /// A kept-alive connection had been closed by the instance just before we used it. That is nobody's failure, and
    /// not a try: once a request, it is forgotten. `false` the second time.
    pub(super) fn forget_stale_reuse(&mut self) -> bool {
        if std::mem::replace(&mut self.reused_stale, true) {
            return false;
        }
        if let Some(routed) = self.routed.as_mut() {
            routed.current = None;
        }
        self.tries = self.tries.saturating_sub(1);
        true
    }

    /// Ends the current try as of the last look at the clock and tells the controller. `retried`: another one follows.
    pub(super) fn conclude(&mut self, outcome: Outcome, retried: bool) {
        let Some(routed) = self.routed.as_mut() else { return };
        if let Some(rival) = routed.rival.take() {
            self.close(rival, Outcome::ClientGone, true);
        }
        let Some(current) = self.routed.as_mut().and_then(|routed| routed.current.take()) else { return };
        let (instance, status) = (current.decision.instance, current.status);
        let (outcome, at) = self.close(current, outcome, retried);
        if retried {
            self.tried.add(instance);
            self.shared.stats.retried();
            self.shared.metrics.retried();
        } else {
            self.leave();
            if outcome == Outcome::Ok && status != 101 {
                self.tell_door(at);
            }
        }
    }

    /// Ends a try; how it ended, and when its instance was done with it.
    fn close(&mut self, mut current: Try, outcome: Outcome, retried: bool) -> (Outcome, Timestamp) {
        let now = self.latest.stamp;
        let Some(routed) = self.routed.as_mut() else { return (outcome, now) };
        let by_status = if current.status >= 500 { Outcome::ProducerError } else { Outcome::Ok };
        // A client that leaves after the instance is done takes nothing away from the instance.
        let outcome =
            if outcome == Outcome::ClientGone && current.done.is_some() { by_status } else { outcome };
        let complete = matches!(outcome, Outcome::Ok | Outcome::ProducerError);
        let done = match (current.done, current.ticket.take()) {
            (Some(done), _) => done,
            (None, Some(ticket)) if complete => Done { at: now, attained: ticket.finish(now) },
            // Cut short, but the instance had it until now: so much it has cost at least.
            (None, Some(ticket)) if current.sent => Done { at: now, attained: ticket.cut_short(now) },
            _ => Done { at: now, attained: Attained::default() },
        };
        // How long a tunnel stayed open is no cost.
        let attained = if current.status == 101 { Attained::default() } else { done.attained };
        let form = pool_of(routed).map(|pool| pool.form).unwrap_or_default();
        let attained_us = attained.by(form);
        let measured_us = if complete { attained_us } else { 0.0 };
        if let Some(guest) = routed.guest.as_ref().filter(|_| measured_us > 0.0) {
            self.shared.shown.served(guest, measured_us);
        }
        let upstream_us = done.at.since(current.sent_at).as_micros() as u64;
        self.shared.ring.push(Observation {
            arrived_at: self.arrived.stamp,
            finished_at: done.at,
            pool: routed.facts.pool,
            query: routed.facts.query,
            prediction: routed.prediction,
            decision: current.decision,
            upstream_us,
            attained_us,
            attained,
            status: current.status,
            response_bytes: current.done.map(|_| current.response_bytes),
            reported: current.reported,
            outcome,
            retried,
        });
        routed.metrics.upstream_duration.record(upstream_us as f64 / 1e6);
        if measured_us > 0.0 {
            routed.metrics.cost_actual.record(measured_us / 1e6);
        }
        let wanted = pool_of(routed).is_some_and(|pool| pool.settings.upstream.cost_from.is_some());
        if wanted && outcome == Outcome::Ok && current.reported.work_us.is_none() {
            routed.metrics.reported(Report::WithoutCost);
        }
        routed.last = Some(LineTry {
            decision: current.decision.id,
            instance: current.decision.instance.0,
            address: current.address,
            reason: current.decision.reason,
            outcome,
            upstream_us,
            attained_us: measured_us,
        });
        (outcome, done.at)
    }

    /// What the instance's answer makes of a try that went through.
    pub(super) fn outcome_by_status(&self) -> Outcome {
        let status =
            self.routed.as_ref().and_then(|routed| routed.current.as_ref()).map_or(0, |try_| try_.status);
        if status >= 500 { Outcome::ProducerError } else { Outcome::Ok }
    }

    /// Counts and writes the line, as of the last look at the clock. Only the first call does anything.
    pub(super) fn finish(&mut self, end: &End) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let took = self.latest.stamp.since(self.arrived.stamp);
        let metrics = match &self.routed {
            Some(routed) => &routed.metrics,
            None => self.shared.metrics.unrouted(),
        };
        metrics.answered(end.status);
        metrics.duration.record(took.as_secs_f64());
        let Some(head) = self.head.take() else { return };
        let line = Line {
            head,
            request_id: self.request_id.clone(),
            arrived_at: self.arrived.stamp,
            duration_us: took.as_micros() as u64,
            status: end.status,
            flag: self.flag,
            bytes_received: end.bytes_received,
            bytes_sent: end.bytes_sent,
            tries: self.tries as u32,
            route: self.routed.as_mut().map(|routed| LineRoute {
                metrics: routed.metrics.clone(),
                consumer: routed.facts.query.consumer_key,
                predicted_us: routed.prediction.estimate.work_us.mean(),
                class: routed.prediction.estimate.class,
                basis: routed.prediction.estimate.basis,
                last_try: routed.last.take(),
            }),
        };
        if !self.shared.log.push(line) {
            self.shared.metrics.line_dropped();
        }
    }
}

fn pool_of(routed: &Routed) -> Option<&PoolTable> {
    routed.table.pools.get(routed.facts.pool.index())
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        if !self.finished {
            self.read_clock();
            let over = watch::expired() || self.time_left().is_some_and(|left| left.is_zero());
            let status =
                self.routed.as_ref().and_then(|routed| routed.current.as_ref()).map_or(0, |try_| try_.status);
            self.flag = if over { Flag::Timeout } else { Flag::ClientGone };
            self.conclude(if over { Outcome::ProducerUnreachable } else { Outcome::ClientGone }, false);
            let status = if status == 0 { CLIENT_GONE } else { status };
            self.finish(&End { status, bytes_received: 0, bytes_sent: 0 });
        }
        if !self.aside {
            self.shared.stats.request_ended();
        }
    }
}
