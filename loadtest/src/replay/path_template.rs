//! Paths with numbers drawn anew for each request: `/search?rows={100..5000}`.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

/// A path in pieces: text, and ranges of whole numbers, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    pieces: Vec<PathPiece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathPiece {
    Text(String),
    Number(u64, u64),
}

impl PathTemplate {
    /// Reads a template; the error is a reason to be shown.
    ///
    /// # Errors
    /// No leading `/`, an open brace without its range, a range that is empty, or what is no path of a URL.
    pub fn parse(template: &str) -> Result<Self, String> {
        if !template.starts_with('/') {
            return Err(format!("{template:?} does not start with /"));
        }
        let mut pieces = Vec::new();
        let mut left = template;
        while let Some((text, rest)) = left.split_once('{') {
            let wrong = || format!("{template:?}: a range is written {{100..5000}}");
            let (range, rest) = rest.split_once('}').ok_or_else(wrong)?;
            let (low, high) = range.split_once("..").ok_or_else(wrong)?;
            let (low, high) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
            if low > high {
                return Err(wrong());
            }
            pieces.push(PathPiece::Text(text.into()));
            pieces.push(PathPiece::Number(low, high));
            left = rest;
        }
        pieces.push(PathPiece::Text(left.into()));
        let example: String = pieces.iter().map(|piece| piece.text(|low, _| low)).collect();
        match example.parse::<http::uri::PathAndQuery>() {
            Ok(_) => Ok(Self { pieces }),
            Err(error) => Err(format!("{template:?}: {error}")),
        }
    }

    /// A path with numbers drawn uniformly.
    pub(super) fn path(&self, rng: &mut Pcg64Mcg) -> String {
        self.pieces.iter().map(|piece| piece.text(|low, high| rng.random_range(low..=high))).collect()
    }
}

impl PathPiece {
    fn text(&self, number: impl FnOnce(u64, u64) -> u64) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(low, high) => number(*low, *high).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream;

    #[test]
    fn numbers_stay_in_their_range() {
        let template = PathTemplate::parse("/a/{3..5}?n={7..7}&x=y").unwrap();
        let mut rng = stream::named(1, "test");
        let paths: Vec<String> = (0..50).map(|_| template.path(&mut rng)).collect();
        for end in ["/a/3?n=7&x=y", "/a/4?n=7&x=y", "/a/5?n=7&x=y"] {
            assert!(paths.iter().any(|path| path == end), "{end} in {paths:?}");
        }
        assert!(paths.iter().all(|path| ('3'..='5').contains(&path.chars().nth(3).unwrap())));
    }

    #[test]
    fn wrong_templates_are_refused() {
        for template in ["", "x", "/a{", "/a{1}", "/{5..1}", "/{a..b}", "/{-1..2}", "/a b"] {
            assert!(PathTemplate::parse(template).is_err(), "{template}");
        }
    }

    proptest! {
        #[test]
        fn no_template_panics(template in "/[a-z{}.0-9?=]{0,30}") {
            if let Ok(parsed) = PathTemplate::parse(&template) {
                prop_assert!(parsed.path(&mut stream::named(1, "test")).starts_with('/'));
            }
        }
    }
}
