//! What a proxy writes on its own board, and what it reads on those of the others.
//!
//! | key | value |
//! |---|---|
//! | `pool/NAME` | JSON, a list of [`Saying`]s, at most [`MOST_VALUE`] bytes |
//! | `beat` | a number that moves with each round of writing, written last: what came before it has been written then |
//!
//! A new reader ignores keys and fields that it does not know, an old one those that are new. Instances at loopback addresses
//! are others on every machine: they are said and heard only where the whole cluster lives on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chitchat::{Chitchat, ChitchatId, NodeState};
use foretide_control::hearsay::{
    self, Heard, MOST_INSTANCES, MOST_MEMBERS, MOST_POOLS, Member, Saying, Word, Words,
};
use foretide_control::report::StatusReport;
use metrics::{counter, describe_counter};

/// Longest value: 128 instances of 90 bytes fit.
const MOST_VALUE: usize = 12 << 10;
/// Longest name of a member or pool that is read or written.
const MOST_NAME: usize = 128;
/// Comings and goings told one by one; of more only the number is.
const MOST_TOLD: usize = 16;
const BEAT: &str = "beat";
const POOL: &str = "pool/";

const IGNORED: &str = "foretide_gossip_values_ignored_total";

pub(crate) fn describe() {
    describe_counter!(
        IGNORED,
        "Values of other proxies that were not believed, each time they were looked at, by reason: \
         too_long, too_many, garbled, absurd"
    );
}

fn ignored(reason: &'static str, count: usize) {
    if count > 0 {
        counter!(IGNORED, "reason" => reason).increment(count as u64);
    }
}

/// This proxy's place in the cluster.
pub(crate) struct Board {
    id: ChitchatId,
    beat: u64,
    /// Who was there at the last look: address by name.
    present: BTreeMap<String, String>,
    namesake_told: bool,
}

impl Board {
    pub(crate) fn new(id: ChitchatId) -> Self {
        Self { id, beat: 0, present: BTreeMap::new(), namesake_told: false }
    }

    /// Writes what this proxy has to say, and takes away what nobody asked it to say.
    pub(crate) fn write(&mut self, report: &StatusReport, own: &mut NodeState) {
        let mut written = BTreeSet::from([BEAT.to_owned()]);
        for (pool, mut sayings) in hearsay::say(report) {
            sayings.retain(|saying| self.may_be_meant(&saying.address));
            let Ok(text) = serde_json::to_string(&sayings) else { continue };
            if pool.len() > MOST_NAME || text.len() > MOST_VALUE {
                continue;
            }
            let key = format!("{POOL}{pool}");
            own.set(&key, text);
            written.insert(key);
        }
        let stray: Vec<String> =
            own.key_values().map(|(key, _)| key.to_owned()).filter(|key| !written.contains(key)).collect();
        stray.iter().for_each(|key| own.delete(key));
        self.beat += 1;
        own.set(BEAT, self.beat);
    }

    /// Reads what the live members say, and tells who came and went.
    pub(crate) fn read(&mut self, cluster: &Chitchat) -> Heard {
        let others = cluster.live_nodes().filter(|id| **id != self.id);
        let mut newest: BTreeMap<&str, &ChitchatId> = BTreeMap::new();
        for id in others.filter(|id| (1..=MOST_NAME).contains(&id.node_id.len())) {
            let known = newest.entry(&id.node_id).or_insert(id);
            if known.generation_id < id.generation_id {
                *known = id;
            }
        }
        if newest
            .remove(&*self.id.node_id)
            .is_some_and(|id| id.gossip_advertise_addr != self.id.gossip_advertise_addr)
            && !std::mem::replace(&mut self.namesake_told, true)
        {
            tracing::warn!(node = %self.id.node_id, "another proxy has this name; give each its own `gossip.node`");
        }
        ignored("too_many", newest.len().saturating_sub(MOST_MEMBERS));
        let members = newest
            .values()
            .take(MOST_MEMBERS)
            .filter_map(|id| Some(self.member(id, cluster.node_state(id)?)));
        let members: Vec<Member> = members.collect();
        self.tell(&members);
        Heard {
            node: self.id.node_id.to_string(),
            address: self.id.gossip_advertise_addr.to_string(),
            members,
        }
    }

    fn member(&self, id: &ChitchatId, state: &NodeState) -> Member {
        let pools = || state.key_values().filter_map(|(key, value)| Some((key.strip_prefix(POOL)?, value)));
        ignored("too_many", pools().count().saturating_sub(MOST_POOLS));
        let words = |(pool, value): (&str, &str)| {
            let short = pool.len() <= MOST_NAME && value.len() <= MOST_VALUE;
            ignored("too_long", usize::from(!short));
            short.then(|| (pool.to_owned(), self.words(value)))
        };
        Member {
            name: id.node_id.to_string(),
            address: id.gossip_advertise_addr.to_string(),
            beat: state.get(BEAT).and_then(|beat| beat.parse().ok()).unwrap_or(0),
            pools: pools().take(MOST_POOLS).filter_map(words).collect(),
        }
    }

