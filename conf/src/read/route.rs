//! `[[routes]]`.

use std::time::Duration;

use foretide_predictor::cost::query::{CATEGORIES, NUMBERS};
use foretide_routing::settings::{
    ConsumerSource, ParameterKind, ParameterRule, ParameterSource, PoolSettings, RouteMatch, RouteSettings,
    ServiceLevel,
};
use foretide_steering::admission::Priority;

use super::source;
use crate::document::{Says, Section, closest};
use crate::item::Item;
use crate::template::captures;

/// The engine can replay no longer body, so a longer one could not be retried.
const LARGEST_BODY: u64 = 65_536;
const PRIORITIES: [(&str, Priority); 3] =
    [("low", Priority::Low), ("normal", Priority::Normal), ("high", Priority::High)];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

pub(super) fn route(table: &Section<'_>, pools: &[PoolSettings]) -> RouteSettings {
    let matches = matches(table);
    let pool = pool(table, pools);
    let name = table.item("name").and_then(|item| item.text()).map(str::to_owned);
    let consumer = consumers(table);
    let parameters = parameters(table, &matches);
    let reads_json = parameters.iter().any(|rule| matches!(rule.source, ParameterSource::JsonField(_)));
    let body_limit_bytes = body_limit(table, reads_json);
    let longest = Duration::from_secs(86_400);
    let timeout = table.item("timeout").and_then(|item| item.duration(Duration::from_millis(1)..=longest));
    let level = level(table, pools.iter().find(|known| known.name == pool));
    table.close();
    // Without a name, what it matches says best what a route is.
    let path = matches.path_template.as_ref().or(matches.path_prefix.as_ref()).or(matches.host.as_ref());
    let name = name.unwrap_or_else(|| path.unwrap_or(&pool).clone());
    RouteSettings {
        name,
        matches,
        pool,
        consumer,
        parameters,
        body_limit_bytes,
        request_timeout: timeout,
        level,
    }
}

/// What its requests may expect when there is too much, which only a pool with admission or a queue looks at.
fn level(table: &Section<'_>, pool: Option<&PoolSettings>) -> ServiceLevel {
    let latency_item = table.item("slo_latency");
    let range = Duration::from_millis(1)..=Duration::from_secs(3600);
    let latency = latency_item.as_ref().and_then(|item| item.duration(range));
    let priority_item = table.item("priority");
    let priority = priority_item.as_ref().and_then(|item| item.choice(&PRIORITIES)).unwrap_or_default();
    let level = ServiceLevel { latency, priority };
    if pool.is_some_and(|pool| pool.admission.is_none() && pool.queue.is_none())
        && level != ServiceLevel::default()
    {
        for item in [latency_item, priority_item].iter().flatten() {
            item.warn(
                Says::new("has no effect: the pool has neither admission nor a queue")
                    .help("add a [pools.NAME.admission] table, or remove it"),
            );
        }
    }
    level
}

fn pool(table: &Section<'_>, pools: &[PoolSettings]) -> String {
    let Some(item) = table.required("pool", "\"api\"") else { return String::new() };
    let Some(name) = item.text() else { return String::new() };
    if !pools.iter().any(|pool| pool.name == name) {
        let names = pools.iter().map(|pool| pool.name.as_str());
        let help = match closest(name, names.clone()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if pools.is_empty() => format!("add a [pools.{name}] table"),
            None => {
                format!("add a [pools.{name}] table, or use one of: {}", names.collect::<Vec<_>>().join(", "))
            }
        };
        item.error(Says::new(format!("there is no pool \"{name}\"")).help(help));
    }
    name.to_owned()
}

/// What is faulty is kept as it is: left out, it would make the route seem to take everything.
fn matches(table: &Section<'_>) -> RouteMatch {
    let host = table.item("host").and_then(|item| host(&item));
    let prefix_item = table.item("path_prefix");
    let path_prefix = prefix_item.as_ref().and_then(prefix);
    let path_template = table.item("path").and_then(|item| {
        if prefix_item.is_some() {
            item.error(Says::new("`path` and `path_prefix` exclude each other").help("keep one of the two"));
        }
        let template = item.text()?;
        if let Err(says) = captures(template) {
            item.error(says);
        }
        Some(template.to_owned())
    });
    let list = table.item("methods").map(|item| item.list()).unwrap_or_default();
    RouteMatch { host, path_prefix, path_template, methods: list.iter().filter_map(method).collect() }
}

