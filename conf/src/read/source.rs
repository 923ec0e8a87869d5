//! Where a route reads its consumer and its parameters: `"header:x-tenant"`, `"query:n:number"`.

use foretide_routing::settings::{ConsumerSource, ParameterKind, ParameterRule, ParameterSource};

use crate::document::{Says, closest};
use crate::item::Item;

/// Whole addresses: one client, one consumer.
const WHOLE: ConsumerSource = ConsumerSource::ClientPrefix { v4_bits: 32, v6_bits: 128 };

const KINDS: [(&str, ParameterKind); 2] =
    [("number", ParameterKind::Number), ("category", ParameterKind::Category)];

/// A token of RFC 9110: what names of headers and methods are made of.
pub(super) fn is_token(text: &str) -> bool {
    let extra = |c: char| "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra(c))
}

fn header_name(name: &str) -> Result<String, Says> {
    if is_token(name) {
        return Ok(name.to_ascii_lowercase());
    }
    Err(Says::new(format!("\"{name}\" is not a header name")).help("letters, digits and `-`, like x-tenant"))
}

fn unknown(text: &str, known: &[&'static str]) -> Says {
    let (word, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    let says = Says::new(format!("\"{word}\" is not a known source"));
    match closest(word, known.iter().map(|name| name.trim_end_matches(":…"))) {
        Some(meant) => says.help(format!("did you mean \"{meant}{rest}\"?")),
        None => says.help(format!("known sources: {}", known.join(", "))),
    }
}

pub(super) fn consumer(item: &Item<'_>) -> Option<ConsumerSource> {
    let text = item.text()?;
    parse_consumer(text).map_err(|says| item.error(says)).ok()
}

fn parse_consumer(text: &str) -> Result<ConsumerSource, Says> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    match (word, rest) {
        ("mtls", "") => Ok(ConsumerSource::MtlsSubject),
        ("client", "") => Ok(WHOLE),
        ("client", bits) => {
            let split = bits.split_once('/').and_then(|(v4, v6)| Some((v4.parse().ok()?, v6.parse().ok()?)));
            match split {
                Some((v4_bits @ 0..=32, v6_bits @ 0..=128)) => {
                    Ok(ConsumerSource::ClientPrefix { v4_bits, v6_bits })
                }
                _ => Err(Says::new(format!("\"{bits}\" is not a pair of prefix lengths"))
                    .help("IPv4 bits / IPv6 bits, like \"client:24/64\"")),
            }
        }
        ("header", name) => header_name(name).map(ConsumerSource::Header),
        ("api-key", name) => header_name(name).map(ConsumerSource::ApiKey),
        ("unverified-jwt", "") => {
            Err(Says::new("names no claim").help("write it like \"unverified-jwt:sub\""))
        }
        ("unverified-jwt", claim) => Ok(ConsumerSource::UnverifiedJwtClaim(claim.to_owned())),
        ("jwt", _) => Err(Says::new("the signature of a token is not verified here")
            .help("write \"unverified-jwt:…\" to say that you know; use it for load decisions only")),
        _ => Err(unknown(text, &["header:…", "api-key:…", "unverified-jwt:…", "mtls", "client"])),
    }
}

/// A parameter as a string or as a table `{ name, from, kind }`.
pub(super) fn parameter(item: &Item<'_>) -> Option<ParameterRule> {
    if !item.is_table() {
        let text = item.text()?;
        return parse_parameter(text).map_err(|says| item.error(says)).ok();
    }
    let table = item.section()?;
    let name = table.item("name").and_then(|item| item.text());
    let kind = table.item("kind").and_then(|item| item.choice(&KINDS));
    let from = table.required("from", "\"query:n\"");
    table.close();
    let from = from?;
    match parse_source(from.text()?) {
        Err(says) => {
            from.error(says);
            None
        }
        Ok((source, default_name)) => {
            let name = name.unwrap_or(&default_name).to_owned();
            match kind.or_else(|| usual_kind(&source)) {
                Some(kind) => Some(ParameterRule { name, source, kind }),
                None => {
                    table.error(
                        Says::new("does not say how to read it")
                            .help("add `kind = \"number\"` or \"category\""),
                    );
                    None
                }
            }
        }
    }
}

fn parse_parameter(text: &str) -> Result<ParameterRule, Says> {
    let (from, kind) = match text.rsplit_once(':') {
        Some((from, "number")) => (from, Some(ParameterKind::Number)),
        Some((from, "category")) => (from, Some(ParameterKind::Category)),
        _ => (text, None),
    };
    let (source, name) = parse_source(from)?;
    let kind = kind.or_else(|| usual_kind(&source)).ok_or_else(|| {
        Says::new("does not say how to read it")
            .help(format!("write \"{text}:number\" or \"{text}:category\""))
    })?;
    Ok(ParameterRule { name, source, kind })
}

/// Where there is only one sensible way to read it.
fn usual_kind(source: &ParameterSource) -> Option<ParameterKind> {
    match source {
        ParameterSource::Method | ParameterSource::ContentType => Some(ParameterKind::Category),
        ParameterSource::ContentLength => Some(ParameterKind::Number),
        _ => None,
    }
}

/// A source and the name that a parameter read from it has unless one is written.
fn parse_source(text: &str) -> Result<(ParameterSource, String), Says> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    let named = |source: ParameterSource| (source, rest.to_owned());
    match (word, rest) {
        ("method", "") => Ok((ParameterSource::Method, word.to_owned())),
        ("content-length", "") => Ok((ParameterSource::ContentLength, word.to_owned())),
        ("content-type", "") => Ok((ParameterSource::ContentType, word.to_owned())),
        ("path" | "segment" | "query" | "header" | "json", "") => {
            Err(Says::new(format!("\"{word}\" does not say which one")).help(format!("write \"{word}:…\"")))
        }
        ("path", name) => Ok(named(ParameterSource::PathCapture(name.to_owned()))),
        ("query", name) => Ok(named(ParameterSource::Query(name.to_owned()))),
        ("header", name) => Ok(named(ParameterSource::Header(header_name(name)?))),
        ("segment", at) => match at.parse::<u8>() {
            Ok(at) => Ok((ParameterSource::PathSegment(usize::from(at)), format!("segment {at}"))),
            Err(_) => Err(Says::new(format!("\"{at}\" is not a position in a path"))
                .help("0 is the first segment, like \"segment:1:category\"")),
        },
        ("json", pointer) if pointer.starts_with('/') => {
            Ok(named(ParameterSource::JsonField(pointer.to_owned())))
        }
        ("json", pointer) => Err(Says::new(format!("\"{pointer}\" is not a JSON pointer"))
            .help(format!("it starts with a slash: \"json:/{pointer}\""))),
        _ => Err(unknown(
            text,
            &[
                "method",
                "path:…",
                "segment:…",
                "query:…",
                "header:…",
                "content-length",
                "content-type",
                "json:…",
            ],
        )),
    }
}
