//! The configuration as written, without its secrets.
//!
//! A value is masked when its key, or a key above it, looks secret. What looks so is judged by the name alone: better a
//! harmless file name hidden than a password shown.
//!
//! Known weakness: a secret under an innocent name (an argument of a command, a password in a URL) is not recognised.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Parts of a key's name, in lower case, that make its value a secret.
const SECRET_NAMES: [&str; 5] = ["key", "token", "password", "secret", "credential"];

/// Stands for a secret.
const MASK: &str = "\"***\"";

/// `text` with every secret string replaced; `None` if it is not TOML, and then nothing of it should be shown.
pub(super) fn mask(text: &str) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let mut secrets = Vec::new();
    collect_table(table.get_ref(), false, &mut secrets);
    secrets.sort_by_key(|span| span.start);
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for span in secrets {
        masked.push_str(text.get(done..span.start)?);
        masked.push_str(MASK);
        done = span.end;
    }
    masked.push_str(text.get(done..)?);
    Some(masked)
}

fn collect_table(table: &DeTable<'_>, secret: bool, found: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let secret = secret || looks_secret(key.get_ref());
        collect_value(value.get_ref(), value.span(), secret, found);
    }
}

fn collect_value(value: &DeValue<'_>, span: Range<usize>, secret: bool, found: &mut Vec<Range<usize>>) {
    match value {
        DeValue::String(_) if secret => found.push(span),
        DeValue::Array(items) => {
            for item in items.iter() {
                collect_value(item.get_ref(), item.span(), secret, found);
            }
        }
        DeValue::Table(table) => collect_table(table, secret, found),
        _ => {}
    }
}

fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|name| key.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_wherever_they_stand_and_all_else_stays_letter_for_letter() {
        let text = r#"
# the admin_token = "in a comment" stays
name = "shop"   # with a comment
key_cells = 4096
[tls]
key = "/etc/key.pem"
[pools.manager.environment]
API_TOKEN = "abc#\"def"
MODE = "fast"
password = '''multi
line'''
inline = { client_secret = 'x', port = 1 }
tokens = ["one", "two"]
"#;
        let masked = mask(text).unwrap();
        for secret in ["/etc/key.pem", "abc", "def", "multi", "'x'", "one", "two"] {
            assert!(!masked.contains(secret), "{secret} in {masked}");
        }
        for rest in [
            "in a comment",
            "name = \"shop\"   # with a comment",
            "key_cells = 4096",
            "MODE = \"fast\"",
            "port = 1",
        ] {
            assert!(masked.contains(rest), "{rest} not in {masked}");
        }
        assert!(masked.contains("inline = { client_secret = \"***\", port = 1 }"));
        assert!(DeTable::parse(&masked).is_ok());
    }

    #[test]
    fn what_is_not_toml_is_not_shown() {
        assert_eq!(mask("password = \"abc"), None);
    }
}
