//! Reports in all forms, whole, odd and hostile.

use std::time::Duration;

use foretide_orca::{read, read_binary};
use foretide_routing::observe::{Reported, Utilisation};
use foretide_routing::settings::ReportedCost;
use proptest::prelude::*;

fn cost(field: &str) -> ReportedCost {
    ReportedCost { field: field.to_owned(), unit: Duration::from_millis(1) }
}

fn utilisation(cpu: f32, memory: f32) -> Utilisation {
    Utilisation { cpu: Some(cpu), memory: Some(memory), application: None }
}

/// The protobuf message of cpu 0.25, memory 0.5, request_cost {"cpu": 12.5, "db": 3}, named_metrics {"cpu": 7},
/// rps 300 (a varint), all as `protoc` writes them.
fn message() -> Vec<u8> {
    let mut bytes = vec![0x09];
    bytes.extend(0.25f64.to_le_bytes());
    bytes.push(0x11);
    bytes.extend(0.5f64.to_le_bytes());
    bytes.extend([0x18, 0xac, 0x02]);
    for (tag, name, value) in [(0x22, "cpu", 12.5f64), (0x22, "db", 3.0), (0x42, "cpu", 7.0)] {
        bytes.extend([tag, (name.len() + 11) as u8, 0x0a, name.len() as u8]);
        bytes.extend(name.bytes());
        bytes.push(0x11);
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn forms() -> [String; 4] {
    [
        "TEXT cpu_utilization=0.25, mem_utilization = 0.5,request_cost.cpu=12.5,named_metrics.cpu=7,rps=9".into(),
        r#"JSON {"cpu_utilization":0.25,"mem_utilization":0.5,"request_cost":{"db":3,"cpu":12.5},"named_metrics":{"cpu":7}}"#.into(),
        r#"JSON {"cpuUtilization":"0.25","memUtilization":0.5,"requestCost":{"cpu":"12.5"},"namedMetrics":{"cpu":7.0},"eps":[{}]}"#.into(),
        format!("BIN {}", base64(&message())),
    ]
}

#[test]
fn all_forms_say_the_same() {
    for form in forms() {
        let expected = |work_us| Some(Reported { work_us, utilisation: utilisation(0.25, 0.5) });
        assert_eq!(read(form.as_bytes(), None), expected(None), "{form}");
        assert_eq!(
            read(form.as_bytes(), Some(&cost("request_cost.cpu"))),
            expected(Some(12_500.0)),
            "{form}"
        );
        assert_eq!(
            read(form.as_bytes(), Some(&cost("named_metrics.cpu"))),
            expected(Some(7_000.0)),
            "{form}"
        );
        assert_eq!(read(form.as_bytes(), Some(&cost("request_cost.none"))), expected(None), "{form}");
    }
    let unpadded = base64(&message()).trim_end_matches('=').to_owned();
    let trailer = read_binary(unpadded.as_bytes(), Some(&cost("request_cost.cpu"))).unwrap();
    assert_eq!(trailer.work_us, Some(12_500.0));
}

#[test]
fn reading_allocates_nothing() {
    let wanted = cost("request_cost.cpu");
    for form in forms() {
        let used = allocation_counter::measure(|| assert!(read(form.as_bytes(), Some(&wanted)).is_some()));
        // Lists that nobody asked for are skipped with a stack of their own.
        assert_eq!(used.count_total, u64::from(form.contains('[')), "{form}");
    }
}

#[test]
fn what_makes_no_sense_is_passed_over() {
    let wanted = cost("request_cost.c");
    let read = |text: &str| read(text.as_bytes(), Some(&wanted));
    let nothing = Some(Reported::default());
    for odd in [
        "TEXT cpu_utilization=-0.1,mem_utilization=1.5,application_utilization=NaN,request_cost.c=inf",
        "TEXT cpu_utilization=1e9,request_cost.c=-3,request_cost.=1,=,cpu_utilization",
        r#"JSON {"cpu_utilization":null,"request_cost":{"c":"much"}}"#,
    ] {
        assert_eq!(read(odd), nothing, "{odd}");
    }
    let first =
        read("TEXT cpu_utilization=0.5,cpu_utilization=0.9,request_cost.c=1,request_cost.c=9").unwrap();
    assert_eq!((first.utilisation.cpu, first.work_us), (Some(0.5), Some(1_000.0)));
    for broken in [
        "",
        "TEXT",
        "cpu_utilization=0.5",
        "XML <a/>",
        "JSON [1]",
        "JSON {\"cpu_utilization\":0.5",
        "JSON {}x",
        "BIN !",
        "BIN CQ==",
    ] {
        assert_eq!(read(broken), None, "{broken}");
    }
    assert_eq!(
        read(&format!("TEXT cpu_utilization=0.5,x={}", "1".repeat(5_000))),
        None,
        "too long to be looked at"
    );
    assert_eq!(read(&format!("JSON {}", "{\"a\":".repeat(600))), None, "deep nesting ends in an error");
}

fn sane(reported: Option<Reported>) -> Result<(), TestCaseError> {
    let Some(Reported { work_us, utilisation: Utilisation { cpu, memory, application } }) = reported else {
        return Ok(());
    };
    prop_assert!(work_us.is_none_or(|work| work.is_finite() && work >= 0.0));
    prop_assert!(
        [cpu, memory, application].into_iter().flatten().all(|share| (0.0..=100.0).contains(&share))
    );
    Ok(())
}

/// Cuts, doubles, flips and splices: what is left of a real report when somebody has been at it.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..5u8);
    (0..4usize, prop::collection::vec(edit, 0..12)).prop_map(|(form, edits)| {
        let mut bytes = forms()[form].clone().into_bytes();
        for (at, byte, what) in edits {
            let at = at.index(bytes.len().max(1));
            match what {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), byte),
                2 => bytes.extend_from_within(at.min(bytes.len())..),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let wanted = cost("request_cost.cpu");
        sane(read(&bytes, Some(&wanted)))?;
        sane(read_binary(&bytes, Some(&wanted)))?;
        sane(read(format!("BIN {}", base64(&bytes)).as_bytes(), Some(&wanted)))?;
    }

    #[test]
    fn no_damaged_report_does_harm(bytes in mutated()) {
        sane(read(&bytes, Some(&cost("request_cost.cpu"))))?;
    }

    #[test]
    fn what_is_written_is_read(cpu in 0.0..2.0f64, work in 0.0..1e6f64) {
        let text = format!("TEXT request_cost.a={work},cpu_utilization={cpu}");
        let json = format!("JSON {{\"request_cost\":{{\"a\":{work}}},\"cpu_utilization\":{cpu}}}");
        let wanted = cost("request_cost.a");
        for form in [text, json] {
            let reported = read(form.as_bytes(), Some(&wanted)).unwrap();
            prop_assert!((f64::from(reported.utilisation.cpu.unwrap()) - cpu).abs() < 1e-6);
            prop_assert!((reported.work_us.unwrap() / 1e3 - work).abs() <= 1e-9 * work);
        }
    }
}
