//! Leases: instances given to clients that do not pass through the proxy, for a while.
//!
//! A lease is a choice like any other ([`mod@crate::decide`]) whose ticket is kept here until the client gives it back or its
//! time is over: so long its predicted cost is in flight on the instance, where every score sees it. The ticket takes off
//! exactly what it took on, whichever comes first, and once.
//!
//! Bounded in number and in time: a client that never comes back costs a place for at most [`LONGEST`].
//!
//! Known weakness: what a leased request really cost is not learned, because nobody here sees it end.

use crate::decide::{Attempt, Decision, decide};
use crate::extract::RequestFacts;
use crate::live::Ticket;
use crate::table::{PoolTable, RoutingTable};
use foretide_predictor::cost::estimator::CostPrediction;
use foretide_predictor::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A lease ends after this at the latest: longer than all but a few requests take, short enough that a crashed client's
/// load is soon forgotten.
pub const LONGEST: Duration = Duration::from_secs(60);

/// All leases that are out. Dropping it gives everything back.
#[derive(Debug)]
pub struct LeaseBook {
    held: BTreeMap<u64, (Ticket, Timestamp)>,
    due: BTreeSet<(Timestamp, u64)>,
    room: usize,
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
        self.held.insert(attempt.id, (ticket, until));
        self.due.insert((until, attempt.id));
        Ok((decision, until))
    }

    /// Ends a lease; false: it has ended already, or never was.
    pub fn release(&mut self, id: u64, now: Timestamp) -> bool {
        let Some((ticket, until)) = self.held.remove(&id) else { return false };
        self.due.remove(&(until, id));
        ticket.cut_short(now);
        true
    }

    /// Ends those whose time is over; how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let mut ended = 0;
        while let Some(&(until, id)) = self.due.first().filter(|(until, _)| *until <= now) {
            self.due.remove(&(until, id));
            if let Some((ticket, _)) = self.held.remove(&id) {
                ticket.cut_short(now);
            }
            ended += 1;
        }
        ended
    }
}
