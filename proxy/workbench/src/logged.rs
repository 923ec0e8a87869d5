//! From a line of an access log to named fields.
//!
//! Every log gives `arrival_us`, `end_us`, `duration_us` (where it has a duration), `method`, `endpoint` (method and
//! path template), `consumer`, `status`, `bytes_received` and `bytes_sent` (where it has them), and `query.NAME` for
//! each query parameter. A JSON log also gives its own scalar fields under their own names.
//!
//! nginx writes a line when the response has been sent and logs `$request_time` in seconds with a fraction: arrival is
//! its time less its duration. Apache logs the time of arrival and `%D` in whole microseconds. Requests that failed
//! (5xx, 499, no status) are told apart: how long it took to fail is not what the request costs.

use foretide_loadtest::replay::access_log::{self, LoggedRequest};
use foretide_loadtest::replay::moment;
use serde_json::{Map, Value};

use crate::table::Field;

/// Query parameters read of one request.
const MOST_PARAMETERS: usize = 16;
/// Names of the status in JSON logs.
const STATUSES: [&str; 4] = ["status", "response_code", "status_code", "code"];
/// Names of the host in JSON logs.
const HOSTS: [&str; 4] = ["host", "http_host", "authority", "server_name"];
/// Names of durations with their unit in microseconds; 0: an integer is milliseconds, a fraction seconds.
const DURATIONS: [(&str, f64); 13] = [
    ("duration_ms", 1e3),
    ("duration_us", 1.0),
    ("duration_ns", 1e-3),
    ("duration_s", 1e6),
    ("request_time", 1e6),
    ("duration", 0.0),
    ("latency_ms", 1e3),
    ("latency_us", 1.0),
    ("latency", 0.0),
    ("elapsed_ms", 1e3),
    ("response_time", 0.0),
    ("elapsed", 0.0),
    ("took", 0.0),
];
/// How a line of one format is read. The error is a reason to be shown.
pub(crate) type Parse = fn(&str) -> Result<Record, String>;

/// A request as its line has it.
pub(crate) struct Record {
    pub(crate) request: LoggedRequest,
    /// With its port, if the line has one.
    pub(crate) host: Option<String>,
    /// Scalars of a JSON line.
    pub(crate) own: Vec<Field>,
    measured: Measured,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// A request that was answered.
    Done(Vec<Field>),
    /// A request that failed.
    Failed,
}

/// What all formats have in common.
#[derive(Default)]
struct Measured {
    status: Option<u16>,
    duration_us: Option<f64>,
    /// The logged time is that of the end.
    time_is_end: bool,
    bytes_received: Option<u64>,
    bytes_sent: Option<u64>,
}

/// A line in the common or combined format, perhaps followed by a duration. The error is a reason to be shown.
pub(crate) fn combined(line: &str) -> Result<Record, String> {
    let request = access_log::parse_common(line)?;
    let (_, rest) = line.split_once(']').ok_or("no [time]")?;
    let words = words(rest);
    let number = |at: usize| words.get(at).and_then(|word| word.text.parse().ok());
    let status = number(1).and_then(|status| u16::try_from(status).ok());
    // Behind size, referrer and agent stands what was added to the format: the first number with a fraction is
    // `$request_time` (upstream times come after it), else the first whole one is `%D`.
    let durations = || words.iter().skip(3).filter_map(|word| duration_word(word.text));
    let duration = durations().find(|(_, seconds)| *seconds).or_else(|| durations().next());
    let measured = Measured {
        status: Some(status.ok_or("no status")?),
        duration_us: duration.map(|(us, _)| us),
        time_is_end: duration.is_some_and(|(_, seconds)| seconds),
        bytes_received: None,
        bytes_sent: number(2),
    };
    Ok(Record { request, host: None, own: Vec::new(), measured })
}

/// A trailing duration, µs: seconds with a fraction (nginx; true), or whole microseconds (Apache's `%D`; false).
fn duration_word(word: &str) -> Option<(f64, bool)> {
    let word = word.strip_prefix("rt=").unwrap_or(word);
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let number: f64 = word.parse().ok()?;
    Some(if word.contains('.') {
        (at_least(number * 1e6, 500.0), true)
    } else {
        (at_least(number, 0.5), false)
    })
}

/// A duration rounded to nothing took about half of the clock's step.
fn at_least(duration_us: f64, half_step_us: f64) -> f64 {
    if duration_us == 0.0 { half_step_us } else { duration_us }
}

