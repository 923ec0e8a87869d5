//! Leases: a client asks, gets an instance and a time to live, and goes there by itself.
//!
//! It says what it knows of its request in the configuration's own words: pool or route, who asks, parameters by name; or
//! what the request will cost. What it does not say is as if a request did not carry it.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use foretide_predictor::cost::estimator::Steering;
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{Attempt, Reason, predict};
use foretide_routing::extract::RequestFacts;
use foretide_routing::extract::described::{Description, Given, Unclear};
use foretide_routing::lease::{LONGEST, LeaseBook, NoLease, Released, Wanted};
use foretide_routing::observe::Outcome;
use foretide_routing::select::narrow::Wish;
use foretide_routing::table::RoutingTable;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Advice;

const OUT: &str = "foretide_leases";
const ASKED: &str = "foretide_leases_asked_total";
const ENDED: &str = "foretide_leases_ended_total";
/// Unless the client says otherwise: longer than most requests take.
const USUAL: Duration = Duration::from_secs(10);
/// How often leases are looked through for those that are over: the precision of a time to live.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nobody leases an instance for more than an hour of work, milliseconds.
const MOST_WORK_MS: f64 = 3.6e6;

/// What a client says of the request that it is about to send.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseRequest {
    /// Pool by name; may be left out where the route is said.
    pub pool: Option<String>,
    /// Route by name; left out, the first that leads to the pool.
    pub route: Option<String>,
    /// Who asks, as the route's first source of consumers would say it.
    pub consumer: Option<String>,
    /// Parameters by the names the route gives them: numbers or words.
    pub parameters: BTreeMap<String, Value>,
    /// What the request costs, milliseconds of service; left out, it is predicted, and learned from how it ends.
    pub work_ms: Option<f64>,
    /// The lease ends after so long by itself, milliseconds: 1 to 60,000; 10,000 where nothing is said.
    pub ttl_ms: Option<u64>,
}

/// A lease.
#[derive(Clone, Debug, Serialize)]
pub struct Lease {
    /// Its name, to end it.
    pub lease: String,
    /// Pool by name.
    pub pool: String,
    /// Whom to send the request to.
    pub instance: InstanceId,
    /// Where that is.
    pub address: String,
    /// Why this one.
    pub reason: Reason,
    /// What the request is thought to cost, milliseconds of service: in flight there from now on.
    pub work_ms: f64,
    /// The lease ends after so long by itself, milliseconds.
    pub ttl_ms: u64,
    /// At this time.
    pub expires_at: Timestamp,
}

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Neither pool nor route are said, or there is none of that name, or the route leads elsewhere.
    #[error("no such pool or route")]
    Unknown,
    /// The route knows no such parameter.
    #[error("the route has no parameter `{0}`")]
    Parameter(String),
    /// A value that is no parameter, cost or time.
    #[error("`{0}` is out of range or of the wrong kind")]
    Value(String),
    /// As many are out as there may be.
    #[error("too many leases are out")]
    Full,
    /// Nobody could serve it.
    #[error("the pool has no instance")]
    NoInstance,
}

/// Says what the metrics mean.
pub(super) fn describe() {
    describe_gauge!(OUT, "Leases that are out");
    describe_counter!(ASKED, "Leases asked for, by result");
    describe_counter!(ENDED, "Leases that ended: given back by their client, or by their time");
}

impl Advice {
    /// Chooses an instance for a request of somebody else's and takes its cost on there.
    ///
    /// # Errors
    /// Why there is none; nothing was taken on.
    pub fn lease(&self, request: &LeaseRequest) -> Result<Lease, LeaseError> {
        let table = self.parts.table.load();
        let lease = self.granted(&table, request);
        let result = match &lease {
            Ok(_) => "granted",
            Err(LeaseError::Full) => "full",
            Err(LeaseError::NoInstance) => "no_instance",
            Err(_) => "refused",
        };
        counter!(ASKED, "result" => result).increment(1);
        lease
    }

