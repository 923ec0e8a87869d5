//! Leases: instances given to clients that do not pass through the proxy, for a while.
//!
//! A lease is a choice like any other ([`mod@crate::decide`]) whose ticket is kept here until the client gives it back or its
//! time is over: so long its predicted cost is in flight on the instance, where every score sees it. The ticket takes off
//! exactly what it took on, whichever comes first, and once.
//!
//! Bounded in number and in time: a client that never comes back costs a place for at most [`LONGEST`].
//!
//! A client that gives its lease back and says how the request ended teaches as if the request had come through: from
//! the grant until then the instance worked for it. A cost that the client named itself teaches nothing.
//!
//! Known weakness: what the client does before it sends and after it has its answer counts as the instance's time.

use crate::decide::{Attempt, Decision, decide};
use crate::extract::RequestFacts;
use crate::live::Ticket;
use crate::observe::{Observation, Outcome, Reported};
use crate::table::{PoolTable, RoutingTable};
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::id::PoolId;
use foretide_predictor::time::Timestamp;
use foretide_steering::score::Form;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A lease ends after this at the latest: longer than all but a few requests take, short enough that a crashed client's
/// load is soon forgotten.
pub const LONGEST: Duration = Duration::from_secs(60);

/// All leases that are out. Dropping it gives everything back.
#[derive(Debug)]
pub struct LeaseBook {
    held: BTreeMap<u64, Held>,
    due: BTreeSet<(Timestamp, u64)>,
    room: usize,
}

/// A lease that is out.
#[derive(Debug)]
struct Held {
    ticket: Ticket,
    granted_at: Timestamp,
    until: Timestamp,
    pool: PoolId,
    form: Form,
    query: CostQuery,
    prediction: CostPrediction,
    decision: Decision,
    teaches: bool,
}

/// A lease that was given back in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Released {
    /// What is to be learned from it; `None`: nothing was said of its end, or its cost was not predicted.
    pub observation: Option<Observation>,
}

/// What somebody wants an instance for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What is known of the request.
    pub facts: &'a RequestFacts,
    /// What it will cost.
    pub prediction: &'a CostPrediction,
    /// For so long, at most [`LONGEST`].
    pub ttl: Duration,
    /// Whether its end may teach: its cost was predicted, not named by the client.
    pub teaches: bool,
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLease {
    /// As many are out as there may be.
    Full,
    /// The pool has no instance.
    NoInstance,
}

impl LeaseBook {
    /// For at most so many leases at a time.
    pub fn new(room: usize) -> Self {
        Self { held: BTreeMap::new(), due: BTreeSet::new(), room }
    }

    /// Leases that are out.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is out.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Chooses an instance of the pool and takes the cost on until the lease of number `attempt.id` ends; when that will be.
    ///
    /// # Errors
    /// Why there is none; nothing was taken on.
    pub fn grant(
        &mut self,
        table: &RoutingTable,
        pool: &PoolTable,
        wanted: Wanted<'_>,
        attempt: Attempt<'_>,
    ) -> Result<(Decision, Timestamp), NoLease> {
        self.expire(attempt.now);
        // A number that is out already cannot come up by chance in the life of a process; if it does, nobody loses a lease.
        if self.held.len() >= self.room || self.held.contains_key(&attempt.id) {
            return Err(NoLease::Full);
        }
        let chosen = decide(table, pool, wanted.facts, wanted.prediction, attempt);
        let (decision, ticket) = chosen.ok_or(NoLease::NoInstance)?;
        let until = attempt.now.plus(wanted.ttl.min(LONGEST));
        let held = Held {
            ticket,
            granted_at: attempt.now,
            until,
            pool: pool.id,
            form: pool.form,
            query: wanted.facts.query,
            prediction: *wanted.prediction,
            decision,
            teaches: wanted.teaches,
        };
        self.held.insert(attempt.id, held);
        self.due.insert((until, attempt.id));
        Ok((decision, until))
    }

    /// Ends a lease whose request ended like this, if the client says so; `None`: it has ended already, or never was.
    pub fn release(&mut self, id: u64, outcome: Option<Outcome>, now: Timestamp) -> Option<Released> {
        let held = self.held.remove(&id)?;
        self.due.remove(&(held.until, id));
        Some(Released { observation: held.end(outcome, now) })
    }

    /// Ends those whose time is over; how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let mut ended = 0;
        while let Some(&(until, id)) = self.due.first().filter(|(until, _)| *until <= now) {
            self.due.remove(&(until, id));
            if let Some(held) = self.held.remove(&id) {
                held.end(None, now);
            }
            ended += 1;
        }
        ended
    }
}

impl Held {
    /// Takes its cost off the instance; what it teaches.
    fn end(self, outcome: Option<Outcome>, now: Timestamp) -> Option<Observation> {
        let complete = matches!(outcome, Some(Outcome::Ok | Outcome::ProducerError));
        let attained = if complete { self.ticket.finish(now) } else { self.ticket.cut_short(now) };
        let outcome = outcome.filter(|_| self.teaches)?;
        Some(Observation {
            arrived_at: self.granted_at,
            finished_at: now,
            pool: self.pool,
            query: self.query,
            prediction: self.prediction,
            decision: self.decision,
            upstream_us: now.since(self.granted_at).as_micros() as u64,
            attained_us: attained.by(self.form),
            attained,
            // Nobody here has seen one.
            status: 0,
            response_bytes: None,
            reported: Reported::default(),
            outcome,
            retried: false,
        })
    }
}
