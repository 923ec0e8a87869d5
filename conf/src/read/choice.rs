//! What narrows the choice among a pool's instances or bends it: weights, bounds, `limits`, `affinity`, `subset`, `locality`.

use std::time::Duration;

use foretide_routing::settings::Policy;
use foretide_routing::settings::choice::{
    AffinitySettings, ChoiceSettings, Endpoint, LocalitySettings, SameSite, SubsetSettings, Traits,
};

use crate::document::{Says, Section};
use crate::item::Item;

/// Above this a bound hardly ever binds.
const MOST_BALANCE_FACTOR: f64 = 100.0;
/// No browser keeps a cookie for longer.
const LONGEST_TTL: Duration = Duration::from_secs(400 * 86_400);
/// Envoy's: the own zone keeps everything until more than two in seven of its instances are out.
const OVERPROVISION_FACTOR: f64 = 1.4;

const SAME_SITE: [(&str, SameSite); 3] =
    [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];

const FALLBACK: [(&str, bool); 2] = [("any", true), ("none", false)];

pub(super) fn choice(section: &Section<'_>, policy: Policy, endpoints: &[Endpoint]) -> ChoiceSettings {
    let weighed = endpoints.iter().any(|endpoint| endpoint.weight != 1);
    if weighed
        && matches!(policy, Policy::Predictive | Policy::RoundRobin)
        && let Some(item) = section.item("endpoints")
    {
        item.warn(Says::new("has weights, which have no effect with this policy").help(
            "add `policy = \"weighted\"` or \"least-request\", or remove them: \"predictive\" measures how fast each one is",
        ));
    }
    let factor = section.item("hash_balance_factor");
    if let Some(item) = &factor
        && !matches!(policy, Policy::Ketama | Policy::Maglev)
    {
        item.warn(Says::new("has no effect with this policy").help("add `policy = \"maglev\"` or remove it"));
    }
    ChoiceSettings {
        hash_balance_factor: factor.and_then(|item| item.number(1.0..=MOST_BALANCE_FACTOR)),
        max_requests: limits(&section.section("limits")),
        affinity: affinity(&section.section("affinity")),
        subset: subset(&section.section("subset"), endpoints),
        locality: locality(&section.section("locality"), endpoints),
    }
}

fn limits(section: &Section<'_>) -> Option<u32> {
    let most = section.item("max_requests").and_then(|item| item.count(1..=1_000_000));
    section.close();
    most
}

fn affinity(section: &Section<'_>) -> Option<AffinitySettings> {
    if !section.is_written() {
        return None;
    }
    let cookie = section.required("cookie", "\"at\"");
    let name = cookie.as_ref().and_then(|item| token(item, "is no name for a cookie"));
    let path_item = section.item("path");
    let path = path_item.as_ref().and_then(|item| item.text()).unwrap_or("/");
    if let Some(item) = &path_item
        && !(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';'))
    {
        item.error(Says::new("is not a path").help("it starts with a slash, like \"/\" or \"/app\""));
    }
    let same_site = section.item("same_site").and_then(|item| item.choice(&SAME_SITE)).unwrap_or_default();
    let secure_item = section.item("secure");
    let secure = secure_item.as_ref().and_then(|item| item.flag());
    if let (Some(item), Some(false), SameSite::None) = (&secure_item, secure, same_site) {
        item.error(
            Says::new("browsers refuse a cookie for other sites that is not secure")
                .help("write `secure = true` or `same_site = \"lax\"`"),
        );
    }
    let ttl = section.item("ttl").and_then(|item| item.duration(Duration::from_secs(1)..=LONGEST_TTL));
    let secret = section.item("secret").and_then(|item| item.text()).map(str::to_owned);
    section.close();
    Some(AffinitySettings { cookie: name?, ttl, path: path.to_owned(), same_site, secure, secret })
}

fn subset(section: &Section<'_>, endpoints: &[Endpoint]) -> Option<SubsetSettings> {
    if !section.is_written() {
        return None;
    }
    let header = section.required("header", "\"x-version\"");
    let header = header.and_then(|item| token(&item, "is no name for a header"));
    let label_item = section.required("label", "\"version\"");
    let label = label_item.as_ref().and_then(|item| item.text());
    if let (Some(item), Some(label)) = (&label_item, label) {
        let carries = |traits: &Traits| traits.labels.contains_key(label);
        missing(item, endpoints, carries, "no endpoint carries this label", "labels = { version = \"2\" }");
    }
    let default = section.item("default").and_then(|item| item.text()).map(str::to_owned);
    let fallback = section.item("fallback").and_then(|item| item.choice(&FALLBACK)).unwrap_or(true);
    section.close();
    let (header, label) = (header?.to_ascii_lowercase(), label?.to_owned());
    Some(SubsetSettings { header, label, default, fallback })
}

fn locality(section: &Section<'_>, endpoints: &[Endpoint]) -> Option<LocalitySettings> {
    if !section.is_written() {
        return None;
    }
    let zone_item = section.required("zone", "\"eu-1a\"");
    let zone = zone_item.as_ref().and_then(|item| item.text());
    if let (Some(item), Some(zone)) = (&zone_item, zone) {
        let is_there = |traits: &Traits| traits.zone.as_deref() == Some(zone);
        missing(item, endpoints, is_there, "no endpoint is in this zone", &format!("zone = \"{zone}\""));
    }
    let factor = section.item("overprovision_factor").and_then(|item| item.number(1.0..=100.0));
    section.close();
    let overprovision_factor = factor.unwrap_or(OVERPROVISION_FACTOR);
    Some(LocalitySettings { zone: zone?.to_owned(), overprovision_factor })
}

fn missing(item: &Item<'_>, endpoints: &[Endpoint], is: impl Fn(&Traits) -> bool, says: &str, example: &str) {
    if !endpoints.iter().any(|endpoint| is(&endpoint.traits)) {
        let help = format!("write endpoints like {{ address = \"10.0.0.7:9000\", {example} }}");
        item.warn(Says::new(says).help(help));
    }
}

/// A name as RFC 9110 has them for headers, and RFC 6265 for cookies.
fn token(item: &Item<'_>, says: &str) -> Option<String> {
    let text = item.text()?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.bytes().all(fine) {
        item.error(Says::new(says).help("letters, digits, `-` and `_`"));
        return None;
    }
    Some(text.to_owned())
}
