//! The message as JSON, in one streaming pass: names as in the message or as protobuf's JSON form spells them, numbers as
//! numbers or in quotation marks.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::{Field, Found, Group};

/// Takes what it knows; `None`: this is no JSON object, or something follows it.
pub(crate) fn read(body: &str, found: &mut Found<'_>) -> Option<()> {
    let mut parser = serde_json::Deserializer::from_str(body);
    parser.deserialize_map(Message(found)).ok()?;
    parser.end().ok()
}

/// What a name stands for.
enum Name {
    Field(Field),
    Group(Group),
    Other,
}

struct Message<'f, 'a>(&'f mut Found<'a>);

impl<'de> Visitor<'de> for Message<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a load report")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key_seed(NameSeed)? {
            match name {
                Name::Field(field) => {
                    if let Some(number) = map.next_value_seed(Number)? {
                        self.0.field(field, number);
                    }
                }
                Name::Group(group) => map.next_value_seed(Members { group, found: &mut *self.0 })?,
                Name::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Name;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
        let group = || Group::named(name).map(Name::Group);
        Ok(Field::named(name).map(Name::Field).or_else(group).unwrap_or(Name::Other))
    }
}

/// Members of a group.
struct Members<'f, 'a> {
    group: Group,
    found: &'f mut Found<'a>,
}

impl<'de> DeserializeSeed<'de> for Members<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of numbers")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let wanted = self.found.wanted.filter(|(group, _)| *group == self.group);
        while let Some(is_wanted) = map.next_key_seed(Is(wanted.map(|(_, name)| name)))? {
            let number = map.next_value_seed(Number)?;
            if let (true, Some(number), Some((group, name))) = (is_wanted, number, wanted) {
                self.found.named(group, name, number);
            }
        }
        Ok(())
    }
}

/// Whether a name is this one.
struct Is<'a>(Option<&'a str>);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}

/// A number, also in quotation marks; `None`: a text that is none, or null.
struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = Option<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<f64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Number {
    type Value = Option<f64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Option<f64>, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Option<f64>, E> {
        Ok(Some(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Option<f64>, E> {
        Ok(Some(number as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<f64>, E> {
        Ok(text.parse().ok())
    }

    fn visit_unit<E: Error>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }
}
