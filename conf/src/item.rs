//! One value of the document, read as what the format expects of it. Whatever is wrong becomes a finding.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use foretide_predictor::time::Timestamp;
use toml::Spanned;
use toml::de::DeValue;

use crate::document::{Document, Says, Section, closest};
use crate::finding::Severity;

/// A written value with its key path.
pub(crate) struct Item<'a> {
    doc: &'a Document<'a>,
    path: String,
    key_span: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    pub(crate) fn new(
        doc: &'a Document<'a>,
        path: String,
        key_span: Range<usize>,
        value: &'a Spanned<DeValue<'a>>,
    ) -> Self {
        Self { doc, path, key_span, value }
    }

    /// An error about the value.
    pub(crate) fn error(&self, says: Says) {
        self.doc.report(Severity::Error, self.place(), &self.path, says);
    }

    /// A warning about the value.
    pub(crate) fn warn(&self, says: Says) {
        self.doc.report(Severity::Warning, self.place(), &self.path, says);
    }

    /// A warning about the value that points at the key, so that the value itself need not be shown.
    pub(crate) fn warn_at_key(&self, says: Says) {
        self.doc.report(Severity::Warning, self.key_span.clone(), &self.path, says);
    }

    /// Tables are best pointed at by their header, all else by the value itself.
    fn place(&self) -> Range<usize> {
        if self.value.get_ref().is_table() { self.key_span.clone() } else { self.value.span() }
    }

    fn wrong_type(&self, wanted: &str, example: &str) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(Says::new(format!("is {found}, not {wanted}")).help(format!("write it like {example}")));
    }

    /// The string, whatever it says; no finding if it is something else.
    pub(crate) fn as_str(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    /// Whether the value is a table.
    pub(crate) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// A string that is not empty.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.as_str();
        match text {
            None => self.wrong_type("a string", "\"text\""),
            Some("") => self.error(Says::new("is empty").help("write a value or remove the key")),
            Some(_) => {}
        }
        text.filter(|text| !text.is_empty())
    }

    /// True or false.
    pub(crate) fn flag(&self) -> Option<bool> {
        let flag = self.value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type("a boolean", "`true` or `false`");
        }
        flag
    }

    /// An integer in a range.
    pub(crate) fn whole(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(digits) = self.value.get_ref().as_integer() else {
            self.wrong_type("an integer", &range.start().to_string());
            return None;
        };
        let value = i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX);
        let value = u64::try_from(value).ok().filter(|value| range.contains(value));
        if value.is_none() {
            self.out_of(range.start(), range.end());
        }
        value
    }

    /// An integer in a range that fits 32 bits.
    pub(crate) fn count(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.whole(u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(value).ok()
    }

    /// A number, integer or float, in a range. Never NaN.
    pub(crate) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let value = match self.value.get_ref() {
            DeValue::Integer(digits) => {
                i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX) as f64
            }
            DeValue::Float(digits) => digits.as_str().parse().unwrap_or(f64::NAN),
            _ => {
                self.wrong_type("a number", &range.end().to_string());
                return None;
            }
        };
        let value = Some(value).filter(|value| range.contains(value));
        if value.is_none() {
            self.out_of(range.start(), range.end());
        }
        value
    }

    /// A span of time such as `"250ms"`, `"5m"`, `"1d"`, in a range.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = match self.value.get_ref() {
            DeValue::String(text) => humantime::parse_duration(text).ok(),
            DeValue::Integer(digits) => {
                let help = format!("durations carry their unit: write \"{digits}s\" or \"{digits}ms\"");
                self.error(Says::new("is a number without a unit, not a duration").help(help));
                return None;
            }
            _ => None,
        };
        let Some(value) = value else {
            self.error(
                Says::new("is not a duration")
                    .help("write a number and a unit, like \"250ms\", \"5m\", \"1d\""),
            );
            return None;
        };
        let value = Some(value).filter(|value| range.contains(value));
        if value.is_none() {
            self.out_of(span(*range.start()), span(*range.end()));
        }
        value
    }

    fn out_of(&self, from: impl Display, to: impl Display) {
        self.error(
            Says::new(format!("is out of range: from {from} to {to}"))
                .help("choose a value in the range or remove the key to get the default"),
        );
    }

    /// A date and time with an offset from UTC, not before 1970.
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        let written = match self.value.get_ref() {
            DeValue::Datetime(moment) => moment.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => String::new(),
        };
        let us =
            written.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_microsecond()).ok());
        if us.is_none() {
            self.error(
                Says::new("is not a date and time with an offset, from 1970 on")
                    .help("write it like 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00"),
            );
        }
        us.map(Timestamp::from_us)
    }

    /// A number in a range; `None` for the word that says there is none, and after an error.
    pub(crate) fn number_or(&self, word: &str, range: RangeInclusive<f64>) -> Option<f64> {
        match self.value.get_ref() {
            DeValue::String(text) if text == word => None,
            DeValue::String(_) => {
                self.wrong_type(
                    &format!("\"{word}\" or a number"),
                    &format!("\"{word}\" or {}", range.start()),
                );
                None
            }
            _ => self.number(range),
        }
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let word = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            let names = choices.iter().map(|(name, _)| *name);
            let help = match closest(word, names.clone()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("one of \"{}\"", names.collect::<Vec<_>>().join("\", \"")),
            };
            self.error(Says::new(format!("\"{word}\" is not a known choice")).help(help));
        }
        found
    }

    /// `ip:port`.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        let address = text.parse();
        if address.is_err() {
            self.error(
                Says::new(format!("\"{text}\" is not an IP address with a port"))
                    .help("write it like \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::1]:8080\""),
            );
        }
        address.ok()
    }

    /// A path; a relative one is taken from the directory of the configuration file.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        Some(Path::new(self.doc.file()).parent().unwrap_or(Path::new("")).join(text))
    }

    /// The values of a list.
    pub(crate) fn list(&self) -> Vec<Item<'a>> {
        let DeValue::Array(array) = self.value.get_ref() else {
            self.wrong_type("a list", "[…], or as one [[header]] per entry for tables");
            return Vec::new();
        };
        let item = |(at, value): (usize, &'a Spanned<DeValue<'a>>)| {
            Item::new(self.doc, format!("{}[{at}]", self.path), value.span(), value)
        };
        array.iter().enumerate().map(item).collect()
    }

    /// The table, to be read on.
    pub(crate) fn section(&self) -> Option<Section<'a>> {
        let table = self.value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type("a table", "a [header] with keys below it");
        }
        table.map(|table| Section::of(self.doc, self.path.clone(), Some(table), self.key_span.clone()))
    }
}

/// A span of time as one would write it: `1d 12h`, `500ms`.
pub(crate) fn span(span: Duration) -> String {
    let units =
        [("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];
    let small = [("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let mut left = span.as_nanos();
    let mut parts = Vec::new();
    for (unit, ns) in units.into_iter().chain(small) {
        if left >= ns {
            parts.push(format!("{}{unit}", left / ns));
            left %= ns;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_span_is_read_back_as_it_was_written(ms in 0..u64::MAX / 2_000_000) {
            let written = span(Duration::from_millis(ms));
            prop_assert_eq!(humantime::parse_duration(&written).unwrap(), Duration::from_millis(ms));
        }
    }
}
