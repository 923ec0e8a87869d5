//! Fields of a JSON body by pointer (RFC 6901), read in one streaming pass.
//!
//! All pointers of a route go down the document together: a bit per pointer says which still match on this path, and
//! where none does the value is skipped. Depth is that of the longest pointer; skipping needs no recursion. What was
//! read before a syntax error or the end of a cut body stays: the first kilobytes of a prompt are better than nothing.
//!
//! Nothing is built in memory but the parser's scratch space for strings with escapes, at most the body's limit. When
//! a name comes twice in an object the last one counts, as with most parsers.

use crate::extract::parameter::Slot;
use crate::settings::ParameterKind;
use foretide_predictor::cost::query::CostQuery;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Pointers with more steps are not followed: bounds recursion.
const MOST_STEPS: usize = 32;

/// The fields a route wants. At most as many as a query has slots, so 16 bits are enough for a set of them.
#[derive(Debug, Default)]
pub(crate) struct BodyReader {
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    steps: Vec<String>,
    slot: Slot,
}

impl BodyReader {
    /// Adds a field; a pointer that is none or too long is never found.
    pub(crate) fn add(&mut self, pointer: &str, slot: Slot) {
        let mut steps = pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
        let rooted = steps.next().is_some_and(|root| root.is_empty());
        let steps: Vec<String> = steps.collect();
        if rooted && steps.len() <= MOST_STEPS && self.fields.len() < u16::BITS as usize {
            self.fields.push(Field { steps, slot });
        }
    }

    /// Whether no field is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Puts what the body has into the query.
    pub(crate) fn read(&self, body: &[u8], query: &mut CostQuery) {
        let all = self.fields.iter().enumerate().fold(0, |set, (index, _)| set | 1 << index);
        if all != 0 {
            let mut parser = serde_json::Deserializer::from_slice(body);
            let _kept_up_to_the_error =
                Walk { fields: &self.fields, set: all, depth: 0, query }.deserialize(&mut parser);
        }
    }
}

/// One value: the fields in `set` have matched all steps down to `depth`.
struct Walk<'a> {
    fields: &'a [Field],
    set: u16,
    depth: usize,
    query: &'a mut CostQuery,
}

impl Walk<'_> {
    fn members(&self) -> impl Iterator<Item = (u16, &Field)> {
        let set = self.set;
        self.fields
            .iter()
            .enumerate()
            .map(|(index, field)| (1 << index, field))
            .filter(move |(bit, _)| set & bit != 0)
    }

    /// Fields whose next step is this name.
    fn below(&self, name: &str) -> u16 {
        let matches = |field: &Field| field.steps.get(self.depth).is_some_and(|step| step == name);
        self.members().filter(|(_, field)| matches(field)).fold(0, |set, (bit, _)| set | bit)
    }

    /// Fields whose next step is this position.
    fn at(&self, position: usize) -> u16 {
        let is_position = |step: &String| step.parse() == Ok(position);
        let matches = |field: &Field| field.steps.get(self.depth).is_some_and(is_position);
        self.members().filter(|(_, field)| matches(field)).fold(0, |set, (bit, _)| set | bit)
    }

    /// Puts a value for the fields that end here.
    fn put(&mut self, put: impl Fn(Slot, &mut CostQuery)) {
        for (index, field) in self.fields.iter().enumerate() {
            if self.set & 1 << index != 0 && field.steps.len() == self.depth {
                put(field.slot, self.query);
            }
        }
    }

    fn child(&mut self, set: u16) -> Walk<'_> {
        Walk { fields: self.fields, set, depth: self.depth + 1, query: self.query }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.set == 0 {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_ignored| ());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.put(|slot, query| slot.put_text(word, query));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        self.put(|slot, query| slot.put_number(value, query));
        Ok(())
    }

    /// A string is its length in characters if a number is wanted.
    fn visit_str<E: Error>(mut self, value: &str) -> Result<(), E> {
        self.put(|slot, query| match slot.kind {
            ParameterKind::Number => slot.put_number(value.chars().count() as f64, query),
            ParameterKind::Category => slot.put_text(value.as_bytes(), query),
        });
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(set) = map.next_key_seed(Key(&self))? {
            map.next_value_seed(self.child(set))?;
        }
        Ok(())
    }

    /// A list is its length if a number is wanted.
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let mut length = 0;
        loop {
            let set = self.at(length);
            if list.next_element_seed(self.child(set))?.is_none() {
                break;
            }
            length += 1;
        }
        self.put(|slot, query| match slot.kind {
            ParameterKind::Number => slot.put_number(length as f64, query),
            ParameterKind::Category => {}
        });
        Ok(())
    }
}

