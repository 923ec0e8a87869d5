//! What other proxies say of the instances of a pool, and what this one says to them: slow signals, some a second.
//!
//! | said | of | believed |
//! |---|---|---|
//! | slowness | an instance that the speaker measured 50 times | where this proxy has not: [`foretide_steering::speed::tell`] |
//! | out of service | an instance that the speaker ejected or whose checks failed there | shown; it decides nothing |
//! | share of failed tries | any instance | shown; it decides nothing |
//!
//! A saying passes [`Word::judged`] before it is anything: numbers that are not finite or absurd are no saying at all,
//! and slowness is clamped as one's own is. Of several members the median counts, so that one who lies or is broken is
//! outvoted by two who do not. Only what was measured by the speaker itself is said: hearsay that is passed on would
//! outlive whoever measured it.
//!
//! States of a member: *fresh* (its beat has moved within [`LIFETIME`]) and *stale*, which is as if it were not there.
//! Whoever does not come in a round any more is gone at once. Pools are the same by name and instances by address: two
//! pools of one name without a common instance are strangers.
//!
//! Known weaknesses: of two members one may lie; verdicts of others do not eject, because a network may be broken between
//! them and an instance, and not between it and this proxy.

use crate::report::{InstanceReport, StatusReport};
use foretide_predictor::time::Timestamp;
use foretide_routing::table::InstanceState;
use foretide_steering::speed::LIMIT;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Members heard of at once; who comes after these, in order of names, is not heard.
pub const MOST_MEMBERS: usize = 256;
/// Pools that one member speaks of.
pub const MOST_POOLS: usize = 32;
/// Instances of one pool that one member speaks of.
pub const MOST_INSTANCES: usize = 128;
/// A member whose beat has not moved for so long is not believed any more: some rounds of gossip.
pub const LIFETIME: Duration = Duration::from_secs(15);
/// Samples below which a slowness says nothing, as for one's own.
const ENOUGH: u64 = 50;
/// Slowness beyond this is no measurement: speakers clamp to ±1.5 themselves.
const ABSURD: f64 = 10.0;

/// What a proxy says of one instance, as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saying {
    /// `host:port` of the instance.
    #[serde(rename = "a")]
    pub address: String,
    /// ln of how much longer than on the speaker's average instance work takes here; absent: not measured.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub slowness: Option<f64>,
    /// Requests that was measured on.
    #[serde(rename = "n", default)]
    pub samples: u64,
    /// Ejected, or its health checks fail.
    #[serde(rename = "x", default)]
    pub out: bool,
    /// Share of failed tries lately, 0 to 1.
    #[serde(rename = "e", default)]
    pub errors: f64,
}

/// A saying that has been judged: finite, within bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Word {
    slowness: Option<f64>,
    out: bool,
    errors: f64,
}

impl Word {
    /// `None`: it says nothing that could be believed.
    pub fn judged(saying: &Saying) -> Option<Self> {
        let believable = |slowness: f64| slowness.abs() <= ABSURD;
        if saying.slowness.is_some_and(|slowness| !believable(slowness))
            || !(0.0..=1.0).contains(&saying.errors)
        {
            return None;
        }
        let slowness = saying.slowness.filter(|_| saying.samples >= ENOUGH);
        let slowness = slowness.map(|slowness| slowness.clamp(-LIMIT, LIMIT));
        Some(Self { slowness, out: saying.out, errors: saying.errors })
    }
}

/// What a member says of the instances of one pool, by address.
pub type Words = BTreeMap<String, Word>;

/// Another proxy that is alive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// Unique in the cluster.
    pub name: String,
    /// Where it gossips.
    pub address: String,
    /// Moves as long as what it says is kept up to date.
    pub beat: u64,
    /// By pool.
    pub pools: BTreeMap<String, Words>,
}

/// One round of listening: all members that are alive now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// This proxy's name in the cluster.
    pub node: String,
    /// Where the others reach it.
    pub address: String,
    /// The others.
    pub members: Vec<Member>,
}

/// Members as this proxy sees them.
#[derive(Clone, Debug, Serialize)]
pub struct GossipReport {
    /// This proxy's name in the cluster.
    pub node: String,
    /// Where the others reach it.
    pub address: String,
    /// The others, in order of names.
    pub members: Vec<MemberReport>,
}

/// Another proxy.
#[derive(Clone, Debug, Serialize)]
pub struct MemberReport {
    /// Unique in the cluster.
    pub name: String,
    /// Where it gossips.
    pub address: String,
    /// Heard of since.
    pub since: Timestamp,
    /// How long ago it last said something new, seconds.
    pub age_s: f64,
    /// Pools it speaks of.
    pub pools: Vec<String>,
}

