//! One request, one decision.
//!
//! [`predict`] is called once a request, [`decide`] once a try. A decision always comes with a reason, and it degrades
//! instead of failing:
//!
//! | what is wrong | what happens | reason |
//! |---|---|---|
//! | no instance, or all have as much in flight as they may | nothing to decide | `None` |
//! | one instance | it is taken | `OnlyChoice` |
//! | the table is older than `stale_after` | P2C on requests in flight | `StaleTable` |
//! | no score is a finite number | P2C on requests in flight | `NoScore` |
//! | the model answered nonsense | scores on running means | `ModelFailed` |
//! | no model, or it does not know the route | scores on running means | `NoModel` |
//!
//! One request in a hundred of a predictive pool may be `Explored`, see [`explore`]. Before the policy come the instance a
//! client was on and the parts of a pool, see [`crate::select::narrow`]. An instance never gets more requests than the pool
//! allows it: the ticket is taken first and given back if it was one too many, so that two requests at the same moment
//! cannot both be the last.
//!
//! Policies other than predictive rest on no prediction and know only `OnlyChoice`, `Retry`, `Panic` and `Policy`; the
//! predicted work is still taken on, because demand is counted in it. Where several reasons hold, the one that changed
//! most about the choice is named, in the order of the code.

use crate::extract::RequestFacts;
use crate::live::{InFlight, Ticket};
use crate::select::eligible::Eligible;
use crate::select::groups::{Group, Groups};
use crate::select::hashed::Bound;
use crate::select::narrow::Wish;
use crate::select::predictive::Plain;
use crate::select::shortlist::Shortlist;
use crate::select::{Selector, explore, reactive};
use crate::table::{InstanceEntry, PoolTable, RoutingTable};
use foretide_predictor::cost::estimator::{self, CostPrediction};
use foretide_predictor::cost::query::CostBasis;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_predictor::time::Timestamp;
use foretide_steering::buckets::Newcomer;
use serde::{Deserialize, Serialize};

/// Why this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Smallest score, all tiers sound.
    Predicted,
    /// Smallest score, with running means instead of a model.
    NoModel,
    /// The model answered nonsense: running means.
    ModelFailed,
    /// The table is too old: P2C on load in flight.
    StaleTable,
    /// No score could be had: P2C on load in flight.
    NoScore,
    /// There was only one.
    OnlyChoice,
    /// The pool's policy is not predictive.
    Policy,
    /// A second or later try.
    Retry,
    /// The first instance has not answered for long: another one beside it ([`crate::hedge`]).
    Hedged,
    /// An instance that nobody has heard of for a while was asked, to see whether what is known of it still holds.
    Explored,
    /// Too few healthy instances: all are used.
    Panic,
    /// The client was there before.
    Affinity,
    /// Nobody with the wanted label or in the own zone was left, or it was the other zones' turn.
    Spilled,
}

/// Candidates kept with a decision.
pub const CANDIDATES: usize = 4;

/// One candidate and its score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who.
    pub instance: InstanceId,
    /// Its score for this request, smaller is better: microseconds under the predictive policy and peak EWMA, requests
    /// over warm-up factor under least request, P2C and the fallbacks, 0 where the policy ranks nobody.
    pub score_us: f32,
    /// In flight there at the time.
    pub in_flight: u32,
}

/// The choice, with what it rested on but the prediction, which is the request's and the same for all its tries. `Copy`, fixed
/// size: it is kept for `/api/v1/decisions`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Unique in this process, made by the caller.
    pub id: u64,
    /// Generation of the table.
    pub generation: u64,
    /// Index into `PoolTable::instances` of that generation.
    pub index: usize,
    /// Who.
    pub instance: InstanceId,
    /// Why.
    pub reason: Reason,
    /// Best few, best first, the chosen one among them; `None` beyond what was compared.
    pub candidates: [Option<Candidate>; CANDIDATES],
    /// Work in flight on the chosen one at the time, microseconds.
    pub work_in_flight_us: u64,
    /// Requests in flight on the chosen one at the time.
    pub in_flight: u32,
    /// Requests that others had in flight there, as far as was known; `None`: the pool shares no sight, or nobody said.
    pub others: Option<f32>,
}

/// Predicts a request once, and says what it steers with. Call once a request, also if it is retried.
pub fn predict(table: &RoutingTable, facts: &RequestFacts, now: Timestamp) -> CostPrediction {
    let mut prediction = estimator::predict(&table.costs, table.model.as_deref(), &facts.query, now);
    table.gates.weigh(facts.query.route, &mut prediction);
    prediction
}

/// What a single try brings with it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Instances not to use again (ignored if nothing else is left); empty on the first try.
    pub tried: &'a [InstanceId],
    /// Id of the decision, unique in this process.
    pub id: u64,
    /// 64 random bits.
    pub chance: u64,
    /// What the request itself says of where it would like to go.
    pub wish: Wish,
    /// Now.
    pub now: Timestamp,
}

