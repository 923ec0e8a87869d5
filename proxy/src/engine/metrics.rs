//! Metrics with handles that are looked up once: formatting labels costs 600 ns a request, a cached handle set 170.
//!
//! One set of handles a route (a route names one pool). It is found by the route's index and checked by name, so a
//! reload that renames or reorders routes makes new sets and nothing has to be told about generations.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use foretide_predictor::id::{PoolId, RouteId};
use foretide_routing::decide::Reason;
use foretide_routing::table::RoutingTable;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::engine::sight;

const REQUESTS: &str = "foretide_http_requests_total";
const DURATION: &str = "foretide_http_request_duration_seconds";
const UPSTREAM_DURATION: &str = "foretide_upstream_duration_seconds";
const IN_FLIGHT: &str = "foretide_requests_in_flight";
const COST_PREDICTED: &str = "foretide_cost_predicted_seconds";
const COST_ACTUAL: &str = "foretide_cost_actual_seconds";
const PREDICTION_DURATION: &str = "foretide_prediction_duration_seconds";
const FALLBACKS: &str = "foretide_tier_fallbacks_total";
const RETRIES: &str = "foretide_retries_total";
const REPORTS: &str = "foretide_load_reports_total";
const HEDGES: &str = "foretide_hedges_total";
const LOG_DROPPED: &str = "foretide_access_log_dropped_total";

/// Label of a request that no route took.
const NONE: &str = "none";

/// Status codes with a cached counter; the others, rare, pay for formatting.
const CODES: [u16; 28] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413,
    422, 429, 499, 500, 502, 503, 504,
];

/// Says what each metric means.
pub(super) fn describe() {
    describe_counter!(REQUESTS, "Requests by route, pool and status; 499: the client went away");
    describe_histogram!(DURATION, Unit::Seconds, "Head received to end of response");
    describe_histogram!(UPSTREAM_DURATION, Unit::Seconds, "Sent to the instance until its last byte");
    describe_gauge!(IN_FLIGHT, "Requests at instances now");
    describe_histogram!(COST_PREDICTED, Unit::Seconds, "Predicted work of a request");
    describe_histogram!(COST_ACTUAL, Unit::Seconds, "Measured work of a request, waiting taken off");
    describe_histogram!(
        PREDICTION_DURATION,
        Unit::Seconds,
        "Time spent on predicting one request; one in 16 is timed"
    );
    describe_counter!(FALLBACKS, "Decisions made without all tiers, by reason");
    describe_counter!(RETRIES, "Second and later tries");
    describe_counter!(
        REPORTS,
        "Load reports of instances: read, broken, or (where the pool's costs are reported) answers without a cost"
    );
    describe_counter!(
        HEDGES,
        "Light requests that waited for long: sent to a second instance that answered first (won) or did not (lost), or \
         not sent to one, for want of budget, time or instances (denied)"
    );
    describe_counter!(LOG_DROPPED, "Access log lines dropped because the writer could not keep up");
}

/// Handles by route, and those without labels.
#[derive(Default)]
pub(super) struct Metrics {
    routes: ArcSwap<Vec<Option<Arc<RouteMetrics>>>>,
    growing: Mutex<()>,
    unrouted: OnceLock<Arc<RouteMetrics>>,
    global: OnceLock<Global>,
}

/// Handles of one route and its pool.
pub(super) struct RouteMetrics {
    pub(super) route: Arc<str>,
    pub(super) pool: Arc<str>,
    codes: [OnceLock<Counter>; CODES.len()],
    pub(super) duration: Histogram,
    pub(super) upstream_duration: Histogram,
    pub(super) in_flight: Gauge,
    pub(super) cost_predicted: Histogram,
    pub(super) cost_actual: Histogram,
    reports: [OnceLock<Counter>; REPORT_RESULTS.len()],
    sight_age: OnceLock<Histogram>,
    hedges: [OnceLock<Counter>; HEDGE_RESULTS.len()],
}

/// What became of an instance's load report.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Read,
    Broken,
    WithoutCost,
}

/// In the order of [`Report`].
const REPORT_RESULTS: [&str; 3] = ["read", "broken", "without_cost"];

/// What became of a hedge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hedge {
    Won,
    Lost,
    Denied,
}

/// In the order of [`Hedge`].
const HEDGE_RESULTS: [&str; 3] = ["won", "lost", "denied"];

struct Global {
    prediction_duration: Histogram,
    fallbacks: [Counter; FALLBACK_REASONS.len()],
    retries: Counter,
    log_dropped: Counter,
}

const FALLBACK_REASONS: [(Reason, &str); 5] = [
    (Reason::NoModel, "no_model"),
    (Reason::ModelFailed, "model_failed"),
    (Reason::StaleTable, "stale_table"),
    (Reason::NoScore, "no_score"),
    (Reason::Panic, "panic"),
];