/// What the others say of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeardReport {
    /// Other proxies that send to it.
    pub proxies: usize,
    /// Median of their slowness: ln of how much longer than on their average instance work takes; absent: nobody has
    /// measured it.
    pub slowness: Option<f64>,
    /// So many of them take it for broken.
    pub out_of_service: usize,
    /// Median of their shares of failed tries.
    pub error_ratio: f64,
}

/// All that was heard; a part of the controller.
#[derive(Debug, Default)]
pub(crate) struct Hearsay {
    own: Option<(String, String)>,
    members: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    member: Member,
    since: Timestamp,
    beat_at: Timestamp,
}

impl Hearsay {
    /// A round of listening is over. Who is not in it is gone.
    pub(crate) fn hear(&mut self, heard: Heard, now: Timestamp) {
        let mut before = std::mem::take(&mut self.members);
        for member in heard.members.into_iter().take(MOST_MEMBERS) {
            let known = before.remove(&member.name);
            let since = known.as_ref().map_or(now, |known| known.since);
            let still = known.filter(|known| known.member.beat == member.beat);
            let beat_at = still.map_or(now, |known| known.beat_at);
            self.members.insert(member.name.clone(), Known { member, since, beat_at });
        }
        self.own = Some((heard.node, heard.address));
    }

    fn fresh(&self, now: Timestamp) -> impl Iterator<Item = &Known> {
        self.members.values().filter(move |known| now.since(known.beat_at) <= LIFETIME)
    }

    /// What is said of a pool; `None`: nobody listens.
    pub(crate) fn of_pool<'m>(
        &self,
        pool: &str,
        mine: impl Iterator<Item = &'m str> + Clone,
        now: Timestamp,
    ) -> Option<PoolHearsay<'_>> {
        self.own.as_ref()?;
        let words = self.fresh(now).filter_map(|known| known.member.pools.get(pool));
        let shares = |words: &&Words| mine.clone().any(|address| words.contains_key(address));
        Some(PoolHearsay { speakers: words.filter(shares).collect() })
    }

    /// For people; `None`: nobody listens.
    pub(crate) fn report(&self, now: Timestamp) -> Option<GossipReport> {
        let (node, address) = self.own.clone()?;
        let member = |known: &Known| MemberReport {
            name: known.member.name.clone(),
            address: known.member.address.clone(),
            since: known.since,
            age_s: now.since(known.beat_at).as_secs_f64(),
            pools: known.member.pools.keys().cloned().collect(),
        };
        Some(GossipReport { node, address, members: self.fresh(now).map(member).collect() })
    }
}

/// What is said of one pool.
#[derive(Debug)]
pub(crate) struct PoolHearsay<'a> {
    speakers: Vec<&'a Words>,
}

impl PoolHearsay<'_> {
    /// Proxies that send to this pool, this one included.
    pub(crate) fn proxies(&self) -> usize {
        1 + self.speakers.len()
    }

    /// What is said of an instance; `None`: nobody else knows it.
    pub(crate) fn of(&self, address: &str) -> Option<HeardReport> {
        let words = || self.speakers.iter().filter_map(|words| words.get(address));
        Some(HeardReport {
            proxies: words().count(),
            slowness: median(words().filter_map(|word| word.slowness)),
            out_of_service: words().filter(|word| word.out).count(),
            error_ratio: median(words().map(|word| word.errors))?,
        })
    }
}

