//! Whether a route takes a request: host, path and method, all of which must hold.
//!
//! A path template fixes the position of each capture, so captures need not be remembered while matching: a parameter
//! that names one reads the segment at its position. Paths are compared as sent; percent-encoded letters do not match
//! their plain form (RFC 3986 §6.2.2.2 would allow either, and the producer decides what they mean).

use crate::extract::RequestHead;
use crate::settings::RouteMatch;

/// Conditions of a route, compiled.
#[derive(Debug)]
pub(crate) struct Matcher {
    host: Option<HostRule>,
    prefix: Option<String>,
    template: Option<Vec<TemplateSegment>>,
    methods: Vec<String>,
}

#[derive(Debug)]
enum HostRule {
    Exact(String),
    /// The suffix with its leading dot.
    Below(String),
}

#[derive(Debug, PartialEq)]
enum TemplateSegment {
    Literal(String),
    Capture(String),
    Rest(String),
}

/// Where a capture lies in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathPart {
    /// One segment, counted from 0.
    Segment(usize),
    /// All from this segment on.
    From(usize),
}

impl Matcher {
    /// Compiles checked conditions.
    pub(crate) fn compile(rules: &RouteMatch) -> Self {
        let host = rules.host.as_deref().map(|host| match host.strip_prefix('*') {
            Some(suffix) => HostRule::Below(suffix.to_owned()),
            None => HostRule::Exact(host.to_owned()),
        });
        Self {
            host,
            prefix: rules.path_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/').to_owned()),
            template: rules.path_template.as_deref().map(compile_template),
            methods: rules.methods.clone(),
        }
    }

    /// Whether all conditions hold.
    pub(crate) fn takes(&self, head: &impl RequestHead) -> bool {
        let path = head.path();
        (self.methods.is_empty() || self.methods.iter().any(|method| method == head.method()))
            && self.prefix.as_deref().is_none_or(|prefix| on_segment_border(prefix, path))
            && self.template.as_deref().is_none_or(|template| fits(template, path))
            && self.host.as_ref().is_none_or(|rule| head.host().is_some_and(|host| rule.takes(host)))
    }

    /// Where the template's capture of this name lies.
    pub(crate) fn capture(&self, name: &str) -> Option<PathPart> {
        let segments = self.template.as_deref()?.iter().enumerate();
        segments.into_iter().find_map(|(index, segment)| match segment {
            TemplateSegment::Capture(held) if held == name => Some(PathPart::Segment(index)),
            TemplateSegment::Rest(held) if held == name => Some(PathPart::From(index)),
            _ => None,
        })
    }
}

