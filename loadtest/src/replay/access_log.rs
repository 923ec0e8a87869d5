//! Requests from an access log: the common and combined formats of Apache and nginx, or JSON lines.

use http::uri::PathAndQuery;
use http::{Method, Uri};
use serde_json::{Map, Value};

use super::moment;

/// One request that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// When, Unix microseconds.
    pub at_us: i64,
    /// Method.
    pub method: Method,
    /// Path and query, starting with `/`.
    pub path_and_query: String,
    /// Who asked: the logged user, else the client's address; empty if neither.
    pub consumer: String,
}

const TIMES: [&str; 7] = ["start_time", "time", "ts", "timestamp", "@timestamp", "time_iso8601", "date"];
const METHODS: [&str; 3] = ["method", "request_method", "verb"];
const PATHS: [&str; 6] = ["path", "uri", "request_uri", "url", "target", "http_path"];
const CONSUMERS: [&str; 6] = ["consumer", "tenant", "user", "remote_user", "client", "remote_addr"];

/// A line like `host ident user [day/month/year:h:m:s zone] "GET /x HTTP/1.1" status size …`; what follows the
/// request is not needed. The error is a reason to be shown.
pub fn parse_common(line: &str) -> Result<LoggedRequest, String> {
    let (who, rest) = line.split_once('[').ok_or("no [time]")?;
    let (time, rest) = rest.split_once(']').ok_or("no end of [time]")?;
    let at_us = moment::parse(time).ok_or_else(|| format!("no moment: {time:?}"))?;
    let request = quoted(rest).ok_or("no \"request\"")?;
    let mut who = who.split_ascii_whitespace();
    let (host, user) = (who.next().unwrap_or("-"), who.nth(1).unwrap_or("-"));
    let consumer = [user, host].into_iter().find(|name| *name != "-").unwrap_or_default();
    let (method, path_and_query) = parse_request(request)?;
    Ok(LoggedRequest { at_us, method, path_and_query, consumer: consumer.into() })
}

/// A JSON object; see [`of_object`].
pub(super) fn parse_json(line: &str) -> Result<LoggedRequest, String> {
    of_object(&parse_object(line)?)
}

/// A line that is a JSON object. The error is a reason to be shown.
pub fn parse_object(line: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(line).map_err(|error| format!("not a JSON object: {error}"))
}

/// The request in an object with a moment, a path, and perhaps a method and a consumer, under one of their usual names.
/// The error is a reason to be shown.
pub fn of_object(object: &Map<String, Value>) -> Result<LoggedRequest, String> {
    let text = |names: &[&str]| names.iter().find_map(|name| object.get(*name)?.as_str());
    let at_us = TIMES.iter().find_map(|name| match object.get(*name)? {
        Value::String(text) => moment::parse(text),
        Value::Number(number) => moment::of_number(number.as_f64()?),
        _ => None,
    });
    let at_us = at_us.ok_or_else(|| format!("no moment under any of {}", TIMES.join(", ")))?;
    let (method, path_and_query) = match (text(&PATHS), text(&["request"])) {
        (Some(path), _) => {
            (text(&METHODS).unwrap_or("GET").parse().map_err(|_| "no method")?, path_of(path)?)
        }
        (None, Some(request)) => parse_request(request)?,
        (None, None) => return Err(format!("no path under any of {}", PATHS.join(", "))),
    };
    Ok(LoggedRequest { at_us, method, path_and_query, consumer: text(&CONSUMERS).unwrap_or_default().into() })
}

/// What stands between the first quotation marks, where `\"` is not an end.
fn quoted(text: &str) -> Option<&str> {
    let start = text.find('"')? + 1;
    let bytes = text.as_bytes();
    let end = (start..bytes.len()).find(|&at| bytes[at] == b'"' && bytes[at - 1] != b'\\')?;
    text.get(start..end)
}

/// Method and path of `GET /path HTTP/1.1`, or without the version. The error is a reason to be shown.
pub fn parse_request(request: &str) -> Result<(Method, String), String> {
    let mut words = request.split(' ');
    let method =
        words.next().and_then(|word| word.parse().ok()).ok_or_else(|| format!("no method: {request:?}"))?;
    let path = words.next().ok_or_else(|| format!("no path: {request:?}"))?;
    Ok((method, path_of(path)?))
}

/// Path and query of a path or an absolute URL.
fn path_of(target: &str) -> Result<String, String> {
    let wrong = || format!("no path: {target:?}");
    let uri: Uri = target.parse().map_err(|_| wrong())?;
    let path = uri.path_and_query().map(PathAndQuery::as_str).filter(|path| path.starts_with('/'));
    path.map(str::to_owned).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn combined_and_common_lines_are_read() {
        let line = r#"203.0.113.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /a/b?q=1 HTTP/1.0" 200 2326 "http://x/" "UA""#;
        let request = parse_common(line).unwrap();
        assert_eq!(request.at_us, 971_211_336_000_000);
        assert_eq!((request.method, request.path_and_query.as_str()), (Method::GET, "/a/b?q=1"));
        assert_eq!(request.consumer, "frank");
        let line = r#"203.0.113.9 - - [10/Oct/2000:13:55:36 -0700] "OPTIONS * HTTP/1.1" 200 -"#;
        assert!(parse_common(line).unwrap_err().contains("no path"));
        let line = r#"203.0.113.9 - - [10/Oct/2000:13:55:36 -0700] "HEAD http://h/x HTTP/1.1" 200 -"#;
        let request = parse_common(line).unwrap();
        assert_eq!((request.path_and_query.as_str(), request.consumer.as_str()), ("/x", "203.0.113.9"));
    }

    #[test]
    fn json_lines_of_several_makers_are_read() {
        let made = [
            r#"{"start_time":"2000-10-10T20:55:36Z","method":"GET","path":"/p?a=b","tenant":"t-1"}"#,
            r#"{"ts":971211336,"request":"GET /p?a=b HTTP/1.1","remote_user":"t-1"}"#,
            r#"{"time":971211336000,"uri":"https://example.org/p?a=b","user":"t-1","status":200}"#,
        ];
        for line in made {
            let request = parse_json(line).unwrap();
            assert_eq!(
                (request.at_us, request.path_and_query.as_str()),
                (971_211_336_000_000, "/p?a=b"),
                "{line}"
            );
            assert_eq!((request.method, request.consumer.as_str()), (Method::GET, "t-1"), "{line}");
        }
        for line in
            ["", "[]", "{}", r#"{"time":1}"#, r#"{"path":"/"}"#, r#"{"time":1,"path":"/","method":"G T"}"#]
        {
            assert!(parse_json(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_logged_is_read(path in "/[a-z0-9/._~%-]{0,20}(\\?[a-z]=[a-z0-9%]{0,9})?", user in "[a-z][a-z0-9]{0,8}") {
            let line = format!("10.0.0.1 - {user} [10/Oct/2000:13:55:36 +0000] \"GET {path} HTTP/1.1\" 200 5");
            let request = parse_common(&line).unwrap();
            prop_assert_eq!((request.path_and_query, request.consumer), (path.clone(), user.clone()));
            let line = serde_json::json!({"time": 5.5, "path": path, "consumer": user}).to_string();
            let request = parse_json(&line).unwrap();
            prop_assert_eq!((request.at_us, request.path_and_query, request.consumer), (5_500_000, path, user));
        }

        #[test]
        fn no_line_panics(line in "\\PC{0,80}", near in "[a\\[\\]\"\\\\ /:0-9-]{0,60}") {
            for line in [line, near] {
                let _ = (parse_common(&line), parse_json(&line));
            }
        }
    }
}
