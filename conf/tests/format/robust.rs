//! No text makes the reader panic, and what it says always has a place.

use foretide_conf::finding::render;
use foretide_conf::{parse::parse, scenario, shipped};
use proptest::prelude::*;

fn read_anything(text: &str) {
    let findings = parse("any.toml", text).map_or_else(|all| all, |(_, warnings)| warnings);
    let lines = text.split('\n').count();
    for finding in &findings {
        assert!(finding.line >= 1 && finding.line <= lines, "{finding}");
        assert!(finding.column >= 1 && finding.width >= 1, "{finding}");
    }
    render(&findings, text);
    let _ = scenario::parse("any.toml", text, |_| Ok(text.to_owned()));
}

fn shipped_text() -> impl Strategy<Value = &'static str> {
    let texts =
        [shipped::INIT, shipped::DEMO, shipped::REFERENCE, shipped::SCENARIOS[0].1, shipped::SCENARIOS[2].1];
    prop::sample::select(texts.to_vec())
}

#[test]
fn deep_nesting_is_survived() {
    let deep = 5_000;
    read_anything(&"[".repeat(deep));
    read_anything(&format!("a = {}", "[".repeat(deep)));
    read_anything(&format!("a = {}", "{a=".repeat(deep)));
    read_anything(&format!("{}a = 1", "a.".repeat(deep)));
    read_anything(&format!("[{}a]", "a.".repeat(deep)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_is_survived(text in any::<String>()) {
        read_anything(&text);
    }

    #[test]
    fn text_that_looks_like_toml_is_survived(text in "([\\[\\]a-z.=\"'{},#0-9é\\n -]{0,80})") {
        read_anything(&text);
    }

    /// A value is replaced by one of another type or size; the rest of the file stays.
    #[test]
    fn strange_values_are_survived(
        text in shipped_text(),
        line in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "-1", "0", "18446744073709551616", "0x7fff_ffff_ffff_ffff", "nan", "-inf", "1e300", "\"\"", "\"é\"", "[]",
            "[[1], {}]", "{}", "{ a = 1 }", "true", "1979-05-27", "07:32:00", "9999-12-31T23:59:59.999999999Z",
            "\"99999999999y\"", "\"0s\"", "\"{*\"", "\"a:b:c\"", "\"json:/\"", "\"client:300/1\"", "\"\\u0000\"",
        ]),
    ) {
        let at = line.index(text.lines().count());
        let mutated: Vec<String> = text
            .lines()
            .enumerate()
            .map(|(number, line)| match line.split_once(" = ") {
                Some((key, _)) if number == at => format!("{key} = {value}"),
                _ => line.to_owned(),
            })
            .collect();
        read_anything(&mutated.join("\n"));
    }

    /// A piece is cut out, doubled or overwritten anywhere, also amid a word.
    #[test]
    fn cut_and_pasted_files_are_survived(
        text in shipped_text(),
        from in any::<prop::sample::Index>(),
        length in 0usize..200,
        instead in prop::sample::select(vec!["", "\"", "[", "]]", "=", "\n", "'''", "é", "\u{0}", "# "]),
    ) {
        let start = text.floor_char_boundary(from.index(text.len()));
        let end = text.floor_char_boundary((start + length).min(text.len()));
        read_anything(&format!("{}{instead}{}", &text[..start], &text[end..]));
        read_anything(&format!("{}{instead}{}", &text[..end], &text[start..]));
    }
}
