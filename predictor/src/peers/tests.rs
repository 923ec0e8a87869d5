use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_us(seconds * 1_000_000)
}

fn feed(table: &PeerTable, consumer: u64, instance: u32, residual: f64, times: u64) {
    for turn in 0..times {
        // A little noise, the same on every run.
        let noise = if turn % 2 == 0 { 0.05 } else { -0.05 };
        table.observe(consumer, InstanceId(instance), residual + noise, false, at(100));
    }
}

#[test]
fn a_consumer_that_fares_badly_is_steered_away_and_others_are_not() {
    let table = PeerTable::new(4096);
    feed(&table, 7, 1, 1.0, 4);
    assert_eq!(table.factor(7, InstanceId(1)), 1.0, "four samples are not enough");
    feed(&table, 7, 1, 1.0, 40);
    assert!(table.factor(7, InstanceId(1)) > 2.0);
    assert_eq!(table.factor(8, InstanceId(1)), 1.0);
    assert_eq!(table.factor(7, InstanceId(2)), 1.0);
    table.forget(InstanceId(1));
    assert_eq!(table.factor(7, InstanceId(1)), 1.0);
    assert!(table.anomalies(&[InstanceId(1)], at(100)).is_empty());
}

#[test]
fn notes_are_taken_of_those_who_fare_badly_and_dropped_when_that_has_faded() {
    let table = PeerTable::new(4096);
    feed(&table, 7, 1, 1.0, 40);
    feed(&table, 8, 1, 0.0, 40);
    let mentioned = |consumer, instance| table.notes(consumer).mention(Mark::of(InstanceId(instance)));
    assert!(mentioned(7, 1) && !mentioned(7, 2) && !mentioned(8, 1));
    table.refresh_notes();
    assert!(mentioned(7, 1) && !mentioned(7, 2) && !mentioned(8, 1));
    table.observe(9, InstanceId(3), 0.0, false, at(100_000));
    table.refresh_notes();
    assert!(!mentioned(7, 1));
    assert_eq!(table.factor(7, InstanceId(1)), 1.0, "too small to matter");
}

#[test]
fn failures_count_even_without_a_latency() {
    let table = PeerTable::new(64);
    for _ in 0..50 {
        table.observe(7, InstanceId(1), f64::NAN, true, at(5));
    }
    assert!(table.factor(7, InstanceId(1)) > 3.0);
    assert!(table.anomalies(&[InstanceId(1)], at(5))[0].error_ratio > 0.99);
}

#[test]
fn what_is_old_fades_towards_one() {
    let table = PeerTable::new(64);
    feed(&table, 7, 1, 1.0, 50);
    let fresh = table.factor(7, InstanceId(1));
    table.observe(9, InstanceId(3), 0.0, false, at(400));
    let old = table.factor(7, InstanceId(1));
    table.observe(9, InstanceId(3), 0.0, false, at(100_000));
    let ancient = table.factor(7, InstanceId(1));
    assert!(fresh > old && old > ancient && (1.0..1.01).contains(&ancient), "{fresh} {old} {ancient}");
}

#[test]
fn one_slow_instance_stands_out_and_one_odd_consumer_does_not() {
    let table = PeerTable::new(4096);
    let instances: Vec<InstanceId> = (1..=6).map(InstanceId).collect();
    for consumer in 1..=9 {
        for instance in &instances {
            let slow = instance.0 == 4 || (consumer == 1 && instance.0 == 2);
            feed(&table, consumer, instance.0, if slow { 0.8 } else { 0.0 }, 20);
        }
    }
    let anomalies = table.anomalies(&instances, at(101));
    assert_eq!(anomalies.len(), 6);
    for anomaly in anomalies {
        assert_eq!(anomaly.consumers, 9);
        if anomaly.instance == InstanceId(4) {
            assert!(anomaly.score > 4.0 && anomaly.excess > 0.4, "{anomaly:?}");
        } else {
            assert!(anomaly.score.abs() < 1.0 && anomaly.excess == 0.0, "{anomaly:?}");
        }
    }
}

#[test]
fn a_flood_of_consumers_ends_in_the_other_cell_and_is_let_go_again() {
    let table = PeerTable::new(16);
    for consumer in 0..10_000 {
        table.observe(consumer, InstanceId(1), 1.0, false, at(50));
    }
    assert!(table.factor(77_777, InstanceId(1)) > 1.5, "a stranger reads the other cell");
    assert_eq!(table.factor(77_777, InstanceId(2)), 1.0);
    feed(&table, 77_777, 2, 0.0, 3);
    for _ in 0..30 {
        table.observe(77_777, InstanceId(2), 1.0, false, at(200));
    }
    assert!(table.factor(77_777, InstanceId(2)) > 1.5, "nearly empty cells were given away");
}

proptest! {
    #[test]
    fn factors_and_anomalies_stay_in_bounds_whatever_is_fed(
        samples in prop::collection::vec((0u64..40, 0u32..300, any::<f64>(), any::<bool>(), any::<u64>()), 0..300),
    ) {
        let table = PeerTable::new(32);
        let mut asked = BTreeSet::new();
        for (consumer, instance, residual, failed, now) in samples {
            table.observe(consumer, InstanceId(instance), residual, failed, Timestamp::from_us(now));
            asked.insert(InstanceId(instance));
            let factor = table.factor(consumer, InstanceId(instance));
            prop_assert!((0.5..=4.0).contains(&factor));
            if now % 3 == 0 {
                table.refresh_notes();
            }
            for consumer in 0..40 {
                let noted = table.notes(consumer).mention(Mark::of(InstanceId(instance)));
                prop_assert!(noted || table.factor(consumer, InstanceId(instance)) == 1.0);
            }
        }
        let asked: Vec<InstanceId> = asked.into_iter().collect();
        for anomaly in table.anomalies(&asked, Timestamp::ZERO) {
            prop_assert!(anomaly.score.is_finite());
            prop_assert!((0.0..=1.0).contains(&anomaly.excess) && (0.0..=1.0).contains(&anomaly.error_ratio));
        }
    }
}