    /// What a value says, as far as it can be believed.
    fn words(&self, value: &str) -> Words {
        let sayings: Vec<Saying> = serde_json::from_str(value).unwrap_or_else(|_| {
            ignored("garbled", 1);
            Vec::new()
        });
        ignored("too_many", sayings.len().saturating_sub(MOST_INSTANCES));
        let said = sayings.len().min(MOST_INSTANCES);
        let meant =
            sayings.into_iter().take(MOST_INSTANCES).filter(|saying| self.may_be_meant(&saying.address));
        let judged: Vec<_> = meant.map(|saying| (Word::judged(&saying), saying.address)).collect();
        let words: Words = judged.into_iter().filter_map(|(word, address)| Some((address, word?))).collect();
        ignored("absurd", said.saturating_sub(words.len()));
        words
    }

    /// Whether an address means the same instance to all members.
    fn may_be_meant(&self, address: &str) -> bool {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
        !loopback || self.id.gossip_advertise_addr.ip().is_loopback()
    }

    fn tell(&mut self, members: &[Member]) {
        let now: BTreeMap<String, String> =
            members.iter().map(|member| (member.name.clone(), member.address.clone())).collect();
        let came = now.iter().filter(|(name, _)| !self.present.contains_key(*name));
        let went = self.present.iter().filter(|(name, _)| !now.contains_key(*name));
        for (member, address) in came.clone().take(MOST_TOLD) {
            tracing::info!(member, address, members = 1 + now.len(), "proxy joined the cluster");
        }
        for (member, address) in went.clone().take(MOST_TOLD) {
            tracing::info!(member, address, members = 1 + now.len(), "proxy left the cluster");
        }
        let untold = came.count().saturating_sub(MOST_TOLD) + went.count().saturating_sub(MOST_TOLD);
        if untold > 0 {
            tracing::info!(untold, members = 1 + now.len(), "more proxies joined or left the cluster");
        }
        self.present = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn board(address: &str) -> Board {
        Board::new(ChitchatId::new("me", 1, address.parse().unwrap()))
    }

    #[test]
    fn a_list_of_sayings_is_read_with_what_it_leaves_out_and_what_is_new() {
        let words = board("10.0.0.5:1").words(
            r#"[{"a": "10.0.0.1:80", "r": 0.4, "n": 60}, {"a": "10.0.0.2:80", "later": [1]}, {"a": "127.0.0.1:80"}]"#,
        );
        assert_eq!(words.keys().collect::<Vec<_>>(), ["10.0.0.1:80", "10.0.0.2:80"]);
    }

    #[test]
    fn loopback_means_something_on_loopback_only() {
        for address in ["127.0.0.1:80", "[::1]:80", "localhost:80"] {
            assert!(!board("10.0.0.5:1").may_be_meant(address), "{address}");
            assert!(board("127.0.0.1:1").may_be_meant(address), "{address}");
        }
        assert!(board("10.0.0.5:1").may_be_meant("[fd00::1]:80"));
    }

    #[test]
    fn absurd_numbers_and_garbage_say_nothing() {
        let board = board("10.0.0.5:1");
        for value in [
            "",
            "[",
            "{}",
            "[1]",
            "null",
            "[{\"a\": 1}]",
            "[{\"a\": \"x\", \"r\": 1e999}]",
            "[{\"a\": \"x\", \"r\": 11}]",
            "[{\"a\": \"x\", \"e\": -1}]",
            "[{\"a\": \"x\", \"e\": 2}]",
            "[{\"a\": \"x\", \"n\": -1}]",
        ] {
            assert!(board.words(value).is_empty(), "{value}");
        }
        assert!(board.words(&"[".repeat(MOST_VALUE)).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "\\PC{0,300}", numbers in prop::collection::vec(any::<f64>(), 0..300)) {
            let board = board("10.0.0.5:1");
            board.words(&text);
            let said = |(at, number): (usize, &f64)| format!("{{\"a\":\"h{at}:1\",\"r\":{number:e},\"n\":50,\"e\":0}}");
            let list: Vec<String> = numbers.iter().enumerate().map(said).collect();
            let text = format!("[{}]", list.join(","));
            prop_assert!(board.words(&text).len() <= MOST_INSTANCES);
        }
    }
}
