//! Requests of an access log as the routes of a configuration would have seen them, so that what is learned from them has
//! the keys it will have in the running proxy.
//!
//! A log has method, path and query, mostly the host and the client; JSON logs may have headers, as `http_NAME` (nginx's
//! way, with `_` for `-`) or `header.NAME`. A log of Foretide's own has the consumer as the proxy told it, and the work as the
//! proxy measured it, with waiting taken off; of other logs the work is the duration. Bodies are in no log: JSON fields are
//! absent. Failed requests teach nothing, and what no route takes is counted and left out.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;

use foretide_loadtest::replay::recording::{each_line, open};
use foretide_predictor::cost::backtest::BacktestRow;
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::CompiledRoutes;
use foretide_routing::extract::head::PlainHead;
use foretide_routing::settings::RoutingSettings;

use crate::WorkbenchError;
use crate::dataset::refuse_if_mostly_bad;
use crate::logged::Record;
use crate::read::Format;
use crate::table::{BadRows, Field, MOST_ROWS};

/// Headers that JSON logs have under names of their own.
const HEADERS: [(&str, &str); 3] =
    [("user_agent", "user-agent"), ("content_type", "content-type"), ("forwarded_for", "x-forwarded-for")];
/// Names of the client's address in JSON logs.
const CLIENTS: [&str; 3] = ["client", "remote_addr", "client_ip"];

/// Requests that routes took, in order of arrival.
#[derive(Debug)]
pub struct Routed {
    /// As the library takes them; costs in microseconds.
    pub rows: Vec<BacktestRow>,
    /// How many each route took, by its place in the configuration.
    pub by_route: Vec<usize>,
    /// Requests that no route takes.
    pub unrouted: usize,
    /// Requests that failed.
    pub failed: usize,
    /// Rows whose consumer no source of their route named.
    pub unnamed: usize,
    /// Rows with work as a Foretide measured it.
    pub measured: usize,
    /// Lines that could not be used.
    pub bad: BadRows,
}

