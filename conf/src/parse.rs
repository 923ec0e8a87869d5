//! From text to settings: every finding of a file at once.
//!
//! The TOML parser goes on after a syntax error, so all of those come together; the meaning of the file is looked at
//! only if its tree is whole. Then every value is read by itself: a mistake never hides another, and whatever is
//! missing or wrong is replaced by its default so that checks across keys still run.
//!
//! Relative paths (`state_dir`, certificates, the access log) are taken from the directory of `file`, if it names
//! one; so a configuration means the same wherever the product is started.

use toml::de::DeTable;

use crate::document::{Document, Section};
use crate::finding::{Finding, Severity};
use crate::read;
use crate::settings::Settings;

/// Settings with warnings, or every error (and warning) at once, in order of place.
pub fn parse(file: &str, text: &str) -> Result<(Settings, Vec<Finding>), Vec<Finding>> {
    read_text(file, text, read::settings)
}

/// Reads a text with a function that always makes something, and gives that away only if no error was found.
pub(crate) fn read_text<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&Section<'_>) -> T,
) -> Result<(T, Vec<Finding>), Vec<Finding>> {
    let document = Document::new(file, text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    let value = document.report_syntax(&errors).then(|| read(&Section::root(&document, tree.get_ref())));
    let findings = document.into_findings();
    let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
    match value {
        Some(value) if !failed => Ok((value, findings)),
        _ => Err(findings),
    }
}
