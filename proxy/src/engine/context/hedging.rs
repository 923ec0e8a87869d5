//! A request at two instances: two tries at a time, of which one becomes the request's and the other is called off.
//!
//! The try that was sent first is put aside as the rival while the second is chosen. From then on either may win: the loser
//! is told to the controller as cut short by us, which says nothing about its instance and teaches no cost, and its ticket
//! comes back at that moment.

use std::sync::Arc;
use std::time::Duration;

use foretide_predictor::time::Timestamp;
use foretide_routing::hedge::{Hedging, is_cheap, is_safe};
use foretide_routing::observe::Outcome;

use super::{Chosen, RequestContext};
use crate::engine::metrics::Hedge;

/// How a request may be hedged.
pub(in crate::engine) struct HedgePlan {
    pub(in crate::engine) hedging: Arc<Hedging>,
    /// So long after the first; `None`: nobody knows yet, this one is only measured.
    pub(in crate::engine) after: Option<Duration>,
}

/// One of the two tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Which {
    First,
    Second,
}

impl RequestContext {
    /// Whether a request with this method may be hedged, as far as its pool, its prediction and its time go.
    pub(in crate::engine) fn may_hedge(&self, method: &str) -> bool {
        let Some(pool) = self.pool().filter(|pool| pool.hedging.is_some()) else { return false };
        let cheap = self.routed.as_ref().is_some_and(|routed| is_cheap(&routed.prediction));
        let possible = pool.instances.len() >= 2
            && pool.settings.retry.attempts >= 2
            && !pool.settings.upstream.http2
            && pool.settings.queue.is_none()
            && pool.settings.choice.affinity.is_none();
        possible && cheap && is_safe(method)
    }

    /// It will be: pays in.
    pub(in crate::engine) fn plan_hedge(&self) -> Option<HedgePlan> {
        let hedging = Arc::clone(self.pool()?.hedging.as_ref()?);
        let after = hedging.sent(self.latest.stamp);
        Some(HedgePlan { hedging, after })
    }

    /// Time for a hedge: draws on both budgets, puts the first try aside and chooses another instance. `None`: the first
    /// one goes on alone.
    pub(in crate::engine) fn choose_hedge(&mut self, plan: &HedgePlan) -> Option<Chosen> {
        let now = self.read_clock().stamp;
        let in_time = self.time_left().is_none_or(|left| !left.is_zero());
        let allowed = plan.hedging.draw(now) && self.pool()?.retry_budget.withdraw(now);
        if !in_time || !allowed {
            self.hedged(Hedge::Denied);
            return None;
        }
        let routed = self.routed.as_mut()?;
        let first = routed.current.take()?;
        self.tried.add(first.decision.instance);
        routed.rival = Some(first);
        let chosen = self.choose();
        if chosen.is_none() {
            self.exchange();
            self.hedged(Hedge::Denied);
        }
        chosen
    }

    /// The instance has had the request since then.
    pub(in crate::engine) fn sent_at(&mut self, at: Option<&Timestamp>, which: Which) {
        let Some(routed) = self.routed.as_mut() else { return };
        let tried = match which {
            // Where there is no rival the first one is the only one.
            Which::First if routed.rival.is_some() => routed.rival.as_mut(),
            Which::First | Which::Second => routed.current.as_mut(),
        };
        if let (Some(tried), Some(at)) = (tried, at) {
            tried.sent = true;
            tried.sent_at = *at;
        }
    }

    /// One of two goes on: the other one is out, and this is why.
    pub(in crate::engine) fn keep(&mut self, which: Which, other: Outcome) {
        self.read_clock();
        if which == Which::First {
            self.exchange();
        }
        if let Some(rival) = self.routed.as_mut().and_then(|routed| routed.rival.take()) {
            self.tried.add(rival.decision.instance);
            self.close(rival, other, true);
        }
    }

    /// Counts what became of a hedge.
    pub(in crate::engine) fn hedged(&self, result: Hedge) {
        if let Some(routed) = &self.routed {
            routed.metrics.hedged(result);
        }
    }

    fn exchange(&mut self) {
        if let Some(routed) = self.routed.as_mut() {
            std::mem::swap(&mut routed.current, &mut routed.rival);
        }
    }
}