    fn granted(&self, table: &RoutingTable, request: &LeaseRequest) -> Result<Lease, LeaseError> {
        let facts = facts(table, request)?;
        let ttl = match request.ttl_ms {
            None => USUAL,
            Some(ms) if (1..=LONGEST.as_millis() as u64).contains(&ms) => Duration::from_millis(ms),
            Some(_) => return Err(LeaseError::Value("ttl_ms".to_owned())),
        };
        let now = self.now();
        let mut prediction = predict(table, &facts, now);
        if let Some(work_ms) = request.work_ms {
            if !(work_ms > 0.0 && work_ms <= MOST_WORK_MS) {
                return Err(LeaseError::Value("work_ms".to_owned()));
            }
            prediction.estimate.work_us = Estimate::exact(work_ms * 1e3);
            // Nothing was predicted, so there is no skill to weigh it by.
            prediction.steering = Steering { work_us: (work_ms * 1e3) as f32, weight: 1.0 };
        }
        let pool = table.pools.get(facts.pool.index()).ok_or(LeaseError::Unknown)?;
        let (id, chance) = (self.next_number(), self.next_number());
        let teaches = request.work_ms.is_none();
        let wanted = Wanted { facts: &facts, prediction: &prediction, ttl, teaches };
        let attempt = Attempt { tried: &[], id, chance, wish: Wish::default(), now };
        let mut book = self.book();
        let granted = book.grant(table, pool, wanted, attempt);
        gauge!(OUT).set(book.len() as f64);
        drop(book);
        let (decision, expires_at) = granted.map_err(|refused| match refused {
            NoLease::Full => LeaseError::Full,
            NoLease::NoInstance => LeaseError::NoInstance,
        })?;
        let entry = pool.instances.get(decision.index).ok_or(LeaseError::NoInstance)?;
        Ok(Lease {
            lease: format!("{id:016x}"),
            pool: pool.name.to_string(),
            instance: decision.instance,
            address: entry.address.to_string(),
            reason: decision.reason,
            work_ms: prediction.estimate.work_us.mean() / 1e3,
            ttl_ms: ttl.as_millis() as u64,
            expires_at,
        })
    }

    /// Ends a lease whose request ended like this, if the client says so: then its cost is learned. Whether it was;
    /// `None`: the lease has ended already, or never was.
    pub fn release(&self, lease: &str, outcome: Option<Outcome>) -> Option<bool> {
        let id = u64::from_str_radix(lease, 16).ok()?;
        let mut book = self.book();
        let released = book.release(id, outcome, self.now());
        gauge!(OUT).set(book.len() as f64);
        drop(book);
        let Released { observation } = released?;
        counter!(ENDED, "how" => "released").increment(1);
        let teaches = observation.is_some();
        observation.into_iter().for_each(|observation| (self.parts.learn)(observation));
        Some(teaches)
    }

    /// Ends those whose time is over.
    pub fn expire_leases(&self) {
        let mut book = self.book();
        let ended = book.expire(self.now());
        gauge!(OUT).set(book.len() as f64);
        drop(book);
        counter!(ENDED, "how" => "expired").increment(ended as u64);
    }

    /// Leases that are out.
    pub fn leases(&self) -> usize {
        self.book().len()
    }

    fn book(&self) -> MutexGuard<'_, LeaseBook> {
        // No code that holds it can panic half-way through a change.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends leases in time, for ever.
pub async fn keep(advice: Arc<Advice>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        advice.expire_leases();
    }
}

fn facts(table: &RoutingTable, request: &LeaseRequest) -> Result<RequestFacts, LeaseError> {
    if request.pool.is_none() && request.route.is_none() {
        return Err(LeaseError::Unknown);
    }
    let pool = request.pool.as_deref().map(|name| {
        let found = table.pools.iter().find(|pool| &*pool.name == name);
        found.map(|pool| pool.id).ok_or(LeaseError::Unknown)
    });
    let parameters = request.parameters.iter().map(|(name, value)| Ok((name.as_str(), given(name, value)?)));
    let parameters: Vec<(&str, Given<'_>)> = parameters.collect::<Result<_, LeaseError>>()?;
    let description = Description {
        route: request.route.as_deref(),
        pool: pool.transpose()?,
        consumer: request.consumer.as_deref(),
        parameters: &parameters,
    };
    table.routes.describe(&description).map_err(|unclear| match unclear {
        Unclear::Route => LeaseError::Unknown,
        Unclear::Parameter(name) => LeaseError::Parameter(name),
    })
}

fn given<'a>(name: &str, value: &'a Value) -> Result<Given<'a>, LeaseError> {
    match value {
        Value::Number(number) => Ok(Given::Number(number.as_f64().unwrap_or(f64::NAN))),
        Value::String(text) => Ok(Given::Text(text)),
        _ => Err(LeaseError::Value(name.to_owned())),
    }
}
