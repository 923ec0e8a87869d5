//! The predictive scan finds what a plain one finds that scores every instance by the formula and sorts them all: pools of up to
//! 128 in random states, with ties, both forms, speeds, penalties, ramps, peers, limits and instances that were tried.

use crate::fixture::{self, BUILT_AT};
use foretide_predictor::blend::TierWeights;
use foretide_predictor::hash::mix;
use foretide_predictor::id::InstanceId;
use foretide_predictor::peers::{Mark, PeerTable};
use foretide_routing::decide::{Attempt, CANDIDATES, decide, predict};
use foretide_routing::live::Ticket;
use foretide_routing::select::Selector;
use foretide_routing::select::eligible::warmth;
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::{Policy, PoolSettings, QueueSettings};
use foretide_routing::table::{InstanceEntry, RoutingTable};
use foretide_steering::buckets::bucket_of;
use foretide_steering::score::{Form, Terms};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// An instance as it is drawn: work in flight, and what its score is made of.
#[derive(Clone, Debug)]
struct Drawn {
    held_us: Vec<u64>,
    slots: u32,
    residual: f32,
    heavy_yields: f32,
    background: f32,
    excess: f32,
    penalty_us: f32,
    age_s: u64,
    unlucky: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let few = |values: &'static [f32]| prop::sample::select(values);
    let held = prop::collection::vec(prop_oneof![1u64..5_000, 1u64..5_000_000], 0..7);
    let state = (
        prop_oneof![Just(Vec::new()), held],
        1u32..5,
        few(&[0.0, 0.0, 0.3, -0.7]),
        few(&[0.0, 10.0]),
        few(&[0.0, 0.1]),
        few(&[0.0, 0.0, 0.8]),
        few(&[0.0, 0.0, 0.0, 700.0, f32::NAN]),
        prop_oneof![9 => Just(3_600u64), 1 => 0u64..10],
        prop::bool::weighted(0.1),
    );
    state.prop_map(
        |(held_us, slots, residual, heavy_yields, background, excess, penalty_us, age_s, unlucky)| Drawn {
            held_us,
            slots,
            residual,
            heavy_yields,
            background,
            excess,
            penalty_us,
            age_s,
            unlucky,
        },
    )
}

/// What instances may have in flight.
#[derive(Clone, Debug)]
struct Limits {
    most: Option<u32>,
    /// Only as many as they have slots.
    queue: bool,
}

