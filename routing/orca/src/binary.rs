//! The message in protobuf's wire format, as base64.
//!
//! A message is a run of (number of the field and wire type, value). Ours are doubles (wire type 1), and maps, which are
//! repeated messages of their own (wire type 2) with the name in field 1 and the number in field 2. Fields that are absent
//! are zero by definition, so an entry without a number is a zero. Unknown fields are skipped by their wire type; groups
//! (wire types 3 and 4), given up long ago, end the reading.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::{Field, Found, Group, LONGEST};

/// Room for what the longest value can hold.
const BUFFER: usize = LONGEST / 4 * 3;

/// Padding may be left out, as gRPC allows.
const CODEC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A field's value.
enum Value<'a> {
    Double(f64),
    Bytes(&'a [u8]),
    /// Of a type that none of ours has.
    Other,
}

/// Takes what it knows; `None`: this is no message.
pub(crate) fn read(encoded: &[u8], found: &mut Found<'_>) -> Option<()> {
    let mut buffer = [0u8; BUFFER];
    let length = CODEC.decode_slice(encoded, &mut buffer).ok()?;
    message(&buffer[..length], found)
}

/// The same of the message itself.
pub(crate) fn message(mut rest: &[u8], found: &mut Found<'_>) -> Option<()> {
    while !rest.is_empty() {
        match next(&mut rest)? {
            (1, Value::Double(number)) => found.field(Field::Cpu, number),
            (2, Value::Double(number)) => found.field(Field::Memory, number),
            (9, Value::Double(number)) => found.field(Field::Application, number),
            (4, Value::Bytes(entry)) => member(Group::Costs, entry, found)?,
            (8, Value::Bytes(entry)) => member(Group::Metrics, entry, found)?,
            _ => {}
        }
    }
    Some(())
}

/// One entry of a map.
fn member(group: Group, mut entry: &[u8], found: &mut Found<'_>) -> Option<()> {
    let (mut name, mut number) = ("", 0.0);
    while !entry.is_empty() {
        match next(&mut entry)? {
            (1, Value::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
            (2, Value::Double(value)) => number = value,
            _ => {}
        }
    }
    found.named(group, name, number);
    Some(())
}

/// The next field's number and value.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => varint(rest).map(|_| Value::Other)?,
        1 => Value::Double(f64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Value::Other)?,
        _ => return None,
    };
    Some((tag >> 3, value))
}

/// Seven bits a byte, the lowest first; at most ten bytes.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}
