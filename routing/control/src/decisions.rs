//! The last decisions with their inputs, for people: bounded rings, oldest out first.
use crate::report::{RefusalReport, RoutingDecisionReport, ScalingDecisionReport};
use foretide_predictor::cost::model::Explanation;
use foretide_predictor::cost::query::{ABSENT, CostClass, CostQuery};
use foretide_routing::decide::Reason;
use foretide_routing::observe::{Observation, Refusal};
use foretide_steering::score::Form;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Routing decisions kept: a few seconds of a busy proxy, many minutes of a quiet one.
const ROUTING: usize = 4_096;
const _: () = assert!(
    ROUTING * (size_of::<RoutingEntry>() + size_of::<Observation>()) <= 4 << 20,
    "kept decisions take at most 4 MiB"
);
/// Scaling decisions kept.
const SCALING: usize = 512;
/// Refusals kept.
const REFUSED: usize = 512;
/// Decisions in one status report.
const SHOWN: usize = 256;

/// A routing decision as it is kept; made readable only when somebody asks.
#[derive(Debug)]
pub(crate) struct RoutingEntry {
    /// The finished try; boxed as it came, to be copied no more.
    pub(crate) seen: Box<Observation>,
    /// Route by name.
    pub(crate) route: Arc<str>,
    /// Pool by name.
    pub(crate) pool: Arc<str>,
    /// How the pool serves.
    pub(crate) form: Form,
    /// Measured work at speed 1, microseconds, and its class.
    pub(crate) actual: Option<(f64, CostClass)>,
}

/// A request that was not let in, as it is kept.
#[derive(Debug)]
pub(crate) struct RefusedEntry {
    pub(crate) refusal: Refusal,
    /// Route by name.
    pub(crate) route: Arc<str>,
    /// Pool by name.
    pub(crate) pool: Arc<str>,
}

/// All decisions of the last while.
#[derive(Debug, Default)]
pub(crate) struct DecisionLog {
    refused: VecDeque<RefusedEntry>,
    routing: VecDeque<RoutingEntry>,
    scaling: VecDeque<ScalingDecisionReport>,
    last_scaling_id: u64,
    fallbacks: BTreeMap<Reason, u64>,
}

impl DecisionLog {
    /// Keeps a routing decision and counts it if it was a fallback.
    pub(crate) fn routed(&mut self, entry: RoutingEntry) {
        let reason = entry.seen.decision.reason;
        if is_fallback(reason) {
            *self.fallbacks.entry(reason).or_default() += 1;
        }
        if self.routing.len() == ROUTING {
            self.routing.pop_front();
        }
        self.routing.push_back(entry);
    }

    /// Keeps a scaling decision; its id, counted up from 1, is given here.
    pub(crate) fn scaled(&mut self, mut decision: ScalingDecisionReport) {
        self.last_scaling_id += 1;
        decision.id = self.last_scaling_id;
        if self.scaling.len() == SCALING {
            self.scaling.pop_front();
        }
        self.scaling.push_back(decision);
    }

    /// Keeps a refusal.
    pub(crate) fn refused(&mut self, entry: RefusedEntry) {
        if self.refused.len() == REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(entry);
    }

    /// A routing decision by id, the last try if it was tried again, with what `explain` and `expect_bytes` say of it.
    pub(crate) fn routing(
        &self,
        id: u64,
        explain: impl Fn(&Observation) -> Option<Explanation>,
        expect_bytes: impl Fn(&CostQuery) -> Option<f64>,
    ) -> Option<RoutingDecisionReport> {
        let entry = self.routing.iter().rev().find(|entry| entry.seen.decision.id == id)?;
        let seen = &entry.seen;
        let (explanation, expected_bytes) = (explain(seen), expect_bytes(&seen.query));
        Some(RoutingDecisionReport { explanation, expected_bytes, ..entry.report() })
    }

    /// A scaling decision by id.
    pub(crate) fn scaling(&self, id: u64) -> Option<ScalingDecisionReport> {
        self.scaling.iter().rev().find(|decision| decision.id == id).cloned()
    }

    /// Newest first.
    pub(crate) fn latest_routing(&self) -> Vec<RoutingDecisionReport> {
        self.routing.iter().rev().take(SHOWN).map(RoutingEntry::report).collect()
    }

    /// Newest first.
    pub(crate) fn latest_refused(&self) -> Vec<RefusalReport> {
        self.refused.iter().rev().take(SHOWN).map(RefusedEntry::report).collect()
    }

    /// Newest first.
    pub(crate) fn latest_scaling(&self) -> Vec<ScalingDecisionReport> {
        self.scaling.iter().rev().take(SHOWN).cloned().collect()
    }

    /// Fallbacks since the start.
    pub(crate) fn fallbacks(&self) -> Vec<(Reason, u64)> {
        self.fallbacks.iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}

impl RefusedEntry {
    fn report(&self) -> RefusalReport {
        let refusal = &self.refusal;
        RefusalReport {
            at: refusal.arrived_at,
            route: self.route.to_string(),
            pool: self.pool.to_string(),
            consumer: format!("{:016x}", refusal.query.consumer_key),
            reason: refusal.reason,
            work_us: refusal.work_us,
            latency_us: refusal.latency_us,
            deadline_us: refusal.deadline_us,
            priority: refusal.priority.name(),
            in_flight: refusal.in_flight,
        }
    }
}

impl RoutingEntry {
    fn report(&self) -> RoutingDecisionReport {
        let (seen, decision) = (&self.seen, &self.seen.decision);
        RoutingDecisionReport {
            id: decision.id,
            at: seen.arrived_at,
            route: self.route.to_string(),
            pool: self.pool.to_string(),
            consumer: format!("{:016x}", seen.query.consumer_key),
            instance: decision.instance,
            reason: decision.reason,
            serves: self.form.name(),
            predicted: seen.prediction.estimate,
            steered_us: seen.prediction.steering.work_us,
            weight: seen.prediction.steering.weight,
            actual_class: self.actual.map(|(_, class)| class),
            actual_work_us: self.actual.map(|(work_us, _)| work_us),
            upstream_us: seen.upstream_us,
            others_in_flight: decision.others,
            candidates: decision.candidates.iter().flatten().copied().collect(),
            numbers: seen.query.numbers.iter().copied().filter(|number| *number != ABSENT).collect(),
            outcome: seen.outcome,
            generation: decision.generation,
            response_bytes: seen.response_bytes,
            expected_bytes: None,
            explanation: None,
        }
    }
}

/// Whether the choice rested on less than the pool's policy wants. One instance only, a chosen policy without
/// prediction, and retries are no fallbacks.
fn is_fallback(reason: Reason) -> bool {
    match reason {
        Reason::NoModel | Reason::ModelFailed | Reason::StaleTable | Reason::NoScore | Reason::Panic => true,
        Reason::Predicted
        | Reason::OnlyChoice
        | Reason::Policy
        | Reason::Retry
        | Reason::Hedged
        | Reason::Explored
        | Reason::Affinity
        | Reason::Spilled => false,
    }
}
