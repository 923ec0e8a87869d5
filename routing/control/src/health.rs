//! Whether an instance may get requests: active checks, and what clients' requests show.
//!
//! Active: `unhealthy_after` failed checks in a row take an instance out, `healthy_after` passed ones bring it back.
//! Passive: `consecutive_failures` failed tries in a row eject it for `base · times`, at most `longest` (Envoy's
//! outlier detection); a share of the pool at most may be ejected. An instance that has behaved for `longest` since
//! its last ejection begins at `base` again. Who only fails more often than the others is found in `outlier`.
//! Panic: when fewer than `panic_ratio` of a pool could be used, all of them are. Then most likely not the instances
//! are broken but what they all depend on, and leaving them out would only push the rest over.
//!
//! States: in service → unhealthy → in service; in service → ejected (timed) → in service. Both may hold at once.
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::{EjectionSettings, HealthSettings};
use std::time::Duration;

/// Health of one instance.
#[derive(Debug, Default)]
pub(crate) struct Health {
    unhealthy: bool,
    /// Checks in a row that spoke against the present state.
    contradictions: u32,
    failures_in_row: u32,
    ejected_until: Option<Timestamp>,
    times: u32,
    /// When the last ejection ended.
    last_end: Timestamp,
}

impl Health {
    /// An active check came back; true: the state changed.
    pub(crate) fn probed(&mut self, passed: bool, settings: &HealthSettings) -> bool {
        if passed != self.unhealthy {
            self.contradictions = 0;
            return false;
        }
        self.contradictions += 1;
        let needed = if self.unhealthy { settings.healthy_after } else { settings.unhealthy_after };
        let changed = self.contradictions >= needed.max(1);
        if changed {
            self.unhealthy = !self.unhealthy;
            self.contradictions = 0;
        }
        changed
    }

    /// A try came back; true: enough of them failed in a row to eject it.
    pub(crate) fn tried(&mut self, failed: bool, settings: &EjectionSettings) -> bool {
        if !failed {
            self.failures_in_row = 0;
            return false;
        }
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let limit = settings.consecutive_failures;
        limit > 0 && self.failures_in_row >= limit && self.ejected_until.is_none()
    }

    /// Puts it aside for a while.
    pub(crate) fn eject(&mut self, now: Timestamp, settings: &EjectionSettings) {
        self.times = self.times.saturating_add(1);
        self.failures_in_row = 0;
        let span = settings.base.saturating_mul(self.times).min(settings.longest.max(settings.base));
        self.ejected_until = Some(now.plus(span));
    }

    /// Time passes; true: an ejection ended.
    pub(crate) fn tick(&mut self, now: Timestamp, settings: &EjectionSettings) -> bool {
        match self.ejected_until {
            Some(until) if now >= until => {
                // One failure more than the last tolerated one ejects it again, for longer.
                self.failures_in_row = settings.consecutive_failures.saturating_sub(1);
                self.ejected_until = None;
                self.last_end = until;
                true
            }
            None if self.times > 0 && now.since(self.last_end) >= settings.longest => {
                self.times = 0;
                false
            }
            _ => false,
        }
    }

    /// Failed its checks.
    pub(crate) fn is_unhealthy(&self) -> bool {
        self.unhealthy
    }

    /// Put aside for failing requests.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected_until.is_some()
    }
}

/// Whether one more of `total` instances may be ejected.
pub(crate) fn may_eject(ejected: usize, total: usize, settings: &EjectionSettings) -> bool {
    (ejected + 1) as f64 <= settings.cap_ratio * total as f64 + 1e-9
}

/// Whether so few of `total` are usable that all should be used.
pub(crate) fn panics(usable: usize, total: usize, settings: &EjectionSettings) -> bool {
    total > usable && (usable as f64) < settings.panic_ratio * total as f64
}

/// How often an instance failed lately: an EWMA over tries that also fades with time, so that an instance that gets no
/// requests because it failed is tried again.
#[derive(Debug, Default)]
pub(crate) struct ErrorRatio {
    value: f64,
    at: Timestamp,
}

/// Weight of one try: about the last 30 count.
const TRY_WEIGHT: f64 = 1.0 / 30.0;
/// What is older than some times this does not count.
const FADING: Duration = Duration::from_secs(10);

impl ErrorRatio {
    /// A try came back.
    pub(crate) fn tried(&mut self, failed: bool, now: Timestamp) {
        let sample = if failed { 1.0 } else { 0.0 };
        let before = self.at(now);
        self.value = before + TRY_WEIGHT * (sample - before);
        self.at = now;
    }

    /// Share of failed tries, 0 to 1.
    pub(crate) fn at(&self, now: Timestamp) -> f64 {
        self.value * (-now.since(self.at).as_secs_f64() / FADING.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKS: HealthSettings = HealthSettings {
        path: None,
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        unhealthy_after: 3,
        healthy_after: 2,
    };
    const EJECTION: EjectionSettings = EjectionSettings {
        consecutive_failures: 2,
        success_rate: None,
        base: Duration::from_secs(10),
        longest: Duration::from_secs(25),
        cap_ratio: 0.5,
        panic_ratio: 0.5,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_us(seconds * 1_000_000)
    }

    #[test]
    fn only_failures_in_a_row_make_an_instance_unhealthy() {
        let mut health = Health::default();
        let verdicts = [false, false, true, false, false, false, true, false, true, true];
        let states: Vec<bool> = verdicts
            .iter()
            .map(|&passed| {
                health.probed(passed, &CHECKS);
                health.is_unhealthy()
            })
            .collect();
        assert_eq!(states, [false, false, false, false, false, true, true, true, true, false]);
    }

    #[test]
    fn ejections_grow_end_and_are_forgiven() {
        let mut health = Health::default();
        assert!(!health.tried(true, &EJECTION));
        assert!(health.tried(true, &EJECTION));
        health.eject(at(0), &EJECTION);
        assert!(!health.tick(at(9), &EJECTION));
        assert!(health.tick(at(10), &EJECTION) && !health.is_ejected());
        assert!(health.tried(true, &EJECTION), "one more failure is enough after an ejection");
        health.eject(at(11), &EJECTION);
        assert!(!health.tick(at(30), &EJECTION), "the second one is twice as long");
        assert!(health.tick(at(31), &EJECTION));
        health.tick(at(60), &EJECTION);
        health.eject(at(60), &EJECTION);
        assert!(health.tick(at(70), &EJECTION), "after good behaviour it begins at the base again");
    }

    #[test]
    fn caps_and_panic_count_whole_instances() {
        assert!(may_eject(0, 2, &EJECTION) && !may_eject(1, 2, &EJECTION) && !may_eject(0, 1, &EJECTION));
        assert!(panics(0, 1, &EJECTION) && panics(1, 3, &EJECTION) && !panics(1, 2, &EJECTION));
        assert!(!panics(0, 0, &EJECTION));
    }
}
