//! What predictions have been worth on each route, learned from finished requests, and what steers because of it.
//!
//! One [`SkillGate`] per route, kept by the hash of its name so that a reload that moves routes about loses nothing; the
//! routes beyond [`MOST_ROUTES`] share one. Each request that is learned from teaches its gate twice: what was predicted
//! against what was measured, and how well latency could be foreseen from the prediction and from the number of requests
//! in flight alone.
//!
//! An observation carries count and work of what was in flight on the chosen instance, not the single requests, so the
//! interference `Σ min(r_i, x)` under processor sharing is taken as `min(W, n · x)`, its upper bound, which is exact where
//! all of them are smaller than the newcomer or all larger. The prediction is judged at full weight whatever its weight
//! is: judged at the weight it has, a predictor that lost it would look harmless, get it back, and lose it again.

use crate::report::GateReport;
use foretide_predictor::cost::codec::SavedGate;
use foretide_predictor::hash;
use foretide_routing::gates::{Gates, MOST_ROUTES};
use foretide_routing::observe::Observation;
use foretide_routing::settings::RouteSettings;
use foretide_steering::calibration::Calibration;
use foretide_steering::gate::SkillGate;
use foretide_steering::score::{Ahead, Form};
use std::collections::BTreeMap;

/// Key of the gate that routes beyond [`MOST_ROUTES`] share; no name hashes to it but by a chance of 2^-64.
const OTHERS: u64 = 0;

/// The instance a request was on, as far as its latency depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) form: Form,
    pub(crate) slots: u32,
    /// ln of how much longer work takes there than on the average instance.
    pub(crate) rho: f64,
}

/// Gates of all routes.
#[derive(Debug, Default)]
pub(crate) struct RouteGates {
    of: BTreeMap<u64, SkillGate>,
    others: SkillGate,
    /// Keys in the order of the settings.
    order: Vec<u64>,
}

impl RouteGates {
    /// The routes of new settings; gates of those that stay are kept.
    pub(crate) fn follow(&mut self, routes: &[RouteSettings]) {
        self.order =
            routes.iter().take(MOST_ROUTES).map(|route| hash::bytes(route.name.as_bytes())).collect();
        let mut before = std::mem::take(&mut self.of);
        self.of = self.order.iter().map(|key| (*key, before.remove(key).unwrap_or_default())).collect();
    }

    /// For the state file: all on which anything was learned.
    pub(crate) fn saved(&self) -> Vec<SavedGate> {
        let all = self.of.iter().map(|(key, gate)| (*key, gate)).chain([(OTHERS, &self.others)]);
        let learned = all.filter(|(_, gate)| gate.mean_us() > 0.0);
        learned.map(|(route_key, gate)| SavedGate { route_key, numbers: gate.to_numbers() }).collect()
    }

    /// Of a state file: gates of the routes there are. A gate that cannot be is left as it was.
    pub(crate) fn restore(&mut self, saved: &[SavedGate]) {
        for kept in saved {
            let gate = match kept.route_key {
                OTHERS => Some(&mut self.others),
                key => self.of.get_mut(&key),
            };
            if let (Some(gate), Some(before)) = (gate, SkillGate::from_numbers(&kept.numbers)) {
                *gate = before;
            }
        }
    }

    /// A request that is learned from took so much work; the weight of predictions on its route.
    pub(crate) fn observe(&mut self, seen: &Observation, work_us: f64, place: Place) -> f64 {
        let gate = self.of.get_mut(&seen.query.route_key).unwrap_or(&mut self.others);
        let predicted_us = seen.prediction.estimate.work_us.mean();
        let mean_us = gate.mean_us();
        if mean_us > 0.0 {
            let in_flight = f64::from(seen.decision.in_flight);
            let held_us = seen.decision.work_in_flight_us as f64;
            let foreseen_us = place.latency_us(gate.calibrated_us(predicted_us), in_flight, held_us);
            let blind_us = place.latency_us(mean_us, in_flight, in_flight * mean_us);
            gate.observe_latency(seen.upstream_us as f64, foreseen_us, blind_us);
        }
        gate.observe(predicted_us, work_us);
        gate.weight()
    }

    /// For the hot path.
    pub(crate) fn calibrations(&self) -> Gates {
        let of = |key| self.of.get(key).map_or_else(Calibration::identity, SkillGate::calibration);
        Gates::new(self.order.iter().map(of), self.others.calibration())
    }

    /// For people: routes on which anything was learned.
    pub(crate) fn report(&self, routes: &[RouteSettings]) -> Vec<GateReport> {
        let gates =
            self.order.iter().zip(routes).filter_map(|(key, route)| Some((&*route.name, self.of.get(key)?)));
        let others = [("other", &self.others)];
        let learned = gates.chain(others).filter(|(_, gate)| gate.mean_us() > 0.0);
        let report = |(route, gate): (&str, &SkillGate)| GateReport {
            route: route.to_owned(),
            skill: gate.skill(),
            weight: gate.weight(),
            misfit: gate.misfit(),
            mean_us: gate.mean_us(),
        };
        learned.map(report).collect()
    }
}

impl Place {
    /// Latency of a request of so much work that finds so many others and their work, microseconds.
    fn latency_us(self, work_us: f64, in_flight: f64, held_us: f64) -> f64 {
        let ahead = Ahead {
            requests: in_flight as f32,
            interference_us: held_us.min(in_flight * work_us) as f32,
            work_us: held_us as f32,
        };
        f64::from(self.form.latency_us(work_us as f32, &ahead, self.slots.max(1) as f32)) * self.rho.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ahead_counts_up_to_the_newcomers_size_under_sharing_and_whole_before_workers() {
        let place = |form| Place { form, slots: 1, rho: 0.0 };
        let sharing = place(Form::ProcessorSharing);
        assert_eq!(sharing.latency_us(10.0, 0.0, 0.0), 10.0);
        assert_eq!(sharing.latency_us(10.0, 2.0, 1_000.0), 30.0, "two larger ones");
        assert_eq!(sharing.latency_us(1_000.0, 2.0, 20.0), 1_020.0, "two smaller ones");
        assert_eq!(place(Form::WorkerPool).latency_us(10.0, 2.0, 1_000.0), 1_010.0);
        let slow = Place { rho: 2f64.ln(), ..sharing };
        assert!((slow.latency_us(10.0, 0.0, 0.0) - 20.0).abs() < 1e-9);
    }
}