/// Chooses an instance and takes the cost on. `None`: the pool has no instance that the request may use. No lock, no
/// allocation, cannot fail.
pub fn decide(
    table: &RoutingTable,
    pool: &PoolTable,
    facts: &RequestFacts,
    prediction: &CostPrediction,
    attempt: Attempt<'_>,
) -> Option<(Decision, Ticket)> {
    let newcomer = Newcomer::of(f64::from(prediction.steering.work_us));
    let asking = Asking {
        table,
        pool,
        prediction,
        attempt: &attempt,
        consumer_key: facts.query.consumer_key,
        newcomer,
    };
    let found = asking.find()?;
    let in_flight = pool.instances[found.place].live.in_flight();
    let Some(ticket) = asking.take(&found) else { return asking.overtaken() };
    Some((asking.decision(&found, in_flight), ticket))
}

/// A request that finds the last room taken by others so often in a row is refused.
const OVERTAKEN: usize = 4;
/// A draw of its own for the zone.
const ZONE_SALT: u64 = 0x7a6f_6e65_7a6f_6e65;

/// What is asked.
struct Asking<'a> {
    table: &'a RoutingTable,
    pool: &'a PoolTable,
    prediction: &'a CostPrediction,
    attempt: &'a Attempt<'a>,
    consumer_key: u64,
    newcomer: Newcomer,
}

/// What was found.
struct Found<'a> {
    /// Index into the pool's instances.
    place: usize,
    reason: Reason,
    list: Shortlist,
    /// What the list's indices mean.
    among: &'a [InstanceEntry],
}

impl<'a> Asking<'a> {
    /// Takes the cost on; `None`: others were quicker to take the instance's last room.
    #[inline(always)]
    fn take(&self, found: &Found<'_>) -> Option<Ticket> {
        let entry = &self.pool.instances[found.place];
        let ticket = Ticket::take_on(&entry.live, self.newcomer, entry.concurrency, self.attempt.now);
        let most = self.pool.settings.choice.max_requests;
        most.is_none_or(|most| entry.live.requests_at_once() <= most).then_some(ticket)
    }

    #[inline(always)]
    fn decision(&self, found: &Found<'_>, before: InFlight) -> Decision {
        let Self { table, pool, attempt, .. } = self;
        let entry = &pool.instances[found.place];
        Decision {
            id: attempt.id,
            generation: table.generation,
            index: found.place,
            instance: entry.id,
            reason: found.reason,
            candidates: found.list.candidates(found.among),
            work_in_flight_us: before.work_us,
            in_flight: before.requests,
            others: pool.sight.as_ref().and_then(|sight| sight.requests(&entry.live, attempt.now)),
        }
    }

    /// Chooses again, as long as others are quicker.
    #[cold]
    #[inline(never)]
    fn overtaken(&self) -> Option<(Decision, Ticket)> {
        (1..OVERTAKEN).find_map(|_| {
            let found = self.narrowed()?;
            let before = self.pool.instances[found.place].live.in_flight();
            let ticket = self.take(&found)?;
            Some((self.decision(&found, before), ticket))
        })
    }