/// A line in Envoy's default text format, or Istio's. The error is a reason to be shown.
pub(crate) fn envoy(line: &str) -> Result<Record, String> {
    let rest = line.strip_prefix('[').ok_or("no [time]")?;
    let (time, rest) = rest.split_once(']').ok_or("no end of [time]")?;
    let at_us = moment::parse(time).ok_or_else(|| format!("no moment: {time:?}"))?;
    let words = words(rest);
    let (method, path_and_query) = access_log::parse_request(words.first().ok_or("no \"request\"")?.text)?;
    let status = words.get(1).and_then(|word| word.text.parse().ok()).ok_or("no status")?;
    let number =
        |at: usize| words.get(at).filter(|word| !word.quoted).and_then(|word| word.text.parse::<u64>().ok());
    // Flags, and in Istio's format details, come before the first three whole numbers in a row.
    let sizes = (2..words.len()).find(|&at| (at..at + 3).all(|at| number(at).is_some()));
    let sizes = sizes.ok_or("no bytes received, bytes sent, duration in a row")?;
    let mut behind = words[sizes..].iter().filter(|word| word.quoted).map(|word| word.text);
    let consumer = behind.next().unwrap_or_default();
    // Then come the user agent and the request's id.
    let host = behind.nth(2).filter(|host| *host != "-").map(str::to_owned);
    let consumer = consumer.split(',').next().unwrap_or_default().trim().trim_matches('-');
    let request = LoggedRequest { at_us, method, path_and_query, consumer: consumer.into() };
    let measured = Measured {
        status: Some(status),
        duration_us: number(sizes + 2).map(|ms| at_least(ms as f64 * 1e3, 500.0)),
        time_is_end: false,
        bytes_received: number(sizes),
        bytes_sent: number(sizes + 1),
    };
    Ok(Record { request, host, own: Vec::new(), measured })
}

/// A JSON object, ours or another maker's. The error is a reason to be shown.
pub(crate) fn json(line: &str) -> Result<Record, String> {
    let object = access_log::parse_object(line)?;
    let request = access_log::of_object(&object)?;
    let number = |names: &[&str]| names.iter().find_map(|name| as_number(object.get(*name)?));
    let whole = |names: &[&str]| number(names).map(|number| number as u64);
    let measured = Measured {
        status: number(&STATUSES).map(|status| status as u16),
        duration_us: DURATIONS.iter().find_map(|&(name, unit)| duration_field(object.get(name)?, unit)),
        time_is_end: object.contains_key("time_local") || object.contains_key("request_time"),
        bytes_received: whole(&["bytes_received", "request_length", "content_length"]),
        bytes_sent: whole(&["bytes_sent", "body_bytes_sent", "response_size"]),
    };
    let host = HOSTS.iter().find_map(|name| object.get(*name)?.as_str()).map(str::to_owned);
    Ok(Record { request, host, own: own_fields(&object), measured })
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A duration in µs: a number in the unit of its name, or text like `0.25s` or `12ms`.
fn duration_field(value: &Value, unit: f64) -> Option<f64> {
    let number = match value {
        Value::String(text) => {
            let digits = text.trim_end_matches(|last: char| last.is_alphabetic());
            let factor = match &text[digits.len()..] {
                "" => None,
                "ns" => Some(1e-3),
                "us" | "µs" => Some(1.0),
                "ms" => Some(1e3),
                "s" => Some(1e6),
                _ => return None,
            };
            let number: f64 = digits.parse().ok()?;
            return Some(number * factor.unwrap_or(unit_of(unit, digits.contains('.'))));
        }
        Value::Number(number) => number,
        _ => return None,
    };
    let unit = unit_of(unit, number.is_f64());
    Some(at_least(number.as_f64()? * unit, unit.min(1e3) / 2.0))
}

fn unit_of(unit: f64, has_fraction: bool) -> f64 {
    match (unit, has_fraction) {
        (0.0, true) => 1e6,
        (0.0, false) => 1e3,
        _ => unit,
    }
}

/// Scalars of a JSON log under their own names.
fn own_fields(object: &Map<String, Value>) -> Vec<Field> {
    let scalar = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return None,
        };
        Some(Field { name: name.clone(), value })
    };
    object.iter().filter_map(scalar).collect()
}

