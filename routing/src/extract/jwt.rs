//! One top-level claim of a JSON Web Token (RFC 7519), its signature NOT verified.
//!
//! The payload is decoded into a buffer on the stack and scanned for the claim. A scan, not a JSON parser: parsers keep
//! a stack for nested values on the heap, and the hot path allocates nothing. The scanner knows strings, brackets and
//! scalars; what is not well-formed ends it without an answer. The value is hashed as written: a string without
//! its quotes, a number by its digits. Other types (lists, `true`, null) name nobody.
//!
//! Known weakness: two spellings of one string (`"a"` and `"\u0061"`) are two consumers; signers write one spelling. Of
//! a payload above `BUFFER` bytes only the beginning is looked at.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use foretide_predictor::hash;

/// Decoded payload looked at. Servers refuse headers above 8 KiB as a rule, and claims are a part of one.
const BUFFER: usize = 3 * 1024;
const CODEC: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Hash of a claim's value in an `Authorization: Bearer` header's token.
pub(crate) fn claim_hash(authorization: &[u8], claim: &str) -> Option<u64> {
    let (scheme, token) = authorization.trim_ascii().split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let payload = token.trim_ascii().split(|&byte| byte == b'.').nth(1)?;
    let payload = &payload[..payload.len().min(BUFFER / 3 * 4)];
    let mut buffer = [0u8; BUFFER];
    let length = CODEC.decode_slice(payload, &mut buffer).ok()?;
    top_level_scalar(&buffer[..length], claim.as_bytes()).map(hash::bytes)
}

/// Value of a string or number member of a JSON object, as written; the first if the name comes twice.
fn top_level_scalar<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = after(json, b'{')?;
    loop {
        let (key, tail) = string(rest.trim_ascii_start())?;
        let value = after(tail, b':')?.trim_ascii_start();
        if key == name {
            return scalar(value);
        }
        rest = after(skip_value(value), b',')?;
    }
}

fn after(json: &[u8], expected: u8) -> Option<&[u8]> {
    json.trim_ascii_start().strip_prefix(&[expected])
}

/// A string's content as written, and what follows it.
fn string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let content = json.strip_prefix(b"\"")?;
    let mut escaped = false;
    for (index, &byte) in content.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&content[..index], &content[index + 1..])),
            _ => {}
        }
    }
    None
}

fn scalar(value: &[u8]) -> Option<&[u8]> {
    if let Some((content, _)) = string(value) {
        return (!content.is_empty()).then_some(content);
    }
    let end =
        value.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))?;
    let digits = &value[..end];
    digits.first().is_some_and(|first| first.is_ascii_digit() || *first == b'-').then_some(digits)
}

/// What follows a value of any type: strings are stepped over, brackets counted.
fn skip_value(json: &[u8]) -> &[u8] {
    let mut depth = 0usize;
    let mut rest = json;
    while let Some((&first, tail)) = rest.split_first() {
        rest = match first {
            b'"' => match string(rest) {
                Some((_, tail)) => tail,
                None => return &[],
            },
            b',' | b'}' | b']' if depth == 0 => return rest,
            b'{' | b'[' => {
                depth += 1;
                tail
            }
            b'}' | b']' => {
                depth -= 1;
                tail
            }
            _ => tail,
        };
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(payload: &str) -> Vec<u8> {
        format!("Bearer e30.{}.c2ln", CODEC.encode(payload)).into_bytes()
    }

    fn claim(payload: &str, name: &str) -> Option<u64> {
        claim_hash(&bearer(payload), name)
    }

    #[test]
    fn strings_and_numbers_at_the_top_level_are_found() {
        let payload =
            r#" { "nested" : {"sub":"wrong","a":["]}",1]}, "n":-12.5e3, "sub" : "ali\"ce" , "t":true } "#;
        assert_eq!(claim(payload, "sub"), Some(hash::bytes(br#"ali\"ce"#)));
        assert_eq!(claim(payload, "n"), Some(hash::bytes(b"-12.5e3")));
        for missing in ["a", "t", "nested", "other", ""] {
            assert_eq!(claim(payload, missing), None, "{missing}");
        }
        assert_eq!(claim(r#"{"sub":"first","sub":"second"}"#, "sub"), Some(hash::bytes(b"first")));
    }

    #[test]
    fn only_bearer_tokens_count_and_padding_does_not_matter() {
        let token = bearer(r#"{"sub":"al"}"#);
        assert!(claim_hash(&token, "sub").is_some());
        assert_eq!(claim_hash(b"bearer e30.eyJzdWIiOiJhbCJ9.x", "sub"), claim_hash(&token, "sub"));
        assert_eq!(claim_hash(b"Bearer e30.eyJzdWIiOiJhbGkifQ==.x", "sub"), Some(hash::bytes(b"ali")));
        for broken in
            ["Basic e30.eyJzdWIiOiJhbCJ9.x", "Bearer", "Bearer ", "Bearer abc", "Bearer a.!!.b", "Bearer é.é"]
        {
            assert_eq!(claim_hash(broken.as_bytes(), "sub"), None, "{broken}");
        }
    }

    #[test]
    fn the_beginning_of_a_huge_token_is_enough() {
        let payload = format!(r#"{{"sub":"al","more":"{}"}}"#, "x".repeat(2 * BUFFER));
        assert_eq!(claim(&payload, "sub"), Some(hash::bytes(b"al")));
        assert_eq!(claim(&payload, "more"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_scanned(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _either = (top_level_scalar(&bytes, b"a"), claim_hash(&bytes, "a"));
        }

        #[test]
        fn almost_json_can_be_scanned(text in r#"\{?(["a:,{}\[\]\\1-]|"a":){0,60}"#) {
            let _either = claim(&text, "a");
        }

        #[test]
        fn agrees_with_a_real_parser(before in ".{0,20}", value in "[a-zA-Z0-9 {}:,]{1,20}", number: i64) {
            let json = serde_json::json!({"before": {"sub": before, "n": [before]}, "n": number, "sub": value});
            prop_assert_eq!(claim(&json.to_string(), "sub"), Some(hash::bytes(value.as_bytes())));
            prop_assert_eq!(claim(&json.to_string(), "n"), Some(hash::bytes(number.to_string().as_bytes())));
        }
    }
}