/// Of finite numbers; `None`: there is none.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// What this proxy has to say, by pool, from its own measurements: at most [`MOST_POOLS`] and [`MOST_INSTANCES`], in the
/// order of the configuration. A slowness is relative, so it is said only where two instances or more have one.
pub fn say(report: &StatusReport) -> BTreeMap<String, Vec<Saying>> {
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let pools = report.pools.iter().take(MOST_POOLS).map(|pool| {
        let told = |one: &&InstanceReport| one.heard.is_some_and(|heard| heard.slowness.is_some());
        let known = pool.instances.iter().filter(|one| one.speed_samples >= ENOUGH || told(one)).count();
        let sayings = pool.instances.iter().filter_map(|one| {
            let runs =
                matches!(one.state, InstanceState::Warm | InstanceState::Unhealthy | InstanceState::Ejected);
            Some(Saying {
                address: one.address.clone().filter(|_| runs)?,
                slowness: (one.speed_samples >= ENOUGH && known > 1).then(|| rounded(-one.speed.ln())),
                samples: one.speed_samples,
                out: one.state != InstanceState::Warm,
                errors: rounded(one.error_ratio.clamp(0.0, 1.0)),
            })
        });
        (pool.name.clone(), sayings.take(MOST_INSTANCES).collect())
    });
    pools.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "10.0.0.1:80";
    const B: &str = "10.0.0.2:80";

    fn at(s: u64) -> Timestamp {
        Timestamp::from_us(s * 1_000_000)
    }

    fn saying(address: &str, slowness: f64, samples: u64) -> Saying {
        Saying { address: address.to_owned(), slowness: Some(slowness), samples, out: false, errors: 0.0 }
    }

    fn member(name: &str, beat: u64, sayings: &[Saying]) -> Member {
        let words = sayings.iter().filter_map(|one| Some((one.address.clone(), Word::judged(one)?)));
        let pools = BTreeMap::from([("shop".to_owned(), words.collect())]);
        Member { name: name.to_owned(), beat, pools, ..Member::default() }
    }

    fn round(members: Vec<Member>) -> Heard {
        Heard { node: "me".to_owned(), members, ..Heard::default() }
    }

    fn of(hearsay: &Hearsay, address: &str, now: Timestamp) -> Option<HeardReport> {
        hearsay.of_pool("shop", [A, B].into_iter(), now)?.of(address)
    }

    #[test]
    fn the_median_of_those_who_measured_it_counts() {
        let mut hearsay = Hearsay::default();
        assert!(hearsay.of_pool("shop", [A].into_iter(), at(1)).is_none(), "nobody listens");
        let say = |slowness, samples| [saying(A, slowness, samples)];
        let members = vec![
            member("x", 1, &say(0.4, 90)),
            member("y", 1, &say(0.6, 50)),
            member("liar", 1, &say(-9.0, 1 << 60)),
            member("young", 1, &say(1.0, 49)),
        ];
        hearsay.hear(round(members), at(1));
        let heard = of(&hearsay, A, at(1)).unwrap();
        assert_eq!((heard.proxies, heard.slowness), (4, Some(0.4)));
        assert_eq!(of(&hearsay, B, at(1)), None);
        let proxies = |pool: &str, mine: &str| {
            hearsay.of_pool(pool, [mine].into_iter(), at(1)).map(|heard| heard.proxies())
        };
        assert_eq!(
            (proxies("shop", A), proxies("shop", B), proxies("other", A)),
            (Some(5), Some(1), Some(1))
        );
    }

    #[test]
    fn the_silent_and_the_gone_are_forgotten() {
        let mut hearsay = Hearsay::default();
        let say = [saying(A, 0.4, 90)];
        hearsay.hear(round(vec![member("x", 1, &say)]), at(1));
        hearsay.hear(round(vec![member("x", 1, &say)]), at(10));
        assert!(of(&hearsay, A, at(16)).is_some());
        assert_eq!(of(&hearsay, A, at(17)), None, "its beat has not moved since the first round");
        assert!(hearsay.report(at(17)).unwrap().members.is_empty());
        hearsay.hear(round(vec![member("x", 2, &say)]), at(18));
        assert!(of(&hearsay, A, at(18)).is_some(), "it speaks again");
        assert_eq!(hearsay.report(at(19)).unwrap().members[0].since, at(1));
        hearsay.hear(round(Vec::new()), at(20));
        assert_eq!(of(&hearsay, A, at(20)), None, "it is gone");
    }

    #[test]
    fn verdicts_are_counted() {
        let mut hearsay = Hearsay::default();
        let out = Saying { out: true, errors: 0.8, ..saying(A, 0.0, 0) };
        hearsay.hear(round(vec![member("x", 1, &[out]), member("y", 1, &[saying(A, 0.0, 0)])]), at(1));
        let heard = of(&hearsay, A, at(1)).unwrap();
        assert_eq!((heard.out_of_service, heard.slowness, heard.error_ratio), (1, None, 0.4));
    }

    proptest! {
        /// Whatever is said, what is believed is a number within bounds.
        #[test]
        fn nothing_said_is_believed_beyond_bounds(
            said in prop::collection::vec(
                (prop::option::of(prop::num::f64::ANY), any::<u64>(), any::<bool>(), prop::num::f64::ANY), 0..9),
        ) {
            let speak = |(at, &(slowness, samples, out, errors)): (usize, &(Option<f64>, u64, bool, f64))| {
                let saying = Saying { address: A.to_owned(), slowness, samples, out, errors };
                member(&format!("m{at}"), 1, &[saying])
            };
            let mut hearsay = Hearsay::default();
            hearsay.hear(round(said.iter().enumerate().map(speak).collect()), at(1));
            if let Some(heard) = of(&hearsay, A, at(1)) {
                prop_assert!(heard.proxies <= said.len() && heard.out_of_service <= heard.proxies);
                prop_assert!(heard.slowness.is_none_or(|slowness| (-LIMIT..=LIMIT).contains(&slowness)));
                prop_assert!((0.0..=1.0).contains(&heard.error_ratio));
            }
        }

        /// A crowd is cut, not kept.
        #[test]
        fn members_are_bounded(count in 0usize..600) {
            let members = (0..count).map(|at| member(&format!("m{at}"), 1, &[saying(A, 0.1, 60)])).collect();
            let mut hearsay = Hearsay::default();
            hearsay.hear(round(members), at(1));
            prop_assert!(hearsay.report(at(1)).unwrap().members.len() == count.min(MOST_MEMBERS));
        }
    }
}