impl Limits {
    fn allow(&self, one: &Drawn) -> bool {
        let slots = if self.queue { one.slots } else { u32::MAX };
        (one.held_us.len() as u32) < slots.min(self.most.unwrap_or(u32::MAX))
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let most = prop::option::weighted(0.2, 1u32..7);
    (most, prop::bool::weighted(0.2)).prop_map(|(most, queue)| Limits { most, queue })
}

/// The pool, and what holds its work.
fn published(drawn: &[Drawn], form: Form, limits: &Limits) -> (RoutingTable, Vec<Ticket>) {
    let mut entries = fixture::instances(drawn.len() as u32);
    for (entry, one) in entries.iter_mut().zip(drawn) {
        entry.live.set_speed_residual(one.residual, 0.5);
        entry.live.set_heavy_yields(one.heavy_yields);
        entry.concurrency = one.slots;
        (entry.background, entry.excess, entry.penalty_us) = (one.background, one.excess, one.penalty_us);
        entry.warm_since = BUILT_AT.minus(Duration::from_secs(one.age_s));
    }
    let held = entries.iter().zip(drawn).flat_map(|(entry, one)| {
        let take = |&us: &u64| Ticket::take(&entry.live, us as f64, entry.concurrency, BUILT_AT);
        one.held_us.iter().map(take)
    });
    let held = held.collect();
    let mut table = fixture::table(Policy::Predictive, entries);
    let pool = &mut table.pools[0];
    let mut settings = PoolSettings::clone(&pool.settings);
    settings.choice.max_requests = limits.most;
    settings.queue = limits.queue.then_some(QueueSettings { limit: 9, timeout: Duration::from_secs(1) });
    pool.settings = Arc::new(settings);
    pool.form = form;
    pool.selector = Selector::new(&pool.settings, form, &pool.instances, TierWeights::START, None);
    (table, held)
}

/// The formula, term by term.
fn score_us(entry: &InstanceEntry, one: &Drawn, form: Form, work_us: u64, peers: f32) -> f32 {
    let own_bucket = bucket_of(work_us);
    let of = |wanted: std::cmp::Ordering| {
        one.held_us.iter().copied().filter(move |&us| bucket_of(us).cmp(&own_bucket) == wanted)
    };
    let (lighter, alike, heavier) =
        (std::cmp::Ordering::Less, std::cmp::Ordering::Equal, std::cmp::Ordering::Greater);
    let sum_us = |wanted| of(wanted).sum::<u64>() as f32;
    let each_us = |wanted| of(wanted).count() as f32 * work_us as f32;
    let others_us = sum_us(alike).min(each_us(alike)) + each_us(heavier);
    let met_us = sum_us(lighter) + others_us + one.heavy_yields * sum_us(lighter);
    let excess = 1.0 + one.excess;
    let terms = Terms::new(form, one.slots, (1.0 + one.background) * excess, excess);
    let all_us = one.held_us.iter().sum::<u64>() as f32;
    let cost_us = terms.cost_us(work_us as f32, one.held_us.len() as f32, || all_us, || met_us);
    let warm = warmth(entry.warm_since, Duration::from_secs(10), BUILT_AT).recip() as f32;
    cost_us * (entry.live.slowness() * (peers * warm)) + one.penalty_us
}

/// 12 bits of chance, as the shortlist has them.
fn lot(chance: u64, index: usize) -> u16 {
    let upper = |bits: u64| (bits >> 48) as u16 | 1;
    let bits = mix(chance);
    (upper(bits).wrapping_mul(upper(mix(index as u64 + 1))) ^ (bits >> 32) as u16) >> 4
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_scan_finds_what_a_plain_one_finds(
        drawn in prop_oneof![
            prop::collection::vec(drawn(), 2..40),
            prop::collection::vec(drawn(), 100..=128),
            // Ties everywhere.
            (drawn(), 2usize..=128).prop_map(|(one, count)| vec![one; count]),
        ],
        pool: bool,
        work_us in prop_oneof![1u64..1_000, 1u64..4_000_000],
        chance: u64,
        tried in prop::option::weighted(0.3, 0u32..128),
        limits in limits(),
    ) {
        let form = if pool { Form::WorkerPool } else { Form::ProcessorSharing };
        let (mut table, _held) = published(&drawn, form, &limits);
        let facts = table.routes.extract(&fixture::head(1)).expect("routed");
        let consumer = facts.query.consumer_key;
        table.peers = Arc::new(PeerTable::new(4_096));
        for (id, _) in (0..).zip(&drawn).filter(|(_, one)| one.unlucky) {
            (0..40).for_each(|_| table.peers.observe(consumer, InstanceId(id), 1.0, false, BUILT_AT));
        }
        table.peers.refresh_notes();
        let mut prediction = predict(&table, &facts, BUILT_AT);
        prediction.steering.work_us = work_us as f32;
        let tried: Vec<InstanceId> = tried.into_iter().map(InstanceId).collect();
        let entries = &table.pools[0].instances;
        let notes = table.peers.notes(consumer);
        let mut plain: Vec<_> = (0..entries.len())
            .filter(|&index| !tried.contains(&entries[index].id) && limits.allow(&drawn[index]))
            .map(|index| {
                let id = entries[index].id;
                let peers = if notes.mention(Mark::of(id)) { table.peers.factor(consumer, id) } else { 1.0 };
                let score_us = score_us(&entries[index], &drawn[index], form, work_us, peers);
                (score_us, drawn[index].held_us.len(), lot(chance, index), index)
            })
            .filter(|one| one.0.is_finite())
            .collect();
        plain.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
        plain.truncate(CANDIDATES);

        let attempt = Attempt { tried: &tried, id: 1, chance, wish: Wish::default(), now: BUILT_AT };
        let decided = decide(&table, &table.pools[0], &facts, &prediction, attempt);
        if let Some(best) = plain.first() {
            let (decision, _ticket) = decided.expect("an instance with room");
            prop_assert_eq!(decision.index, best.3);
            let found: Vec<_> = decision.candidates.iter().flatten().map(|one| (one.instance, one.score_us)).collect();
            let expected: Vec<_> = plain.iter().map(|one| (entries[one.3].id, one.0)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