impl Record {
    /// Whether it failed: how long that took is not what the request costs.
    pub(crate) fn failed(&self) -> bool {
        self.measured.status.is_some_and(|status| status == 499 || status >= 500 || status == 0)
    }

    /// From the request's arrival to its end, microseconds; `None`: the line does not say.
    pub(crate) fn duration_us(&self) -> Option<f64> {
        self.measured.duration_us
    }

    /// Bytes of the request's body, if the line has them.
    pub(crate) fn bytes_received(&self) -> Option<u64> {
        self.measured.bytes_received
    }

    /// Arrival and end, Unix microseconds; the same where there is no duration.
    pub(crate) fn span_us(&self) -> (i64, i64) {
        let duration = self.measured.duration_us.unwrap_or(0.0).clamp(0.0, 1e12) as i64;
        let at_us = self.request.at_us;
        if self.measured.time_is_end { (at_us - duration, at_us) } else { (at_us, at_us + duration) }
    }

    /// As named fields.
    pub(crate) fn fields(self) -> Logged {
        if self.failed() {
            return Logged::Failed;
        }
        let (arrival, end) = self.span_us();
        let Self { request, measured, own, .. } = self;
        let mut fields = Vec::with_capacity(16 + own.len());
        let mut field = |name: &str, value: String| fields.push(Field { name: name.to_owned(), value });
        let (path, query) = request.path_and_query.split_once('?').unwrap_or((&request.path_and_query, ""));
        field("arrival_us", arrival.to_string());
        field("method", request.method.to_string());
        field("endpoint", format!("{} {}", request.method, path_template(path)));
        field("consumer", request.consumer);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')).take(MOST_PARAMETERS) {
            field(&format!("query.{name}"), value.to_owned());
        }
        if let Some(bytes) = measured.bytes_received {
            field("bytes_received", bytes.to_string());
        }
        if let Some(duration_us) = measured.duration_us {
            field("duration_us", duration_us.to_string());
            field("end_us", end.to_string());
        }
        for (name, value) in [("status", measured.status.map(u64::from)), ("bytes_sent", measured.bytes_sent)]
        {
            if let Some(value) = value {
                field(name, value.to_string());
            }
        }
        fields.extend(own);
        Logged::Done(fields)
    }
}

/// A path whose changing parts are `{}`: numbers, and long hexadecimal or mixed identifiers.
pub(crate) fn path_template(path: &str) -> String {
    let segment = |segment: &str| if is_identifier(segment) { "{}".to_owned() } else { segment.to_owned() };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn is_identifier(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal = segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let word_like = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=%".contains(&byte));
    (digits > 0 && digits == segment.len())
        || (segment.len() >= 8 && hexadecimal && digits > 0)
        || (segment.len() >= 16 && word_like && digits >= 4)
}

/// A word, or what stands between quotation marks.
struct Word<'a> {
    text: &'a str,
    quoted: bool,
}

