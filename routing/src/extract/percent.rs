//! Percent-decoding into a small buffer on the stack.

/// Longest decoded value; longer ones are used as sent. Parameters that drive cost are short.
const BUFFER: usize = 256;

/// Calls `then` with `value` decoded: `%XX`, and `+` as a blank if `plus` (queries: WHATWG URL §5.1, paths: RFC 3986
/// §2.1). Values without either, malformed and very long ones are passed on as they are.
pub(crate) fn decoded<R>(value: &[u8], plus: bool, then: impl FnOnce(&[u8]) -> R) -> R {
    let encoded = value.iter().any(|&byte| byte == b'%' || (plus && byte == b'+'));
    if !encoded {
        return then(value);
    }
    let mut buffer = [0u8; BUFFER];
    match decode(value, plus, &mut buffer) {
        Some(length) => then(&buffer[..length]),
        None => then(value),
    }
}

fn decode(value: &[u8], plus: bool, buffer: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = match (first, tail) {
            (b'%', [high, low, after @ ..]) => (hex(*high)? << 4 | hex(*low)?, after),
            (b'%', _) => return None,
            (b'+', after) if plus => (b' ', after),
            (byte, after) => (byte, after),
        };
        *buffer.get_mut(length)? = byte;
        length += 1;
        rest = after;
    }
    Some(length)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &str, plus: bool) -> String {
        decoded(value.as_bytes(), plus, |bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    #[test]
    fn decodes_what_is_well_formed_and_leaves_the_rest() {
        assert_eq!(text("a%20b+c%2B", true), "a b c+");
        assert_eq!(text("a+b%2f", false), "a+b/");
        assert_eq!(text("100%", true), "100%");
        assert_eq!(text("%zz+", true), "%zz+");
        let long = "+".repeat(BUFFER + 1);
        assert_eq!(text(&long, true), long);
    }

    proptest! {
        #[test]
        fn encoded_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..=BUFFER), plus: bool) {
            let encoded: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert!(decoded(encoded.as_bytes(), plus, |found| found == bytes));
        }

        #[test]
        fn any_bytes_can_be_decoded(bytes in prop::collection::vec(any::<u8>(), 0..600), plus: bool) {
            prop_assert!(decoded(&bytes, plus, |found| found.len() <= bytes.len()));
        }
    }
}
