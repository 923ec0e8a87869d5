//! What a request says of where it would like to go, and what its client is told to say next time.
//!
//! The cookie of a pool with `affinity` is `NAME=` and sixteen hexadecimal digits, see [`foretide_routing::select::affinity`].
//! It is `HttpOnly` and `SameSite=Lax`, and `Secure` where it is set over TLS, unless the settings say otherwise. A client
//! that shows the right one already is told nothing.
//!
//! Known weakness: an answer that may be cached carries the cookie too; caches that ignore `Set-Cookie` are no concern of ours.

use std::fmt::Write as _;

use foretide_routing::select::affinity::token;
use foretide_routing::select::eligible::is_full;
use foretide_routing::select::groups::label;
use foretide_routing::select::narrow::Wish;
use foretide_routing::settings::choice::{AffinitySettings, ChoiceSettings, SameSite};
use foretide_routing::table::PoolTable;
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::engine::access_line::Flag;
use crate::engine::context::RequestContext;
use crate::engine::headers::is_secure;

/// What the head says.
pub(super) fn of(headers: &HeaderMap, choice: &ChoiceSettings) -> Wish {
    let instance = choice.affinity.as_ref().and_then(|affinity| shown(headers, &affinity.cookie));
    let wanted = choice.subset.as_ref().and_then(|subset| {
        let sent = headers.get(&subset.header).and_then(|value| value.to_str().ok());
        sent.map(str::trim).or(subset.default.as_deref()).map(label)
    });
    Wish { instance, label: wanted }
}

/// Why a request cannot be sent anywhere, seen before a choice; `None`: it can, as far as is known.
pub(super) fn refusal(pool: Option<&PoolTable>) -> Option<Flag> {
    match pool {
        Some(pool) if pool.settings.queue.is_none() && is_full(pool) => Some(Flag::Overflow),
        Some(pool) if !pool.instances.is_empty() => None,
        _ => Some(Flag::NoInstance),
    }
}

/// The token that a client shows, if it is one. A browser sends all its cookies in one line, over HTTP/2 perhaps in several.
fn shown(headers: &HeaderMap, name: &str) -> Option<u64> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies =
        lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    let (_, value) = cookies.find(|(known, _)| *known == name)?;
    let is_token = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_token { u64::from_str_radix(value, 16).ok() } else { None }
}

/// Tells the client where it was, unless it knows.
pub(super) fn remember(session: &Session, response: &mut ResponseHeader, ctx: &RequestContext) -> Result<()> {
    let Some((pool, address, wish)) = ctx.placed() else { return Ok(()) };
    let Some(affinity) = &pool.settings.choice.affinity else { return Ok(()) };
    let token = token(affinity, &pool.settings.name, address);
    if wish.instance == Some(token) {
        return Ok(());
    }
    match HeaderValue::from_str(&cookie(affinity, token, is_secure(session))) {
        Ok(value) => response.append_header(SET_COOKIE, value).map(drop),
        // Names and paths were checked when they were read.
        Err(_) => Ok(()),
    }
}

fn cookie(affinity: &AffinitySettings, token: u64, over_tls: bool) -> String {
    let same_site = match affinity.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    };
    let AffinitySettings { cookie, path, .. } = affinity;
    let mut text = format!("{cookie}={token:016x}; Path={path}; HttpOnly; SameSite={same_site}");
    if affinity.secure.unwrap_or(over_tls) {
        text.push_str("; Secure");
    }
    if let Some(ttl) = affinity.ttl {
        let _ = write!(text, "; Max-Age={}", ttl.as_secs());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_routing::settings::choice::SubsetSettings;
    use std::time::Duration;

    fn affinity() -> AffinitySettings {
        AffinitySettings {
            cookie: "at".to_owned(),
            ttl: None,
            path: "/".to_owned(),
            same_site: SameSite::Lax,
            secure: None,
            secret: None,
        }
    }

    #[test]
    fn only_a_whole_token_of_the_right_name_is_one() {
        let choice = ChoiceSettings { affinity: Some(affinity()), ..ChoiceSettings::default() };
        let read = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_static(line));
            }
            of(&headers, &choice).instance
        };
        assert_eq!(read(&["a=b; at=00000000000000ff;c=d"]), Some(255));
        assert_eq!(read(&["a=b", "at=ffffffffffffffff"]), Some(u64::MAX));
        for wrong in
            ["", "at", "at=", "at=ff", "bat=00000000000000ff", "at=+0000000000000ff", "at=00000000000000fg"]
        {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn cookies_are_kept_from_scripts_and_other_sites() {
        assert_eq!(cookie(&affinity(), 255, false), "at=00000000000000ff; Path=/; HttpOnly; SameSite=Lax");
        let told = AffinitySettings {
            ttl: Some(Duration::from_secs(60)),
            same_site: SameSite::Strict,
            ..affinity()
        };
        let text = cookie(&told, 255, true);
        assert!(text.ends_with("; HttpOnly; SameSite=Strict; Secure; Max-Age=60"), "{text}");
        assert!(!cookie(&AffinitySettings { secure: Some(false), ..affinity() }, 1, true).contains("Secure"));
    }

    #[test]
    fn a_header_or_its_default_says_which_subset() {
        let subset = SubsetSettings {
            header: "x-version".to_owned(),
            label: "version".to_owned(),
            default: Some("1".to_owned()),
            fallback: true,
        };
        let choice = ChoiceSettings { subset: Some(subset), ..ChoiceSettings::default() };
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers, &choice).label, Some(label("1")));
        headers.insert("x-version", HeaderValue::from_static("2"));
        assert_eq!(of(&headers, &choice).label, Some(label("2")));
    }
}