impl HostRule {
    /// Hosts compare without case (RFC 9110 §4.2.3); the dot of a full domain name does not count.
    fn takes(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        match self {
            Self::Exact(exact) => host.eq_ignore_ascii_case(exact.as_bytes()),
            Self::Below(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .is_some_and(|start| start > 0 && host[start..].eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }
}

impl PathPart {
    /// This part of a path; `None` if the path is too short or the part empty.
    pub(crate) fn of(self, path: &str) -> Option<&[u8]> {
        let path = path.as_bytes();
        let mut rest = path.strip_prefix(b"/").unwrap_or(path);
        let (Self::Segment(before) | Self::From(before)) = self;
        for _ in 0..before {
            rest = cut(rest).1?;
        }
        let part = if matches!(self, Self::Segment(_)) { cut(rest).0 } else { rest };
        (!part.is_empty()).then_some(part)
    }
}

fn compile_template(template: &str) -> Vec<TemplateSegment> {
    let segments = template.strip_prefix('/').unwrap_or(template).split('/');
    let compile = |segment: &str| match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) => match inner.strip_prefix('*') {
            Some(rest) => TemplateSegment::Rest(rest.to_owned()),
            None => TemplateSegment::Capture(inner.to_owned()),
        },
        None => TemplateSegment::Literal(segment.to_owned()),
    };
    segments.map(compile).collect()
}

/// `prefix` has no slash at its end; empty takes everything.
fn on_segment_border(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A capture takes one non-empty segment, `{*rest}` whatever is left, also nothing.
fn fits(template: &[TemplateSegment], path: &str) -> bool {
    let mut rest = path.as_bytes().strip_prefix(b"/");
    if rest.is_none() {
        return false;
    }
    for expected in template {
        let next = rest.map(cut);
        let fits = match (expected, next) {
            (TemplateSegment::Rest(_), _) => return true,
            (TemplateSegment::Literal(literal), Some((segment, _))) => segment == literal.as_bytes(),
            (TemplateSegment::Capture(_), Some((segment, _))) => !segment.is_empty(),
            (_, None) => false,
        };
        if !fits {
            return false;
        }
        rest = next.and_then(|(_, after)| after);
    }
    rest.is_none()
}

/// A path's first segment, and what comes after its slash. Bytes one by one: segments are too short for a searcher.
fn cut(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&byte| byte == b'/') {
        Some(end) => (&path[..end], Some(&path[end + 1..])),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::head::PlainHead;
    use proptest::prelude::*;

    fn takes(rules: RouteMatch, head: &PlainHead) -> bool {
        Matcher::compile(&rules).takes(head)
    }

    #[test]
    fn prefixes_end_on_segment_borders() {
        for (prefix, path, expected) in [
            ("/api", "/api", true),
            ("/api", "/api/x", true),
            ("/api", "/apis", false),
            ("/api/", "/api/x", true),
            ("/api/", "/api", true),
            ("/", "/anything", true),
            ("/", "/", true),
        ] {
            let rules = RouteMatch { path_prefix: Some(prefix.to_owned()), ..RouteMatch::default() };
            assert_eq!(takes(rules, &PlainHead::new("GET", path)), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn templates_fit_segment_by_segment() {
        for (template, path, expected) in [
            ("/users/{id}/orders", "/users/7/orders", true),
            ("/users/{id}/orders", "/users//orders", false),
            ("/users/{id}/orders", "/users/7/orders/", false),
            ("/users/{id}/orders", "/users/7", false),
            ("/files/{*rest}", "/files/a/b", true),
            ("/files/{*rest}", "/files/", true),
            ("/files/{*rest}", "/file/a", false),
            ("/", "/", true),
            ("/", "/x", false),
        ] {
            let rules = RouteMatch { path_template: Some(template.to_owned()), ..RouteMatch::default() };
            assert_eq!(takes(rules, &PlainHead::new("GET", path)), expected, "{template} {path}");
        }
    }

    #[test]
    fn captures_are_found_by_position() {
        let rules = RouteMatch { path_template: Some("/a/{id}/{*rest}".to_owned()), ..RouteMatch::default() };
        let matcher = Matcher::compile(&rules);
        let part = |name: &str| matcher.capture(name).and_then(|part| part.of("/a/7/b/c"));
        assert_eq!((part("id"), part("rest"), part("other")), (Some(&b"7"[..]), Some(&b"b/c"[..]), None));
        assert_eq!(PathPart::From(1).of("/a"), None);
    }

    #[test]
    fn hosts_and_methods_must_hold_too() {
        let head = |host: &str| PlainHead::new("GET", "/").with_host(host);
        let rules = |host: &str| RouteMatch { host: Some(host.to_owned()), ..RouteMatch::default() };
        assert!(takes(rules("example.org"), &head("Example.ORG.")));
        assert!(!takes(rules("example.org"), &head("a.example.org")));
        assert!(takes(rules("*.example.org"), &head("a.b.EXAMPLE.org")));
        assert!(!takes(rules("*.example.org"), &head("example.org")));
        assert!(!takes(rules("*.example.org"), &head(".example.org")));
        assert!(!takes(rules("*.example.org"), &head("badexample.org")));
        assert!(!takes(rules("example.org"), &PlainHead::new("GET", "/")));
        let methods =
            RouteMatch { methods: vec!["GET".to_owned(), "PUT".to_owned()], ..RouteMatch::default() };
        assert!(takes(methods.clone(), &PlainHead::new("PUT", "/")));
        assert!(!takes(methods, &PlainHead::new("POST", "/")));
    }

    proptest! {
        #[test]
        fn any_path_and_host_can_be_asked(path in ".{0,40}", host in ".{0,20}", template in "[/a-c{}*]{0,20}") {
            let rules = RouteMatch {
                host: Some("*.b".to_owned()),
                path_prefix: Some(template.clone()),
                path_template: Some(template),
                ..RouteMatch::default()
            };
            let matcher = Matcher::compile(&rules);
            let _either = matcher.takes(&PlainHead::new("GET", &path).with_host(&host));
            for index in 0..5 {
                let _either = (PathPart::Segment(index).of(&path), PathPart::From(index).of(&path));
            }
        }
    }
}