impl Metrics {
    /// Handles of a route of this table.
    pub(super) fn route(&self, table: &RoutingTable, route: RouteId, pool: PoolId) -> Arc<RouteMetrics> {
        let route_name = table.routes.route(route).name.as_str();
        let pool_name = table.pools.get(pool.index()).map_or(NONE, |pool| &pool.name);
        let fits = |known: &&Arc<RouteMetrics>| &*known.route == route_name && &*known.pool == pool_name;
        if let Some(known) = self.routes.load().get(route.index()).and_then(Option::as_ref).filter(fits) {
            return known.clone();
        }
        let _alone = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut routes = Vec::clone(&self.routes.load());
        if routes.len() <= route.index() {
            routes.resize(route.index() + 1, None);
        }
        let made = Arc::new(RouteMetrics::new(route_name, pool_name));
        routes[route.index()] = Some(made.clone());
        self.routes.store(Arc::new(routes));
        made
    }

    /// Handles of requests that no route took.
    pub(super) fn unrouted(&self) -> &Arc<RouteMetrics> {
        self.unrouted.get_or_init(|| Arc::new(RouteMetrics::new(NONE, NONE)))
    }

    /// Time spent on predicting one request.
    pub(super) fn predicted_in(&self, time: Duration) {
        self.global().prediction_duration.record(time.as_secs_f64());
    }

    /// Counts a decision that had to do without something.
    pub(super) fn decided(&self, reason: Reason) {
        if let Some(at) = FALLBACK_REASONS.iter().position(|(known, _)| *known == reason) {
            self.global().fallbacks[at].increment(1);
        }
    }

    /// Counts a second or later try.
    pub(super) fn retried(&self) {
        self.global().retries.increment(1);
    }

    /// Counts a dropped line.
    pub(super) fn line_dropped(&self) {
        self.global().log_dropped.increment(1);
    }

    fn global(&self) -> &Global {
        self.global.get_or_init(|| Global {
            prediction_duration: histogram!(PREDICTION_DURATION),
            fallbacks: FALLBACK_REASONS.map(|(_, reason)| counter!(FALLBACKS, "reason" => reason)),
            retries: counter!(RETRIES),
            log_dropped: counter!(LOG_DROPPED),
        })
    }
}

impl RouteMetrics {
    fn new(route: &str, pool: &str) -> Self {
        let (route, pool): (Arc<str>, Arc<str>) = (route.into(), pool.into());
        Self {
            duration: histogram!(DURATION, "route" => route.clone(), "pool" => pool.clone()),
            upstream_duration: histogram!(UPSTREAM_DURATION, "pool" => pool.clone()),
            in_flight: gauge!(IN_FLIGHT, "pool" => pool.clone()),
            cost_predicted: histogram!(COST_PREDICTED, "pool" => pool.clone()),
            cost_actual: histogram!(COST_ACTUAL, "pool" => pool.clone()),
            codes: [const { OnceLock::new() }; CODES.len()],
            reports: [const { OnceLock::new() }; REPORT_RESULTS.len()],
            sight_age: OnceLock::new(),
            hedges: [const { OnceLock::new() }; HEDGE_RESULTS.len()],
            route,
            pool,
        }
    }

    /// Counts an answered request.
    pub(super) fn answered(&self, code: u16) {
        match CODES.binary_search(&code) {
            Ok(at) => self.codes[at].get_or_init(|| self.counter(code)).increment(1),
            Err(_) => self.counter(code).increment(1),
        }
    }

    /// Age of what was known of others' requests; made only for pools that share sight.
    pub(super) fn sight_age(&self) -> &Histogram {
        self.sight_age.get_or_init(|| histogram!(sight::AGE, "pool" => self.pool.clone()))
    }

    /// Counts a load report.
    pub(super) fn reported(&self, report: Report) {
        let (pool, result) = (self.pool.clone(), REPORT_RESULTS[report as usize]);
        self.reports[report as usize]
            .get_or_init(|| counter!(REPORTS, "pool" => pool, "result" => result))
            .increment(1);
    }

    /// Counts a hedge.
    pub(super) fn hedged(&self, result: Hedge) {
        let (pool, name) = (self.pool.clone(), HEDGE_RESULTS[result as usize]);
        self.hedges[result as usize]
            .get_or_init(|| counter!(HEDGES, "pool" => pool, "result" => name))
            .increment(1);
    }

    fn counter(&self, code: u16) -> Counter {
        let (route, pool) = (self.route.clone(), self.pool.clone());
        counter!(REQUESTS, "route" => route, "pool" => pool, "code" => code.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_codes_are_sorted_as_their_search_needs() {
        assert!(CODES.is_sorted());
    }
}
