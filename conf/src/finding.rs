//! What is wrong with a configuration, where, and what to write instead.
//!
//! A finding stands for itself: [`Finding`]'s `Display` needs no source text. [`render`] adds the source line and
//! underlines the place, as compilers do. Values of keys that look like secrets are masked in the quoted line, since
//! findings end up in logs and terminals.

use std::fmt;

use serde::Serialize;

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Runs, but probably not as meant.
    Warning,
    /// Cannot run.
    Error,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// File as the user named it.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Characters to underline in that line, at least 1.
    pub width: usize,
    /// Key path, e.g. `pools.api.scaling.floor`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub suggestion: Option<String>,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl Finding {
    /// `error: key: message`, or without the key where there is none (syntax).
    fn headline(&self) -> String {
        match self.key.as_str() {
            "" => format!("{}: {}", self.severity, self.message),
            key => format!("{}: `{key}`: {}", self.severity, self.message),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  --> {}:{}:{}", self.headline(), self.file, self.line, self.column)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "\n  = help: {suggestion}"),
            None => Ok(()),
        }
    }
}

/// All findings with the source lines they are about, and a closing count. Plain text; empty without findings.
pub fn render(findings: &[Finding], text: &str) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let blocks = findings.iter().map(|finding| block(finding, &lines));
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let counts = [count(errors, "error"), count(findings.len() - errors, "warning")];
    let total: Vec<String> = counts.into_iter().flatten().collect();
    format!("{}{}\n", blocks.collect::<String>(), total.join(", "))
}

fn count(of: usize, what: &str) -> Option<String> {
    (of > 0).then(|| format!("{of} {what}{}", if of == 1 { "" } else { "s" }))
}

fn block(finding: &Finding, lines: &[&str]) -> String {
    let number = finding.line.to_string();
    let gutter = " ".repeat(number.len());
    let mut out = format!(
        "{}\n{gutter} --> {}:{}:{}\n",
        finding.headline(),
        finding.file,
        finding.line,
        finding.column
    );
    if let Some(line) = lines.get(finding.line.saturating_sub(1)) {
        let quoted = masked(line);
        // Tabs stay tabs below a tab, so that the underline lines up whatever their width.
        let lead: String =
            line.chars().take(finding.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let marks = "^".repeat(finding.width.max(1));
        out += &format!("{gutter} |\n{number} | {quoted}\n{gutter} | {lead}{marks}\n");
    }
    if let Some(suggestion) = &finding.suggestion {
        out += &format!("{gutter} = help: {suggestion}\n");
    }
    out + "\n"
}

/// Whether a key, variable or option of this name usually holds a secret.
pub(crate) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let words = ["password", "passwd", "secret", "token", "api_key", "apikey", "private_key", "credential"];
    words.iter().any(|word| name.contains(word))
}

/// The line with secrets replaced, one `*` for each character: whatever follows the `=` of a secret-looking key, and
/// the `user:password` of an address. Linear in the line's length.
fn masked(line: &str) -> String {
    let named = |at: usize| line[..at].trim_end().rsplit([' ', ',', '{', '"', '\'']).next().unwrap_or("");
    let secret_from = line.match_indices('=').find(|&(at, _)| names_a_secret(named(at)));
    let (open, secret) = line.split_at(secret_from.map_or(line.len(), |(at, _)| at + 1));
    let stars =
        |text: &str| text.chars().map(|c| if c.is_whitespace() { c } else { '*' }).collect::<String>();
    let without_login = |word: &str| match word.rsplit_once('@') {
        Some((login, host)) if login.contains(':') => format!("{}@{host}", stars(login)),
        _ => word.to_owned(),
    };
    open.split_inclusive(['"', '\'', '/', ' ']).map(without_login).chain([stars(secret)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize, width: usize) -> Finding {
        Finding {
            severity: Severity::Error,
            file: "a.toml".into(),
            line,
            column,
            width,
            key: "pools.x".into(),
            message: "bad".into(),
            suggestion: Some("write good".into()),
        }
    }

    #[test]
    fn the_place_is_underlined_also_after_wide_characters_and_tabs() {
        let text = render(&[at(1, 4, 2)], "\tü bad");
        assert!(text.contains("1 | \tü bad\n  | \t  ^^\n"), "{text}");
    }

    #[test]
    fn secrets_are_not_quoted() {
        let text = render(&[at(1, 1, 3)], "DB_PASSWORD = \"hunter2\"");
        assert!(!text.contains("hunter2"), "{text}");
        let text = render(&[at(1, 1, 3)], "endpoints = [\"http://me:hunter2@host:80\", \"me:hunter2@h:1\"]");
        assert!(!text.contains("hunter2") && text.contains("@host:80"), "{text}");
    }

    #[test]
    fn a_place_beyond_the_text_is_still_reported() {
        assert!(render(&[at(9, 1, 1)], "x").contains("a.toml:9:1"));
    }
}
