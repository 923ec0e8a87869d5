//! A question to an instance: what is in flight there? Made where requests are placed, asked by an adapter that may wait.
//!
//! An instance is asked by one question at a time, and not again while what it said is fresh: half a mean service time,
//! within which it hardly changes, and never less than a millisecond. A question that fails counts as under way until its
//! time is over, so an instance that refuses at once is not asked more often than one that hangs.

use crate::live::LiveLoad;
use crate::live::others::PoolSight;
use crate::settings::{PoolSettings, SightSettings};
use crate::table::{InstanceEntry, PoolTable};
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::BUCKETS;
use foretide_steering::sight::Report;
use std::sync::Arc;

/// One instance to be asked.
#[derive(Debug)]
pub struct Question {
    /// `host:port`.
    pub address: Arc<str>,
    /// Of its pool.
    pub settings: Arc<PoolSettings>,
    live: Arc<LiveLoad>,
    sight: Arc<PoolSight>,
    instances: usize,
    own: [u16; BUCKETS],
}

impl Question {
    /// To an instance of a pool; `None`: the pool shares no sight, or the instance need not be asked now.
    pub fn to(entry: &InstanceEntry, pool: &PoolTable, now: Timestamp) -> Option<Self> {
        let (sight, settings) = (pool.sight.as_ref()?, pool.settings.sight.as_ref()?);
        entry.live.claim_asking(now, sight.fresh_for(), settings.timeout).then(|| Self {
            address: Arc::clone(&entry.address),
            settings: Arc::clone(&pool.settings),
            live: Arc::clone(&entry.live),
            sight: Arc::clone(sight),
            instances: pool.instances.len(),
            own: entry.live.counts(),
        })
    }

    /// How to ask; `None` cannot be, as it was there when the question was made.
    pub fn how(&self) -> Option<&SightSettings> {
        self.settings.sight.as_ref()
    }

    /// It answered.
    pub fn answered(self, report: &Report, now: Timestamp) {
        self.sight.hear_answer(&self.live, report, self.instances, now, &self.own);
        self.live.asked();
    }
}
