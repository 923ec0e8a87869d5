//! Path templates (`/users/{id}/orders`, `{*rest}` last) and which paths one takes from another.

use crate::document::Says;

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Capture,
}

/// The paths that a route takes: segments, and whether more may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathShape {
    segments: Vec<Segment>,
    /// Anything may follow, also nothing: a prefix or `{*rest}`.
    open: bool,
}

fn segments_of(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

impl PathShape {
    /// Paths below a prefix; `/` or nothing takes all.
    pub(crate) fn prefix(prefix: Option<&str>) -> Self {
        let prefix = prefix.unwrap_or("/").trim_end_matches('/');
        let literals = segments_of(prefix).filter(|_| !prefix.is_empty());
        Self { segments: literals.map(|text| Segment::Literal(text.to_owned())).collect(), open: true }
    }

    /// Paths of a template; of one that [`captures`] refuses, some shape.
    pub(crate) fn template(template: &str) -> Self {
        let mut shape = Self { segments: Vec::new(), open: false };
        for segment in segments_of(template) {
            match segment.strip_prefix('{') {
                Some(name) if name.starts_with('*') => shape.open = true,
                Some(_) => shape.segments.push(Segment::Capture),
                None => shape.segments.push(Segment::Literal(segment.to_owned())),
            }
        }
        shape
    }

    /// Whether every path of `other` is one of this shape. May say no where yes would be right, never the reverse.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        // A capture takes no empty segment.
        let pair = |(ours, theirs): (&Segment, &Segment)| match ours {
            Segment::Capture => *theirs != Segment::Literal(String::new()),
            Segment::Literal(_) => ours == theirs,
        };
        let (own, others) = (self.segments.len(), other.segments.len());
        let enough = if self.open { own <= others } else { own == others && !other.open };
        enough && self.segments.iter().zip(&other.segments).all(pair)
    }
}

/// Names of a template's captures, or what is wrong with it.
pub(crate) fn captures(template: &str) -> Result<Vec<&str>, Says> {
    let wrong =
        |what: String| Says::new(what).help("write it like \"/users/{id}/orders\" or \"/files/{*rest}\"");
    if !template.starts_with('/') {
        return Err(wrong("does not start with `/`".into()));
    }
    let segments: Vec<&str> = segments_of(template).collect();
    let mut names: Vec<&str> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let Some(inner) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            if segment.contains(['{', '}', '*']) {
                return Err(wrong(format!("`{segment}`: a capture takes a whole segment")));
            }
            continue;
        };
        let name = inner.strip_prefix('*').unwrap_or(inner);
        if inner.starts_with('*') && at + 1 < segments.len() {
            return Err(wrong(format!("`{segment}` takes all that is left and must be the last segment")));
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(wrong(format!("`{segment}`: names of captures are letters, digits and `_`")));
        }
        if names.contains(&name) {
            return Err(wrong(format!("the capture `{name}` is there twice")));
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_shape_covers_a_narrower_one() {
        let cases = [
            (PathShape::prefix(None), PathShape::template("/a/{b}"), true),
            (PathShape::prefix(Some("/api")), PathShape::prefix(Some("/api/v1")), true),
            (PathShape::prefix(Some("/api")), PathShape::prefix(Some("/apis")), false),
            (PathShape::prefix(Some("/api/v1")), PathShape::prefix(Some("/api")), false),
            (PathShape::template("/u/{id}"), PathShape::template("/u/me"), true),
            (PathShape::template("/u/me"), PathShape::template("/u/{id}"), false),
            (PathShape::template("/u/{*rest}"), PathShape::template("/u/{id}/x"), true),
            (PathShape::template("/u/{*rest}"), PathShape::prefix(Some("/u")), true),
            (PathShape::template("/u/{id}"), PathShape::template("/u/"), false),
            (PathShape::template("/u/{id}"), PathShape::prefix(Some("/u/x")), false),
        ];
        for (wide, narrow, expected) in cases {
            assert_eq!(wide.covers(&narrow), expected, "{wide:?} {narrow:?}");
        }
    }

    #[test]
    fn faulty_templates_are_refused() {
        for faulty in ["users", "/a{b}", "/{*all}/b", "/{}", "/{a}/{a}", "/{a b}", "/x*"] {
            assert!(captures(faulty).is_err(), "{faulty}");
        }
        assert_eq!(captures("/u/{id}/{*rest}").ok(), Some(vec!["id", "rest"]));
    }
}
