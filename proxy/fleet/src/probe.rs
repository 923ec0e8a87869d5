//! Active health checks: asks every instance on its own schedule and tells what it heard.
//!
//! How many failures make an instance unhealthy is the controller's judgement; here one check is one answer. Each
//! instance has at most one check under way, and there is a bound on all of them: a check that cannot start in time
//! starts late, it does not pile up.

use std::collections::BTreeMap;
use std::time::Duration;

use foretide_predictor::id::InstanceId;
use foretide_routing::settings::HealthSettings;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ask::{Asker, Speech};

/// Checks under way at once: hundreds of instances at a check a second need a few; the rest is room for slow ones.
const CHECKS_AT_ONCE: usize = 64;

/// Checks are never made faster than this, whatever the settings say.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// Whom to check, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeTarget {
    /// Who.
    pub instance: InstanceId,
    /// `host:port`.
    pub address: String,
    /// Path, period, timeout.
    pub health: HealthSettings,
    /// TLS and HTTP/2, as the proxy itself speaks to it.
    pub speech: Speech,
    /// How often it shall say its load, see [`crate::load_stream`].
    pub load_stream: Option<Duration>,
}

/// Checks the current targets until their sender or the receiver of results is gone. A new target is checked at once.
/// Results that nobody takes are dropped: the next check brings a fresher one.
pub async fn run(mut targets: watch::Receiver<Vec<ProbeTarget>>, results: mpsc::Sender<(InstanceId, bool)>) {
    let asker = Asker::default();
    let mut schedule = Schedule::default();
    schedule.follow(&targets.borrow_and_update(), Instant::now());
    let mut checks = JoinSet::new();
    loop {
        while checks.len() < CHECKS_AT_ONCE
            && let Some(target) = schedule.start_next(Instant::now())
        {
            checks.spawn(check(asker.clone(), target));
        }
        let next = schedule.next_due().filter(|_| checks.len() < CHECKS_AT_ONCE);
        tokio::select! {
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                schedule.follow(&targets.borrow_and_update(), Instant::now());
            }
            Some(done) = checks.join_next() => {
                let Ok((instance, healthy)) = done else { continue };
                if schedule.finish(instance) && matches!(results.try_send((instance, healthy)), Err(mpsc::error::TrySendError::Closed(_))) {
                    return;
                }
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = results.closed() => return,
        }
    }
}

async fn check(asker: Asker, target: ProbeTarget) -> (InstanceId, bool) {
    let limit = target.health.timeout;
    let healthy = match &target.health.path {
        Some(path) => asker.succeeds(&target.address, &target.speech, path, limit).await,
        None => asker.connects(&target.address, &target.speech, limit).await,
    };
    (target.instance, healthy)
}

/// Who is due when.
#[derive(Debug, Default)]
struct Schedule {
    entries: BTreeMap<InstanceId, Entry>,
}

#[derive(Debug)]
struct Entry {
    target: ProbeTarget,
    due: Instant,
    under_way: bool,
}

impl Schedule {
    /// Takes over a new list; those that stay keep their rhythm.
    fn follow(&mut self, targets: &[ProbeTarget], now: Instant) {
        let mut before = std::mem::take(&mut self.entries);
        for target in targets {
            let entry = match before.remove(&target.instance) {
                Some(entry) => Entry { target: target.clone(), ..entry },
                None => Entry { target: target.clone(), due: now, under_way: false },
            };
            self.entries.insert(target.instance, entry);
        }
    }

    /// The one due longest, now under way; `None` if nobody is due.
    fn start_next(&mut self, now: Instant) -> Option<ProbeTarget> {
        let idle = self.entries.values_mut().filter(|entry| !entry.under_way && entry.due <= now);
        let entry = idle.min_by_key(|entry| entry.due)?;
        entry.under_way = true;
        // From now, not from when it was due: a late check is not made up for.
        entry.due = now + entry.target.health.every.max(SHORTEST_PERIOD);
        Some(entry.target.clone())
    }

    fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| !entry.under_way).map(|entry| entry.due).min()
    }

    /// False if the instance is no longer a target.
    fn finish(&mut self, instance: InstanceId) -> bool {
        let Some(entry) = self.entries.get_mut(&instance) else { return false };
        entry.under_way = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: u32, every_ms: u64) -> ProbeTarget {
        ProbeTarget {
            instance: InstanceId(id),
            address: format!("127.0.0.1:{id}"),
            health: HealthSettings {
                path: None,
                every: Duration::from_millis(every_ms),
                timeout: Duration::from_secs(1),
                unhealthy_after: 1,
                healthy_after: 1,
            },
            speech: Speech::default(),
            load_stream: None,
        }
    }

    #[test]
    fn each_is_checked_in_its_own_rhythm_and_never_twice_at_once() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.follow(&[target(1, 1000), target(2, 5000)], start);
        assert_eq!(schedule.start_next(start).unwrap().instance, InstanceId(1));
        assert_eq!(schedule.start_next(start).unwrap().instance, InstanceId(2));
        let later = start + Duration::from_secs(2);
        assert_eq!(schedule.start_next(later), None, "both are under way");
        assert!(schedule.finish(InstanceId(1)) && schedule.finish(InstanceId(2)));
        assert_eq!(schedule.start_next(later).unwrap().instance, InstanceId(1));
        assert_eq!(schedule.start_next(later), None, "the second is not due yet");
        assert_eq!(schedule.next_due(), Some(start + Duration::from_secs(5)));
    }

    #[test]
    fn a_new_list_keeps_the_rhythm_of_those_that_stay_and_forgets_the_others() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.follow(&[target(1, 1000), target(2, 1000)], start);
        schedule.start_next(start);
        schedule.start_next(start);
        schedule.follow(&[target(2, 1000), target(3, 1000)], start);
        assert!(!schedule.finish(InstanceId(1)));
        assert_eq!(schedule.start_next(start).unwrap().instance, InstanceId(3));
        assert_eq!(schedule.start_next(start), None);
    }
}