/// Reads a log; `most`: good rows to read at most.
///
/// # Errors
/// The file cannot be read, is no access log, has no request that a route takes, or is mostly unusable.
pub fn load(
    path: &Path,
    format: Option<Format>,
    most: Option<usize>,
    settings: &RoutingSettings,
) -> Result<Routed, WorkbenchError> {
    let file = path.display().to_string();
    let failed = |source| WorkbenchError::Read { file: file.clone(), source };
    let format = format.map_or_else(|| Format::of_file(path), Ok).map_err(failed)?;
    let Some(parse) = format.parse() else {
        return Err(WorkbenchError::Rows(format!(
            "{file} is a table, and routes take requests: name its columns instead of a configuration, or give an access log"
        )));
    };
    let most = most.unwrap_or(MOST_ROWS).min(MOST_ROWS);
    let routes = CompiledRoutes::compile(settings);
    let mut found = Routed {
        rows: Vec::new(),
        by_route: vec![0; settings.routes.len()],
        unrouted: 0,
        failed: 0,
        unnamed: 0,
        measured: 0,
        bad: BadRows::default(),
    };
    let each = each_line(open(path).map_err(failed)?, |line, text| {
        if let Err(reason) = text.and_then(parse).and_then(|record| found.add(&record, &routes)) {
            found.bad.add(line, reason);
        }
        if found.rows.len() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    each.map_err(failed)?;
    refuse_if_mostly_bad(path, &found.bad, found.rows.len() + found.unrouted + found.failed)?;
    if found.rows.is_empty() {
        let Routed { unrouted, failed, .. } = found;
        return Err(WorkbenchError::Rows(format!(
            "no route of the configuration takes a request of {file} ({unrouted} requests without a route, {failed} failed)"
        )));
    }
    found.rows.sort_by_key(|row| row.arrival);
    Ok(found)
}

impl Routed {
    fn add(&mut self, record: &Record, routes: &CompiledRoutes) -> Result<(), String> {
        if record.failed() {
            self.failed += 1;
            return Ok(());
        }
        let measured_us = own(record, "measured_ms").and_then(|ms| ms.parse::<f64>().ok()).map(|ms| ms * 1e3);
        let cost = measured_us.or(record.duration_us()).ok_or("no duration")?;
        let Some(facts) = routes.extract(&head(record)) else {
            self.unrouted += 1;
            return Ok(());
        };
        let mut query = facts.query;
        let told = told_by_foretide(record);
        query.consumer_key = told.unwrap_or(query.consumer_key);
        let moment = |us: i64| u64::try_from(us).map(Timestamp::from_us).map_err(|_| "a moment before 1970");
        let (arrival, end) = record.span_us();
        let (arrival, label_known_at) = (moment(arrival)?, moment(end)?);
        self.unnamed += usize::from(told.is_none() && !facts.consumer_named);
        self.measured += usize::from(measured_us.is_some());
        self.by_route[facts.route.index()] += 1;
        self.rows.push(BacktestRow { arrival, label_known_at, query, cost });
        Ok(())
    }
}

/// The consumer as a Foretide wrote it into its own log: 16 hexadecimal digits, beside its decision.
fn told_by_foretide(record: &Record) -> Option<u64> {
    own(record, "decision")?;
    let digits = own(record, "consumer").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn own<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.own.iter().find(|field| field.name == name).map(|field| field.value.as_str())
}

/// What the line still knows of the request's head.
fn head(record: &Record) -> PlainHead {
    let mut head = PlainHead::new(record.request.method.as_str(), &record.request.path_and_query);
    if let Some(host) = &record.host {
        let port = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        head = head.with_host(port.map_or(host.as_str(), |(host, _)| host));
    }
    let client = CLIENTS.iter().find_map(|name| own(record, name)).unwrap_or(&record.request.consumer);
    head.client = client.parse::<IpAddr>().ok();
    for Field { name, value } in &record.own {
        let known = HEADERS.iter().find(|(field, _)| field == name).map(|(_, header)| (*header).to_owned());
        let header = known.or_else(|| Some(name.strip_prefix("http_")?.replace('_', "-")));
        let header = header.or_else(|| name.strip_prefix("header.").map(str::to_ascii_lowercase));
        if let Some(header) = header.filter(|_| value != "-") {
            head = head.with_header(&header, value.as_bytes());
        }
    }
    if let Some(bytes) = record.bytes_received() {
        head = head.with_header("content-length", bytes.to_string().as_bytes());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_conf::parse::parse;

    const CONFIG: &str = "version = 1\n[[routes]]\nname = \"items\"\npath = \"/items/{id}\"\npool = \"a\"\n\
        consumer = [\"header:x-tenant\"]\nparameters = [\"query:n:number\", \"path:id:category\"]\n\
        [pools.a]\nendpoints = [\"10.0.0.1:80\"]\n";

    fn routed(log: &str) -> Result<Routed, WorkbenchError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), log).unwrap();
        load(file.path(), None, None, &parse("c.toml", CONFIG).unwrap().0.routing)
    }

    #[test]
    fn rows_have_the_keys_that_the_proxy_gives_them() {
        let settings = parse("c.toml", CONFIG).unwrap().0.routing;
        let live = PlainHead::new("GET", "/items/7?n=30").with_header("x-tenant", b"acme");
        let live = CompiledRoutes::compile(&settings).extract(&live).unwrap().query;
        let (consumer, theirs) = (live.consumer_key, r#""method":"GET","path":"/items/7?n=30","status":200"#);
        let found = routed(&format!(
            "{{\"time\":\"2024-01-01T00:00:01Z\",{theirs},\"duration_ms\":40,\"http_x_tenant\":\"acme\"}}\n\
             {{\"time\":\"2024-01-01T00:00:00Z\",{theirs},\"duration_ms\":40,\"measured_ms\":12.5,\
             \"decision\":1,\"consumer\":\"{consumer:016x}\"}}\n\
             {{\"time\":1,\"path\":\"/other\",\"duration_ms\":1}}\n\
             {{\"time\":1,\"path\":\"/items/1\",\"status\":502,\"duration_ms\":1}}\n"
        ))
        .unwrap();
        assert!(found.rows.iter().all(|row| row.query == live), "{:?} {live:?}", found.rows);
        assert_eq!([found.rows[0].cost, found.rows[1].cost], [12_500.0, 40_000.0], "in order of arrival");
        assert_eq!(found.rows[0].label_known_at.since(found.rows[0].arrival).as_millis(), 40);
        assert_eq!((found.unrouted, found.failed, found.measured, found.unnamed), (1, 1, 1, 0));
        assert_eq!(found.by_route, [2]);
    }

    #[test]
    fn logs_that_no_route_knows_and_tables_are_refused() {
        let error = routed("{\"time\":1,\"path\":\"/other\",\"duration_ms\":1}\n").unwrap_err();
        assert!(error.to_string().contains("1 requests without a route"), "{error}");
        assert!(routed("a,b\n1,2\n").unwrap_err().to_string().contains("is a table"));
    }
}
