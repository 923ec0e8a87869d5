//! The learned state as bytes: magic, format version, checksum, postcard (contract; body to come).
use crate::cost::model::CostModel;
use crate::cost::reservoir::Sample;
use crate::cost::table::KeyTableState;

/// All that Tier 2 has learned and would miss after a restart.
#[derive(Clone, Debug)]
pub struct LearnedCosts {
    /// Running statistics.
    pub table: KeyTableState,
    /// Training rows in order of arrival.
    pub rows: Vec<Sample>,
    /// The serving model, if any.
    pub model: Option<CostModel>,
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
pub fn encode(_state: &LearnedCosts) -> Vec<u8> {
    todo!()
}

/// From bytes; never panics on any input.
pub fn decode(_bytes: &[u8]) -> Result<LearnedCosts, CodecError> {
    todo!()
}
