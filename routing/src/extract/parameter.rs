//! What drives cost, read from the head: numbers parsed in place, words hashed.

use crate::extract::RequestHead;
use crate::extract::matching::{Matcher, PathPart};
use crate::extract::percent::decoded;
use crate::settings::{ParameterKind, ParameterSource};
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::hash;

/// Larger numbers count as this: it still has a bucket of its own, and sums of squares stay finite in f32.
const MOST: f64 = 1e12;
/// Longest text that is taken for a number.
const LONGEST_NUMBER: usize = 64;
/// Longest media type that is put to lower case; none registered is near it.
const LONGEST_MEDIA_TYPE: usize = 128;

/// Where a parameter goes in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Number or category.
    pub(crate) kind: ParameterKind,
    /// Which of them; in range by construction.
    pub(crate) index: usize,
}

/// One parameter read from the head.
#[derive(Debug)]
pub(crate) struct ParameterReader {
    source: HeadSource,
    slot: Slot,
}

#[derive(Debug)]
enum HeadSource {
    Method,
    Path(PathPart),
    Query(String),
    Header(String),
    ContentLength,
    ContentType,
}

impl Slot {
    /// Puts a text: parsed or hashed. What is no number, or empty, stays absent.
    pub(crate) fn put_text(self, text: &[u8], query: &mut CostQuery) {
        match self.kind {
            ParameterKind::Number => {
                if let Some(number) = parse(text) {
                    self.put_number(number, query);
                }
            }
            ParameterKind::Category if !text.is_empty() => query.categories[self.index] = hash::bytes(text),
            ParameterKind::Category => {}
        }
    }

    /// Puts a number, as it is or as a category of its own; negative and not finite ones stay absent as numbers.
    pub(crate) fn put_number(self, number: f64, query: &mut CostQuery) {
        match self.kind {
            ParameterKind::Number if number.is_finite() && number >= 0.0 => {
                query.numbers[self.index] = number.min(MOST).abs() as f32;
            }
            ParameterKind::Number => {}
            ParameterKind::Category => {
                query.categories[self.index] = hash::bytes(&number.to_bits().to_be_bytes())
            }
        }
    }
}

impl ParameterReader {
    /// Compiles a source that lies in the head; `None` for others and for captures that the template does not have.
    pub(crate) fn compile(source: &ParameterSource, slot: Slot, matcher: &Matcher) -> Option<Self> {
        let source = match source {
            ParameterSource::Method => HeadSource::Method,
            ParameterSource::PathCapture(name) => HeadSource::Path(matcher.capture(name)?),
            ParameterSource::PathSegment(index) => HeadSource::Path(PathPart::Segment(*index)),
            ParameterSource::Query(name) => HeadSource::Query(name.clone()),
            ParameterSource::Header(name) => HeadSource::Header(name.clone()),
            ParameterSource::ContentLength => HeadSource::ContentLength,
            ParameterSource::ContentType => HeadSource::ContentType,
            ParameterSource::JsonField(_) => return None,
        };
        Some(Self { source, slot })
    }

    /// Puts the parameter into the query, if the head has it.
    pub(crate) fn read(&self, head: &impl RequestHead, query: &mut CostQuery) {
        let mut put = |text: &[u8]| self.slot.put_text(text.trim_ascii(), query);
        match &self.source {
            HeadSource::Method => put(head.method().as_bytes()),
            HeadSource::Path(part) => {
                if let Some(segment) = part.of(head.path()) {
                    decoded(segment, false, put);
                }
            }
            HeadSource::Query(name) => {
                if let Some(value) = head.query().and_then(|query| query_value(query, name)) {
                    decoded(value, true, put);
                }
            }
            HeadSource::Header(name) => head.header(name).into_iter().for_each(put),
            HeadSource::ContentLength => head.header("content-length").into_iter().for_each(put),
            HeadSource::ContentType => {
                if let Some(value) = head.header("content-type") {
                    media_type(value, put);
                }
            }
        }
    }
}

/// The first value of a query parameter as sent; names are compared as sent.
fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    let end_of_pair = |rest: &[u8]| rest.iter().position(|&byte| byte == b'&');
    let mut rest = query.as_bytes();
    loop {
        match rest.strip_prefix(name.as_bytes()) {
            Some([b'=', value @ ..]) => return Some(&value[..end_of_pair(value).unwrap_or(value.len())]),
            Some([] | [b'&', ..]) => return Some(&[]),
            _ => rest = &rest[end_of_pair(rest)? + 1..],
        }
    }
}

/// Type and subtype in lower case (they compare without case, RFC 9110 §8.3.1), without parameters.
fn media_type(value: &[u8], then: impl FnOnce(&[u8])) {
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    let value = value[..end].trim_ascii();
    // Looked at as a whole, not up to the first: that is one instruction for many bytes, and most have none.
    if !value.iter().fold(false, |upper, byte| upper | byte.is_ascii_uppercase()) {
        return then(value);
    }
    let mut buffer = [0u8; LONGEST_MEDIA_TYPE];
    match buffer.get_mut(..value.len()) {
        Some(lower) => {
            lower.copy_from_slice(value);
            lower.make_ascii_lowercase();
            then(lower);
        }
        None => then(value),
    }
}