/// Reads a member's name as the set of fields that go on below it.
struct Key<'a, 'b>(&'a Walk<'b>);

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = u16;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u16, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = u16;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<u16, E> {
        Ok(self.0.below(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_predictor::cost::query::ABSENT;
    use foretide_predictor::hash;
    use foretide_predictor::id::RouteId;
    use proptest::prelude::*;

    fn read(pointers: &[(&str, ParameterKind)], body: &[u8]) -> CostQuery {
        let mut reader = BodyReader::default();
        for (index, &(pointer, kind)) in pointers.iter().enumerate() {
            reader.add(pointer, Slot { kind, index });
        }
        let mut query = CostQuery::new(RouteId(0), 1, 2);
        reader.read(body, &mut query);
        query
    }

    fn number(pointer: &str, body: &str) -> f32 {
        read(&[(pointer, ParameterKind::Number)], body.as_bytes()).numbers[0]
    }

    const BODY: &str = r#"{"n": 5, "neg": -1, "text": "h\u00e9llo", "list": [1, {"deep": 7}, []], "a/b": {"~": 3},
        "none": null, "yes": true, "big": 1e300, "object": {"x": 1}}"#;

    #[test]
    fn pointers_find_numbers_lengths_and_nothing_else() {
        for (pointer, expected) in [
            ("/n", 5.0),
            ("/text", 5.0),
            ("/list", 3.0),
            ("/list/0", 1.0),
            ("/list/1/deep", 7.0),
            ("/list/2", 0.0),
            ("/a~1b/~0", 3.0),
            ("/big", 1e12),
            ("/neg", ABSENT),
            ("/none", ABSENT),
            ("/yes", ABSENT),
            ("/object", ABSENT),
            ("/object/x/y", ABSENT),
            ("/missing", ABSENT),
            ("n", ABSENT),
        ] {
            assert_eq!(number(pointer, BODY), expected, "{pointer}");
        }
        assert_eq!(number("", "[1, 2]"), 2.0, "the empty pointer is the whole document");
    }

    #[test]
    fn several_fields_are_read_in_one_pass() {
        use ParameterKind::{Category, Number};
        let found = read(
            &[("/n", Number), ("/text", Category), ("/yes", Category), ("/list", Number)],
            BODY.as_bytes(),
        );
        assert_eq!((found.numbers[0], found.numbers[3]), (5.0, 3.0));
        assert_eq!(found.categories[1..3], [hash::bytes("héllo".as_bytes()), hash::bytes(b"true")]);
    }

    #[test]
    fn a_cut_body_keeps_what_came_before() {
        assert_eq!(number("/n", r#"{"n": 5, "list": [1, 2"#), 5.0);
        assert_eq!(number("/list", r#"{"n": 5, "list": [1, 2"#), ABSENT);
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = "[".repeat(200_000);
        assert_eq!(number("/0/0", &deep), ABSENT);
        assert_eq!(number(&"/0".repeat(1_000), &deep), ABSENT);
        assert_eq!(number("/n", &format!(r#"{{"skip": {deep}"#)), ABSENT);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300), pointer in "(/[a-c0-2~]{0,3}){0,4}") {
            let _any = read(&[(&pointer, ParameterKind::Number), ("", ParameterKind::Category)], &bytes);
        }

        #[test]
        fn almost_json_can_be_read(body in r#"\{?(["a:,{}\[\]\\1-]|"a":|null|\[){0,80}"#) {
            let found = read(&[("/a", ParameterKind::Number), ("/a/0/a", ParameterKind::Number)], body.as_bytes());
            prop_assert!(found.numbers.iter().all(|&number| number == ABSENT || (0.0..=1e12_f32).contains(&number)));
        }
    }
}