fn host(item: &Item<'_>) -> Option<String> {
    let host = item.text()?.to_ascii_lowercase();
    let plain = host.strip_prefix("*.").unwrap_or(&host);
    let ipv6 = plain.starts_with('[') && plain.ends_with(']');
    let sound = !plain.is_empty() && plain.chars().all(|c| c.is_alphanumeric() || "-._".contains(c));
    if !(sound || ipv6) {
        item.error(
            Says::new(format!("\"{host}\" is not a host name"))
                .help("a name without scheme, port or path, like \"api.example.org\" or \"*.example.org\""),
        );
    }
    Some(host)
}

fn prefix(item: &Item<'_>) -> Option<String> {
    let prefix = item.text()?;
    if !prefix.starts_with('/') {
        item.error(Says::new("does not start with `/`").help(format!("write \"/{prefix}\"")));
    }
    if prefix.contains(['{', '}', '?']) {
        item.error(
            Says::new("a prefix is taken literally")
                .help("for captures write `path = …` instead; leave out any query"),
        );
    }
    Some(prefix.to_owned())
}

fn method(item: &Item<'_>) -> Option<String> {
    let method = item.text()?.to_ascii_uppercase();
    let near = METHODS.iter().find(|known| strsim::damerau_levenshtein(known, &method) == 1);
    match near {
        _ if !source::is_token(&method) => {
            item.error(Says::new(format!("\"{method}\" is not a method")).help("write it like \"GET\""));
        }
        Some(meant) if !METHODS.contains(&method.as_str()) => {
            let says = Says::new(format!("\"{method}\" is not a usual method"));
            item.warn(says.help(format!("did you mean \"{meant}\"?")));
        }
        _ => {}
    }
    Some(method)
}

fn consumers(table: &Section<'_>) -> Vec<ConsumerSource> {
    let list = table.item("consumer").map(|item| item.list()).unwrap_or_default();
    let mut sources: Vec<ConsumerSource> = Vec::new();
    for item in &list {
        let Some(source) = source::consumer(item) else { continue };
        if matches!(sources.last(), Some(ConsumerSource::ClientPrefix { .. })) {
            item.warn(
                Says::new("is never tried: the client's address before it is always known")
                    .help("put \"client\" last"),
            );
        }
        sources.push(source);
    }
    sources
}

fn parameters(table: &Section<'_>, matches: &RouteMatch) -> Vec<ParameterRule> {
    let list = table.item("parameters").map(|item| item.list()).unwrap_or_default();
    let template = matches.path_template.as_deref().unwrap_or("");
    let sound = captures(template);
    let captured = sound.as_deref().unwrap_or_default();
    let mut rules: Vec<ParameterRule> = Vec::new();
    for item in &list {
        let Some(rule) = source::parameter(item) else { continue };
        if let ParameterSource::PathCapture(name) = &rule.source
            && !captured.contains(&name.as_str())
            && (sound.is_ok() || template.is_empty())
        {
            let help = match closest(name, captured.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("capture it: path = \"/…/{{{name}}}\""),
            };
            item.error(Says::new(format!("the route's `path` captures no `{name}`")).help(help));
        }
        if rules.iter().any(|other| other.name == rule.name) {
            item.error(
                Says::new(format!("a second parameter named \"{}\"", rule.name))
                    .help("remove it, or name it: { name = \"…\", from = \"…\", kind = \"…\" }"),
            );
        }
        let (kind, most) = match rule.kind {
            ParameterKind::Number => ("numeric", NUMBERS),
            ParameterKind::Category => ("categorical", CATEGORIES),
        };
        if rules.iter().filter(|other| other.kind == rule.kind).count() == most {
            item.error(
                Says::new(format!("more than {most} {kind} parameters"))
                    .help("keep those that drive cost most; the model learns from few strong ones"),
            );
        }
        rules.push(rule);
    }
    rules
}

fn body_limit(table: &Section<'_>, reads_json: bool) -> usize {
    let default = if reads_json { LARGEST_BODY } else { 0 };
    let item = table.item("body_limit");
    let limit = item.as_ref().and_then(|item| item.whole(0..=LARGEST_BODY));
    match (&item, limit) {
        (Some(item), Some(0)) if reads_json => {
            item.error(
                Says::new("no body is read, so its \"json:…\" parameters are never seen")
                    .help("remove `body_limit` (then 65536 bytes are read) or the parameters"),
            );
        }
        (Some(item), Some(1..)) if !reads_json => {
            item.warn(Says::new("has no effect: no parameter is read from the body").help("remove it"));
        }
        _ => {}
    }
    limit.unwrap_or(default) as usize
}
