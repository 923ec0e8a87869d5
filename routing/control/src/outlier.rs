//! Ejection by success rate (Envoy's outlier detection): who fails clearly more often than the others, without ever failing
//! often enough in a row.
//!
//! Every ten seconds the instances that had enough requests since the last time are compared: one is ejected whose success
//! rate is below `mean − 1.9 · σ` of all of them, if there are at least five. Of several the worst goes first, because only
//! a share of the pool may be out.
//!
//! One thing is not Envoy's: it must also fail five requests in a hundred more than the mean. Where nearly nothing fails, a
//! single failure is 1.9 standard deviations, and the healthiest fleet would lose an instance now and then.
//!
//! Known weakness: two bad ones of five move mean and σ so far that neither is found; failures in a row and active checks
//! find those.

use crate::instance::Instance;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::SuccessRateSettings;
use std::collections::BTreeMap;

/// Less than this below the mean is chance.
const LEAST_GAP: f64 = 0.05;

/// What each instance had answered when they were last compared.
#[derive(Debug, Default)]
pub(crate) struct Outliers {
    due: Timestamp,
    marks: BTreeMap<InstanceId, (u64, u64)>,
}

impl Outliers {
    /// Who is to be ejected now, the worst first. Mostly it is not time yet.
    pub(crate) fn judge(
        &mut self,
        instances: &BTreeMap<InstanceId, Instance>,
        settings: &SuccessRateSettings,
        now: Timestamp,
    ) -> Vec<InstanceId> {
        if now < self.due {
            return Vec::new();
        }
        let first = self.due == Timestamp::ZERO;
        self.due = now.plus(settings.every);
        let before = std::mem::take(&mut self.marks);
        self.marks = instances.iter().map(|(&id, one)| (id, (one.requests, one.failures))).collect();
        if first {
            return Vec::new();
        }
        let usable = instances.values().filter(|one| one.is_warm() && !one.health.is_ejected());
        let rates = usable.filter_map(|one| {
            let (requests, failures) = before.get(&one.id)?;
            let requests = one.requests.saturating_sub(*requests);
            let failures = one.failures.saturating_sub(*failures);
            (requests >= u64::from(settings.requests.max(1)))
                .then(|| (one.id, 1.0 - failures as f64 / requests as f64))
        });
        outliers(rates.collect(), settings)
    }
}

fn outliers(mut rates: Vec<(InstanceId, f64)>, settings: &SuccessRateSettings) -> Vec<InstanceId> {
    if rates.len() < settings.hosts.max(1) as usize {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let bound = (mean - settings.stdev_factor * variance.sqrt()).min(mean - LEAST_GAP);
    rates.retain(|(_, rate)| *rate < bound);
    rates.sort_by(|a, b| a.1.total_cmp(&b.1));
    rates.into_iter().map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const USUAL: SuccessRateSettings =
        SuccessRateSettings { stdev_factor: 1.9, hosts: 5, requests: 100, every: Duration::from_secs(10) };

    fn found(rates: &[f64]) -> Vec<u32> {
        let rates = (0..).zip(rates).map(|(id, &rate)| (InstanceId(id), rate)).collect();
        outliers(rates, &USUAL).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn only_who_is_clearly_worse_than_the_others_is_found() {
        assert_eq!(found(&[1.0, 0.99, 1.0, 0.7, 1.0, 1.0]), [3]);
        assert_eq!(found(&[0.5; 6]), [0; 0], "all alike: not the instances are broken");
        assert_eq!(found(&[1.0, 0.99, 1.0, 1.0, 1.0, 1.0]), [0; 0], "a single failure is no outlier");
        assert_eq!(found(&[1.0, 1.0, 1.0, 0.0]), [0; 0], "too few to compare");
        let mut many = [1.0; 20];
        (many[4], many[9]) = (0.4, 0.2);
        assert_eq!(found(&many), [9, 4], "the worst first");
    }
}