/// Words separated by blanks; `"…"` is one, and `\"` in it is not its end.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(inside) => {
                let bytes = inside.as_bytes();
                let ends = |&at: &usize| bytes[at] == b'"' && (at == 0 || bytes[at - 1] != b'\\');
                let end = (0..bytes.len()).find(ends).unwrap_or(bytes.len());
                (Word { text: &inside[..end], quoted: true }, inside.get(end + 1..).unwrap_or_default())
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (Word { text: &rest[..end], quoted: false }, &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Logged, Record, path_template};

    fn value(logged: &Logged, name: &str) -> Option<String> {
        let Logged::Done(fields) = logged else { panic!("failed") };
        fields.iter().find(|field| field.name == name).map(|field| field.value.clone())
    }

    fn combined(line: &str) -> Result<Logged, String> {
        super::combined(line).map(Record::fields)
    }

    fn envoy(line: &str) -> Result<Logged, String> {
        super::envoy(line).map(Record::fields)
    }

    fn json(line: &str) -> Result<Logged, String> {
        super::json(line).map(Record::fields)
    }

    fn has(logged: &Logged, expected: &[(&str, &str)]) {
        for (name, text) in expected {
            assert_eq!(value(logged, name).as_deref(), Some(*text), "{name} of {logged:?}");
        }
    }

    #[test]
    fn nginx_and_apache_lines_know_when_the_request_came() {
        let line = r#"10.0.0.9 - ann [10/Oct/2000:20:55:36 +0000] "GET /a/17?rows=9&q=x HTTP/1.1" 200 2326 "-" "UA 5.0" 0.250"#;
        let logged = combined(line).unwrap();
        has(
            &logged,
            &[("endpoint", "GET /a/{}"), ("consumer", "ann"), ("query.rows", "9"), ("bytes_sent", "2326")],
        );
        has(
            &logged,
            &[("duration_us", "250000"), ("end_us", "971211336000000"), ("arrival_us", "971211335750000")],
        );
        let logged = combined(&line.replace("0.250", "250000")).unwrap();
        has(
            &logged,
            &[("duration_us", "250000"), ("arrival_us", "971211336000000"), ("end_us", "971211336250000")],
        );
        let both = combined(&line.replace("0.250", "612 rt=0.250 uct=0.001 0.249")).unwrap();
        has(&both, &[("duration_us", "250000")]);
        let logged = combined(r#"10.0.0.9 - - [10/Oct/2000:20:55:36 +0000] "GET / HTTP/1.1" 200 -"#).unwrap();
        assert_eq!((value(&logged, "duration_us"), value(&logged, "bytes_sent")), (None, None));
        assert_eq!(combined(&line.replace(" 200 ", " 502 ")).unwrap(), Logged::Failed);
    }

    #[test]
    fn envoys_and_istios_lines_are_read() {
        let envoy_line = r#"[2000-10-10T20:55:36.000Z] "POST /v1/items/7?n=3 HTTP/2" 201 - 12 345 42 40 "203.0.113.7, 10.0.0.1" "UA" "id" "host" "10.0.0.2:80""#;
        let istio_line = envoy_line.replace(" - 12 ", " - via_upstream - \"-\" 12 ");
        for line in [envoy_line, istio_line.as_str()] {
            let logged = envoy(line).unwrap();
            has(&logged, &[("endpoint", "POST /v1/items/{}"), ("consumer", "203.0.113.7"), ("query.n", "3")]);
            has(&logged, &[("bytes_received", "12"), ("bytes_sent", "345"), ("duration_us", "42000")]);
        }
        let quick = envoy(&envoy_line.replace(" 42 40 ", " 0 0 ")).unwrap();
        assert_eq!(
            value(&quick, "duration_us").as_deref(),
            Some("500"),
            "less than a millisecond, not nothing"
        );
    }

    #[test]
    fn json_of_several_makers_gives_durations_in_microseconds() {
        for (fields, us) in [
            (r#""duration_ms":12.5,"status":200"#, "12500"),
            (r#""request_time":"0.0125","status":"200""#, "12500"),
            (r#""duration":12,"response_code":200"#, "12000"),
            (r#""duration":0.0125"#, "12500"),
            (r#""latency":"12.5ms""#, "12500"),
        ] {
            let line =
                format!(r#"{{"time":"2000-10-10T20:55:36Z","method":"GET","path":"/p?a=1",{fields}}}"#);
            has(&json(&line).unwrap(), &[("duration_us", us), ("query.a", "1")]);
        }
        let failed = r#"{"time":1,"path":"/","status":499,"duration_ms":3}"#;
        assert_eq!(json(failed).unwrap(), Logged::Failed);
    }

    #[test]
    fn templates_keep_words_and_drop_identifiers() {
        for (path, template) in [
            ("/", "/"),
            ("/orders/17/items", "/orders/{}/items"),
            ("/u/550e8400-e29b-41d4-a716-446655440000", "/u/{}"),
            ("/api/v1/travelservice", "/api/v1/travelservice"),
            ("/facade/added", "/facade/added"),
            ("/t/eyJhbGciOi12345JIUzI1", "/t/{}"),
        ] {
            assert_eq!(path_template(path), template);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(
            line in "\\PC{0,80}",
            near in "[a\\[\\]\"\\\\ /:0-9.,{}-]{0,90}",
            tail in "[ \"\\\\0-9a.-]{0,60}",
        ) {
            let head = "1.2.3.4 - - [10/Oct/2000:13:55:36 +0000] \"GET /x?a=b HTTP/1.1\" 200 5";
            let envoys = "[2000-10-10T20:55:36Z] \"GET /x HTTP/1.1\" 200";
            for line in [line, near, format!("{head}{tail}"), format!("{envoys}{tail}")] {
                let _ = (combined(&line), json(&line), envoy(&line));
            }
        }
    }
}
