//! One TOML text being read: it turns byte spans into places and collects findings.
//!
//! Why not serde: a serde pass stops at its first error, and this reader must report every mistake of a file at once.
//! So the parsed tree is asked key by key ([`Section`]); whatever is wrong becomes a finding and a default stands in,
//! and in the end each section reports the keys nobody asked for.

use std::cell::RefCell;
use std::ops::Range;

use toml::de::{DeTable, Error as SyntaxError};

use crate::finding::{Finding, Severity};
use crate::item::Item;

/// Beyond the first few, syntax errors only follow from each other; a broken binary file has one in every byte.
const MOST_SYNTAX_ERRORS: usize = 20;

/// A text, and what has been found wrong with it so far.
pub(crate) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
    findings: RefCell<Vec<Finding>>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        Self { file, text, line_starts, findings: RefCell::default() }
    }

    /// File as the user named it.
    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    /// Adds a finding about the bytes of `span`.
    pub(crate) fn report(&self, severity: Severity, span: Range<usize>, key: &str, says: Says) {
        let start = self.text.floor_char_boundary(span.start);
        let line = self.line_starts.partition_point(|&at| at <= start);
        let from = self.line_starts[line - 1];
        let rest = self.text[start..].lines().next().unwrap_or("");
        let wanted = span.end.saturating_sub(start).min(rest.len());
        let width = rest[..rest.floor_char_boundary(wanted)].chars().count().max(1);
        self.findings.borrow_mut().push(Finding {
            severity,
            file: self.file.to_owned(),
            line,
            column: self.text[from..start].chars().count() + 1,
            width,
            key: key.to_owned(),
            message: says.message,
            suggestion: says.suggestion,
        });
    }

    /// Adds what the TOML parser found. True if the tree is whole nevertheless (only duplicate keys).
    pub(crate) fn report_syntax(&self, errors: &[SyntaxError]) -> bool {
        let mut whole = true;
        for (at, error) in errors.iter().enumerate() {
            let duplicate = error.message().contains("duplicate key");
            whole &= duplicate;
            if at >= MOST_SYNTAX_ERRORS {
                continue;
            }
            let help = if duplicate {
                "remove one of the two; a table or key may be written only once"
            } else {
                "strings need quotes, lists brackets, tables a [header] on a line of its own; see https://toml.io"
            };
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let span = error.span().unwrap_or(0..0);
            self.report(Severity::Error, span, "", Says::new(message).help(help));
        }
        whole
    }

    /// All findings in order of place; those that differ in nothing are reported once.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by(|a, b| (a.line, a.column, b.severity).cmp(&(b.line, b.column, a.severity)));
        findings.dedup();
        findings
    }
}

/// What is wrong, and what to write instead.
pub(crate) struct Says {
    message: String,
    suggestion: Option<String>,
}

impl Says {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None }
    }

    pub(crate) fn help(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }
}

/// A table of the document, or one that is not written and gives only defaults.
pub(crate) struct Section<'a> {
    doc: &'a Document<'a>,
    path: String,
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(crate) fn root(doc: &'a Document<'a>, table: &'a DeTable<'a>) -> Self {
        Self::of(doc, String::new(), Some(table), 0..0)
    }

    pub(crate) fn of(
        doc: &'a Document<'a>,
        path: String,
        table: Option<&'a DeTable<'a>>,
        span: Range<usize>,
    ) -> Self {
        Self { doc, path, table, span, asked: RefCell::default() }
    }

    pub(crate) fn doc(&self) -> &'a Document<'a> {
        self.doc
    }

    /// Key path of this table; empty for the root.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the operator wrote it at all.
    pub(crate) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, if written. Asking makes the key a known one.
    pub(crate) fn item(&self, key: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(key);
        let (written, value) = self.table?.get_key_value(key)?;
        Some(Item::new(self.doc, self.key_path(key), written.span(), value))
    }

    /// The value of a key that must be there; a finding if it is not.
    pub(crate) fn required(&self, key: &'static str, example: &str) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            let help = format!("add `{key} = {example}`");
            self.doc.report(
                Severity::Error,
                self.span.clone(),
                &self.key_path(key),
                Says::new("is missing").help(help),
            );
        }
        item
    }

    /// The table under a key; an empty one stands in for what is missing or not a table.
    pub(crate) fn section(&self, key: &'static str) -> Section<'a> {
        self.item(key)
            .and_then(|item| item.section())
            .unwrap_or_else(|| Section::of(self.doc, self.key_path(key), None, self.span.clone()))
    }

    /// The tables under `[[key]]`.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        item.list().iter().filter_map(Item::section).collect()
    }

    /// Everything in a table whose keys are names that the operator chose.
    pub(crate) fn named(&self) -> Vec<(String, Item<'a>)> {
        let entries = self.table.into_iter().flat_map(|table| table.iter());
        let item = |name: &str, span, value| Item::new(self.doc, self.key_path(name), span, value);
        entries
            .map(|(name, value)| (name.get_ref().to_string(), item(name.get_ref(), name.span(), value)))
            .collect()
    }

    /// A finding about the table as a whole, shown at its header.
    pub(crate) fn error(&self, says: Says) {
        self.doc.report(Severity::Error, self.span.clone(), &self.path, says);
    }

    /// A warning about the table as a whole, shown at its header.
    pub(crate) fn warn(&self, says: Says) {
        self.doc.report(Severity::Warning, self.span.clone(), &self.path, says);
    }

    /// Reports the keys that nobody asked for. To be called when everything has been asked.
    pub(crate) fn close(&self) {
        let asked = self.asked.borrow();
        for (name, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            if asked.iter().any(|key| *key == name.get_ref()) {
                continue;
            }
            let help = match closest(name.get_ref(), asked.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("keys known here: {}", asked.join(", ")),
            };
            self.doc.report(
                Severity::Error,
                name.span(),
                &self.key_path(name.get_ref()),
                Says::new("is not a known key").help(help),
            );
        }
    }
}

/// The option that a misspelt word most likely meant, if any is near: edits ≤ a third of its length, swaps count one.
pub(crate) fn closest<'o>(word: &str, options: impl Iterator<Item = &'o str>) -> Option<&'o str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    // Long words are no names; measuring them would cost quadratic time.
    if word.len() > 64 {
        return None;
    }
    let edits = |option: &str| strsim::damerau_levenshtein(&word, &option.replace('-', "_"));
    let near = options.map(|option| (edits(option), option)).min_by_key(|&(edits, _)| edits)?;
    (near.0 <= (word.chars().count() / 3).max(1)).then_some(near.1)
}