    #[inline(always)]
    fn find(&self) -> Option<Found<'a>> {
        let narrowing = &self.pool.narrowing;
        if narrowing.tokens.is_none() && narrowing.groups.is_none() {
            return self.choose_among(&self.pool.instances, &self.pool.selector, true);
        }
        self.narrowed()
    }

    /// Kept out of the way of pools that do not narrow.
    #[inline(never)]
    fn narrowed(&self) -> Option<Found<'a>> {
        self.before().or_else(|| match &self.pool.narrowing.groups {
            None => self.anywhere(true),
            Some(groups) => self.along(groups),
        })
    }

    /// Where the client was before.
    fn before(&self) -> Option<Found<'a>> {
        let narrowing = &self.pool.narrowing;
        let wish = self.attempt.wish;
        let place = narrowing.tokens.as_ref()?.place(wish.instance?)?;
        let holds = narrowing.groups.as_ref().is_none_or(|groups| groups.holds(wish.label, place));
        let among = &self.pool.instances;
        let eligible = Eligible::untried(among, &self.pool.settings, self.attempt.tried, self.attempt.now);
        let list = reactive::only(Some(place));
        (holds && eligible.allows(place)).then_some(Found { place, reason: Reason::Affinity, list, among })
    }

    /// Part by part, and who was tried before only when there is nobody else.
    fn along(&self, groups: &'a Groups) -> Option<Found<'a>> {
        let share = (mix(self.attempt.chance ^ ZONE_SALT) >> 11) as f64 * 2f64.powi(-53);
        let path = groups.path(self.attempt.wish.label, share);
        let parts = || path.groups.into_iter().flatten();
        let reason = |found: &Found<'a>| if path.astray { Reason::Spilled } else { found.reason };
        let found = parts().find_map(|group| self.within(group, false));
        let found = found.map(|found| Found { reason: reason(&found), ..found });
        let found = found.or_else(|| {
            let found = path.anywhere.then(|| self.anywhere(false)).flatten()?;
            let spilled = parts().next().is_some() || self.attempt.wish.label.is_some();
            Some(Found { reason: if spilled { Reason::Spilled } else { found.reason }, ..found })
        });
        let found = found.or_else(|| parts().find_map(|group| self.within(group, true)));
        found.or_else(|| path.anywhere.then(|| self.anywhere(true)).flatten())
    }

    fn within(&self, group: &'a Group, again: bool) -> Option<Found<'a>> {
        let found = self.among(&group.instances, &group.selector, again)?;
        let place = group.members[found.place] as usize;
        Some(Found { place, reason: if group.far { Reason::Spilled } else { found.reason }, ..found })
    }

    fn anywhere(&self, again: bool) -> Option<Found<'a>> {
        self.among(&self.pool.instances, &self.pool.selector, again)
    }

    /// [`Asking::choose_among`] for parts of the pool and for second thoughts, which are not copied into the usual way.
    #[inline(never)]
    fn among(&self, among: &'a [InstanceEntry], selector: &Selector, again: bool) -> Option<Found<'a>> {
        self.choose_among(among, selector, again)
    }

    /// By the policy. `again`: who was tried before may be asked again if nobody else is left.
    #[inline(always)]
    fn choose_among(
        &self,
        among: &'a [InstanceEntry],
        selector: &Selector,
        again: bool,
    ) -> Option<Found<'a>> {
        let (settings, &Attempt { tried, now, .. }) = (&self.pool.settings, self.attempt);
        let eligible = if again {
            Eligible::new(among, settings, tried, now)
        } else {
            Some(Eligible::untried(among, settings, tried, now)).filter(Eligible::is_anybody)?
        };
        let (list, reason) = self.choose(selector, &eligible);
        let place = list.best().or_else(|| eligible.from(0))?;
        Some(Found { place, reason, list, among })
    }

    #[inline(always)]
    fn choose(&self, selector: &Selector, eligible: &Eligible<'_>) -> (Shortlist, Reason) {
        let &Self { table, pool, consumer_key, attempt, .. } = self;
        let chance = attempt.chance;
        if eligible.all().len() == 1 {
            return (reactive::only(eligible.from(0)), Reason::OnlyChoice);
        }
        let bound = || Bound::new(eligible, pool.settings.choice.hash_balance_factor);
        let list = match selector {
            Selector::Predictive(scan) => {
                if attempt.now.since(table.built_at) > table.stale_after {
                    return (reactive::p2c(eligible, None, chance), Reason::StaleTable);
                }
                if let Some(index) = explore::turn(eligible, chance, attempt.now) {
                    return (reactive::only(Some(index)), Reason::Explored);
                }
                let work = (self.prediction.steering.work_us, self.newcomer);
                let plain = Plain::new(scan, &table.peers, work, consumer_key);
                scan.rank(&plain, pool.sight.as_deref(), eligible, chance)
            }
            Selector::RoundRobin(turns) | Selector::Weighted(turns) => {
                reactive::only(turns.take(eligible, chance))
            }
            Selector::LeastRequest(weights) => reactive::least_request(eligible, weights.as_deref(), chance),
            Selector::P2c(weights) => reactive::p2c(eligible, weights.as_deref(), chance),
            Selector::PeakEwma(weights) => {
                reactive::peak_ewma(eligible, weights.as_deref(), attempt.now, chance)
            }
            Selector::Prequal(probes, weights) => probes.rank(eligible, weights.as_deref(), chance),
            Selector::Ketama(ring) => {
                let bound = bound();
                reactive::only(ring.owner(consumer_key, eligible, |index| bound.takes(index)))
            }
            Selector::Maglev(table) => {
                let bound = bound();
                let owner = table.owner(consumer_key, eligible, |index| bound.takes(index));
                reactive::only(owner.or_else(|| eligible.from(0)))
            }
        };
        if list.best().is_none() {
            return (reactive::p2c(eligible, None, chance), Reason::NoScore);
        }
        (list, self.reason(selector))
    }

    /// Why, when the policy itself could choose.
    fn reason(&self, selector: &Selector) -> Reason {
        let prediction = self.prediction;
        if !self.attempt.tried.is_empty() {
            Reason::Retry
        } else if self.pool.panic {
            Reason::Panic
        } else if !matches!(selector, Selector::Predictive(_)) {
            Reason::Policy
        } else if prediction.model_failed {
            Reason::ModelFailed
        } else if prediction.estimate.basis != CostBasis::Model {
            Reason::NoModel
        } else {
            Reason::Predicted
        }
    }
}