fn parse(text: &[u8]) -> Option<f64> {
    if text.len() > LONGEST_NUMBER {
        return None;
    }
    // Most numbers are short and whole.
    if (1..=15).contains(&text.len()) {
        let (mut sum, mut whole) = (0u64, true);
        for digit in text.iter().map(|byte| byte.wrapping_sub(b'0')) {
            sum = sum * 10 + u64::from(digit);
            whole &= digit < 10;
        }
        if whole {
            return Some(sum as f64);
        }
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::head::PlainHead;
    use crate::settings::RouteMatch;
    use foretide_predictor::cost::query::ABSENT;
    use foretide_predictor::id::RouteId;
    use proptest::prelude::*;

    fn read(source: ParameterSource, kind: ParameterKind, head: &PlainHead) -> CostQuery {
        let rules = RouteMatch { path_template: Some("/a/{id}/{*rest}".to_owned()), ..RouteMatch::default() };
        let mut query = CostQuery::new(RouteId(0), 1, 2);
        if let Some(reader) =
            ParameterReader::compile(&source, Slot { kind, index: 0 }, &Matcher::compile(&rules))
        {
            reader.read(head, &mut query);
        }
        query
    }

    fn number(source: ParameterSource, head: &PlainHead) -> f32 {
        read(source, ParameterKind::Number, head).numbers[0]
    }

    fn category(source: ParameterSource, head: &PlainHead) -> u64 {
        read(source, ParameterKind::Category, head).categories[0]
    }

    #[test]
    fn numbers_come_from_every_part_of_the_head() {
        let head = PlainHead::new("GET", "/a/7/x%2Fy/9?limit=25&neg=-1&plus=+4&inf=inf&big=1e30&empty=&flag")
            .with_header("content-length", b"1024")
            .with_header("x-size", b" 1.5 ");
        let query = |name: &str| number(ParameterSource::Query(name.to_owned()), &head);
        assert_eq!(number(ParameterSource::PathCapture("id".to_owned()), &head), 7.0);
        assert_eq!(number(ParameterSource::PathSegment(3), &head), 9.0);
        assert_eq!(number(ParameterSource::ContentLength, &head), 1024.0);
        assert_eq!(number(ParameterSource::Header("x-size".to_owned()), &head), 1.5);
        assert_eq!(["limit", "plus", "big"].map(query), [25.0, 4.0, 1e12]);
        assert_eq!(["neg", "inf", "empty", "flag", "none"].map(query), [ABSENT; 5]);
        assert_eq!(number(ParameterSource::Method, &head), ABSENT);
        assert_eq!(number(ParameterSource::PathCapture("missing".to_owned()), &head), ABSENT);
        assert_eq!(number(ParameterSource::JsonField("/a".to_owned()), &head), ABSENT);
    }

    #[test]
    fn categories_are_hashes_of_decoded_words() {
        let head = PlainHead::new("GET", "/a/b%20c/d?q=a+b&empty=")
            .with_header("content-type", b"Text/HTML; charset=x");
        assert_eq!(category(ParameterSource::Method, &head), hash::bytes(b"GET"));
        assert_eq!(category(ParameterSource::PathCapture("id".to_owned()), &head), hash::bytes(b"b c"));
        assert_eq!(category(ParameterSource::PathCapture("rest".to_owned()), &head), hash::bytes(b"d"));
        assert_eq!(category(ParameterSource::Query("q".to_owned()), &head), hash::bytes(b"a b"));
        assert_eq!(category(ParameterSource::Query("empty".to_owned()), &head), 0);
        assert_eq!(category(ParameterSource::ContentType, &head), hash::bytes(b"text/html"));
        assert_eq!(category(ParameterSource::Header("x".to_owned()), &head), 0);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_usable_number_or_none(text in "\\PC{0,80}|[0-9eE.+-]{0,70}", query in ".{0,60}") {
            let head = PlainHead::new("GET", &format!("/a/{text}?{query}")).with_header("x", text.as_bytes());
            for source in [ParameterSource::Header("x".to_owned()), ParameterSource::PathSegment(1), ParameterSource::Query("a".to_owned())] {
                let found = number(source.clone(), &head);
                prop_assert!(found == ABSENT || (0.0..=1e12_f32).contains(&found), "{found}");
                let _either = category(source, &head);
            }
        }

        #[test]
        fn whole_numbers_are_read_exactly(value in 0u32..1 << 24) {
            let head = PlainHead::new("GET", "/").with_header("x", value.to_string().as_bytes());
            prop_assert_eq!(number(ParameterSource::Header("x".to_owned()), &head), value as f32);
        }
    }
}
