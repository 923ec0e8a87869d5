//! A request and the sight that proxies share: shown to others while it lasts, and asking beside it.

use http::HeaderMap;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{RequestContext, pool_of};
use crate::engine::sight;

impl RequestContext {
    /// It is none of the requests that are counted and logged, only a question that is answered here.
    pub(in crate::engine) fn set_aside(&mut self) {
        self.finished = true;
        self.aside = true;
        self.shared.stats.request_set_aside();
    }

    /// From now on others see it in flight here, until its instance is done with it.
    pub(in crate::engine) fn show(&mut self, session: &Session) {
        let now = self.latest.stamp;
        if let Some(routed) = self.routed.as_mut() {
            let own_us = f64::from(routed.prediction.steering.work_us);
            routed.guest = Some(self.shared.shown.enter(sight::told(session), own_us, now));
        }
    }

    /// Says with its answer what is in flight here, if it is shown itself.
    pub(in crate::engine) fn say(&self, answer: &mut ResponseHeader) -> Result<()> {
        match self.routed.as_ref().and_then(|routed| routed.guest.as_ref()) {
            Some(_) => sight::say(answer, &self.shared.shown),
            None => Ok(()),
        }
    }

    /// Tells the instance what work is predicted.
    pub(in crate::engine) fn tell(&self, request: &mut RequestHeader) -> Result<()> {
        let placed = self.routed.as_ref().filter(|routed| routed.current.is_some());
        let told = placed.and_then(|routed| Some((pool_of(routed)?, routed.prediction.steering.work_us)));
        told.map_or(Ok(()), |(pool, work_us)| sight::tell(request, pool, work_us))
    }

    /// Hears what the instance has in flight, from the head of its answer.
    pub(in crate::engine) fn hear(&mut self, headers: &HeaderMap) {
        if self.pool().is_none_or(|pool| pool.sight.is_none()) {
            return;
        }
        let now = self.read_clock().stamp;
        let Some(routed) = &self.routed else { return };
        if let (Some(pool), Some(current)) = (pool_of(routed), &routed.current) {
            sight::hear(headers, pool, current.decision.instance, now);
        }
    }

    /// Its try has been placed: asks beside it, and notes how old what it rested on was.
    pub(super) fn ask_beside(&self, chance: u64) {
        let Some(routed) = &self.routed else { return };
        let (Some(pool), Some(current)) = (pool_of(routed), &routed.current) else { return };
        if pool.sight.is_none() {
            return;
        }
        let now = self.latest.stamp;
        if let Some(age) = pool.instances[current.decision.index].live.sight_age(now) {
            routed.metrics.sight_age().record(age.as_secs_f64());
        }
        if let Some(queue) = &self.shared.questions {
            sight::ask(queue, pool, &current.decision, chance, now);
        }
    }
}
