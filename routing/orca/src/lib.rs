//! Load reports: what an instance says, in a header of its answer, of itself and of what the request cost it.
//!
//! The message is `xds.data.orca.v3.OrcaLoadReport` ("open request cost aggregation", known from Envoy and gRPC, whose
//! proposal A51 describes it). It comes written in three ways:
//!
//! ```text
//! endpoint-load-metrics: TEXT cpu_utilization=0.31,request_cost.cpu_seconds=0.0042
//! endpoint-load-metrics: JSON {"cpu_utilization":0.31,"request_cost":{"cpu_seconds":0.0042}}
//! endpoint-load-metrics: BIN CQrXo3A9Ctc/…            (base64 of the protobuf message)
//! endpoint-load-metrics-bin: CQrXo3A9Ctc/…            (the same, as gRPC's trailers have it)
//! ```
//!
//! Of it we take the utilisations and, if the pool asks for one, a single cost by its name. Everything else is passed over:
//! names we do not know, numbers that are not finite, negative, or beyond any sense. Of two equal names the first counts.
//! Text is taken item by item; JSON and protobuf count as a whole or not at all, as half a message may lie.
//!
//! An answer's header is written by whoever writes the instance's software: no byte of it can panic or take longer than its
//! length allows. Reading allocates nothing, but for JSON with escapes in names or with nested values that we do not know:
//! that is one allocation of at most the header's length.

mod binary;
mod json;
mod text;

use foretide_routing::observe::{Reported, Utilisation};
use foretide_routing::settings::ReportedCost;

/// Header of a report in any form; lower case.
pub const HEADER: &str = "endpoint-load-metrics";
/// Header, or gRPC trailer, of a report in the binary form alone; lower case.
pub const BINARY_HEADER: &str = "endpoint-load-metrics-bin";

/// A longer value is not looked at: a full report with a dozen named metrics has a few hundred bytes.
const LONGEST: usize = 4_096;
/// Utilisations above this are counters in the wrong place. (Above 1 is lawful: beyond a soft limit.)
const MOST_UTILISATION: f64 = 100.0;

/// The value of [`HEADER`]; `cost`: what to take as the request's. `None`: it cannot be read.
pub fn read(value: &[u8], cost: Option<&ReportedCost>) -> Option<Reported> {
    let value = bounded(value)?;
    let (form, body) = value.split_once(' ')?;
    let mut found = Found::new(cost);
    match form {
        "TEXT" => text::read(body, &mut found),
        "JSON" => json::read(body, &mut found)?,
        "BIN" => binary::read(body.as_bytes(), &mut found)?,
        _ => return None,
    }
    Some(found.reported)
}

/// The value of [`BINARY_HEADER`]; as [`read`].
pub fn read_binary(value: &[u8], cost: Option<&ReportedCost>) -> Option<Reported> {
    let mut found = Found::new(cost);
    binary::read(bounded(value)?.as_bytes(), &mut found)?;
    Some(found.reported)
}

/// A message as it is, of a stream of them; as [`read`].
pub fn read_message(message: &[u8]) -> Option<Reported> {
    let mut found = Found::new(None);
    binary::message(message, &mut found)?;
    Some(found.reported)
}

fn bounded(value: &[u8]) -> Option<&str> {
    if value.len() > LONGEST { None } else { std::str::from_utf8(value).ok().map(str::trim) }
}

/// A single number of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Cpu,
    Memory,
    Application,
}

/// A group of named numbers of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Costs,
    Metrics,
}

impl Field {
    /// By its name in the message, or the one that protobuf's JSON form makes of it.
    fn named(name: &str) -> Option<Self> {
        match name {
            "cpu_utilization" | "cpuUtilization" => Some(Self::Cpu),
            "mem_utilization" | "memUtilization" => Some(Self::Memory),
            "application_utilization" | "applicationUtilization" => Some(Self::Application),
            _ => None,
        }
    }
}

impl Group {
    fn named(name: &str) -> Option<Self> {
        match name {
            "request_cost" | "requestCost" => Some(Self::Costs),
            "named_metrics" | "namedMetrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// What was found so far.
struct Found<'a> {
    cost: Option<&'a ReportedCost>,
    /// Group and name of the cost that is wanted.
    wanted: Option<(Group, &'a str)>,
    reported: Reported,
}

impl<'a> Found<'a> {
    fn new(cost: Option<&'a ReportedCost>) -> Self {
        let wanted = cost.and_then(|cost| {
            let (group, name) = cost.field.split_once('.')?;
            Some((Group::named(group)?, name))
        });
        Self { cost, wanted, reported: Reported::default() }
    }

    fn field(&mut self, field: Field, value: f64) {
        let Utilisation { cpu, memory, application } = &mut self.reported.utilisation;
        let (slot, most) = match field {
            Field::Cpu => (cpu, MOST_UTILISATION),
            Field::Memory => (memory, 1.0),
            Field::Application => (application, MOST_UTILISATION),
        };
        if slot.is_none() && (0.0..=most).contains(&value) {
            *slot = Some(value as f32);
        }
    }

    fn named(&mut self, group: Group, name: &str, value: f64) {
        let Some(cost) = self.cost.filter(|_| self.wanted == Some((group, name))) else { return };
        let work_us = value * cost.unit.as_secs_f64() * 1e6;
        if self.reported.work_us.is_none() && work_us.is_finite() && work_us >= 0.0 {
            self.reported.work_us = Some(work_us);
        }
    }
}
