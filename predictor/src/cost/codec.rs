//! The learned state as bytes: magic, format version, checksum, postcard.
//!
//! `b"FTCOST" · version u32 LE · xxh3-64 of the content, LE · content`. The checksum is against damage, not against
//! forgery; content that passes it is still checked before use, and bytes of any kind only ever give an error.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::cost::model::CostModel;
use crate::cost::reservoir::Sample;
use crate::cost::table::KeyTableState;

const MAGIC: &[u8; 6] = b"FTCOST";
/// Raised whenever the meaning of the content changes; older files are then set aside.
const VERSION: u32 = 11;
const HEADER: usize = MAGIC.len() + 4 + 8;

/// All that Tier 2 has learned and would miss after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LearnedCosts {
    /// Running statistics.
    pub table: KeyTableState,
    /// Training rows in order of arrival.
    pub rows: Vec<Sample>,
    /// The serving model, if any.
    pub model: Option<CostModel>,
    /// What predictions were worth, by route.
    pub gates: Vec<SavedGate>,
}

/// How far predictions steer on one route, in numbers that only who steers understands and checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedGate {
    /// Stable hash of the route's name; 0: all routes that have no gate of their own.
    pub route_key: u64,
    /// The gate's own.
    pub numbers: Vec<f64>,
}

/// Why bytes are not learned state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Not one of our files.
    #[error("not a Foretide state file")]
    Magic,
    /// Written by another version.
    #[error("format version {found}, this build reads {expected}")]
    Version {
        /// In the file.
        found: u32,
        /// Of this build.
        expected: u32,
    },
    /// Cut short or changed.
    #[error("checksum does not match: the file is damaged")]
    Checksum,
    /// Checksum fine, content not.
    #[error("content cannot be read: {0}")]
    Content(String),
}

/// To bytes.
pub fn encode(state: &LearnedCosts) -> Vec<u8> {
    // Serialising plain numbers into a growing vector has no way to fail; were it ever to, the empty content would
    // fail to decode and be set aside.
    let content = postcard::to_allocvec(state).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER + content.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    bytes
}

/// From bytes; never panics on any input.
pub fn decode(bytes: &[u8]) -> Result<LearnedCosts, CodecError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(CodecError::Magic)?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(CodecError::Checksum)?;
    let found = u32::from_le_bytes(*version);
    if found != VERSION {
        return Err(CodecError::Version { found, expected: VERSION });
    }
    let (checksum, content) = rest.split_first_chunk::<8>().ok_or(CodecError::Checksum)?;
    if xxh3_64(content) != u64::from_le_bytes(*checksum) {
        return Err(CodecError::Checksum);
    }
    let state: LearnedCosts =
        postcard::from_bytes(content).map_err(|error| CodecError::Content(error.to_string()))?;
    match &state.model {
        Some(model) if !model.is_sound() => Err(CodecError::Content("the model's trees are crooked".into())),
        _ => Ok(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::query::CostQuery;
    use crate::cost::table::KeyTable;
    use crate::id::RouteId;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn learned() -> LearnedCosts {
        let table = KeyTable::new(64);
        let mut rows = Vec::new();
        for i in 0..20u64 {
            let query = CostQuery::new(RouteId(0), 3, i);
            let features = table.features(&query, Timestamp::ZERO);
            table.observe(&query, 50.0 + i as f64, Timestamp::ZERO);
            rows.push(Sample { at: Timestamp::ZERO, query, features, work_us: 50.0 + i as f64 });
        }
        LearnedCosts { table: table.snapshot(), rows, model: None, gates: Vec::new() }
    }

    #[test]
    fn what_is_written_is_read() {
        let state = learned();
        let back = decode(&encode(&state)).unwrap();
        assert_eq!(back.table, state.table);
        assert_eq!(back.rows, state.rows);
    }

    #[test]
    fn each_fault_has_its_name() {
        let bytes = encode(&learned());
        assert!(matches!(decode(b"PK\x03\x04"), Err(CodecError::Magic)));
        assert!(matches!(decode(&bytes[..bytes.len() - 1]), Err(CodecError::Checksum)));
        let mut newer = bytes.clone();
        newer[6] = VERSION as u8 + 1;
        assert!(
            matches!(decode(&newer), Err(CodecError::Version { found, expected: VERSION }) if found == VERSION + 1)
        );
        let broken = LearnedCosts { model: Some(CostModel::broken_for_drills()), ..learned() };
        assert!(matches!(decode(&encode(&broken)), Err(CodecError::Content(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(content in proptest::collection::vec(any::<u8>(), 0..400), seal in any::<bool>()) {
            let mut bytes = content.clone();
            if seal {
                bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &xxh3_64(&content).to_le_bytes(), &content].concat();
            }
            if let Ok(state) = decode(&bytes) {
                KeyTable::new(64).restore(&state.table);
            }
        }

        #[test]
        fn any_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&learned());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn sealed_damage_never_panics(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = encode(&learned());
            let at = HEADER + at.index(bytes.len() - HEADER);
            bytes[at] = value;
            let sum = xxh3_64(&bytes[HEADER..]).to_le_bytes();
            bytes[HEADER - 8..HEADER].copy_from_slice(&sum);
            if let Ok(state) = decode(&bytes) {
                KeyTable::new(64).restore(&state.table);
            }
        }
    }
}
