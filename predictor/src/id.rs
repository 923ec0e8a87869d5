//! Small ids for the things every room talks about.

use serde::{Deserialize, Serialize};

/// Index of a pool in the settings of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolId(pub u16);

/// Index of a route in the settings of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteId(pub u16);

/// One running copy of a producer. Counted up by the controller and never used twice in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u32);

impl PoolId {
    /// As an index into per-pool vectors.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl RouteId {
    /// As an index into per-route vectors.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
