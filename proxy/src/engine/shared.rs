//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use foretide_conf::settings::Settings;
use foretide_racer::Racers;
use foretide_routing::live::question::Question;
use foretide_routing::live::shown::Shown;
use foretide_routing::table::RoutingTable;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::{Clock, Moment};
use crate::engine::POOLED_PER_THREAD;
use crate::engine::access_log::LogQueue;
use crate::engine::admission::Doors;
use crate::engine::authorities::Authorities;
use crate::engine::chance::Chance;
use crate::engine::connect::Resolver;
use crate::engine::metrics::Metrics;
use crate::engine::stats::EngineStats;
use crate::engine::waiting::Rooms;
use crate::ring::{ObservationRing, RefusalRing};

/// What all requests share.
pub(super) struct Shared {
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) table: Arc<ArcSwap<RoutingTable>>,
    pub(super) ring: Arc<ObservationRing>,
    pub(super) refusals: Arc<RefusalRing>,
    pub(super) clock: Clock,
    pub(super) stats: Arc<EngineStats>,
    pub(super) log: Arc<LogQueue>,
    pub(super) chance: Chance,
    pub(super) metrics: Metrics,
    pub(super) resolver: Resolver,
    pub(super) racers: Racers,
    pub(super) authorities: Authorities,
    pub(super) doors: Doors,
    pub(super) rooms: Rooms,
    /// What is in flight here, for others to see.
    pub(super) shown: Shown,
    /// To whoever asks instances what is in flight there; `None`: nobody does.
    pub(super) questions: Option<mpsc::Sender<Question>>,
    /// A drain has begun: connections close after their response.
    pub(super) draining: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        settings: Arc<ArcSwap<Settings>>,
        table: Arc<ArcSwap<RoutingTable>>,
        (ring, refusals): (Arc<ObservationRing>, Arc<RefusalRing>),
        clock: Clock,
        stats: Arc<EngineStats>,
        log: Arc<LogQueue>,
    ) -> Self {
        Self {
            settings,
            table,
            ring,
            refusals,
            clock,
            stats,
            log,
            chance: Chance::new(),
            metrics: Metrics::default(),
            resolver: Resolver::default(),
            racers: Racers::new(POOLED_PER_THREAD),
            authorities: Authorities::default(),
            doors: Doors::default(),
            rooms: Rooms::new(clock),
            shown: Shown::default(),
            questions: None,
            draining: AtomicBool::new(false),
        }
    }

    /// When a connection without a whole request head is cut off: the idle time for its first byte, and as much again
    /// for the rest.
    pub(super) fn idle_until(&self, now: Moment) -> Instant {
        Instant::from_std(now.instant) + 2 * self.settings.load().server.client_idle_timeout
    }
}
