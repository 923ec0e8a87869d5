//! What will happen, and what it will cost.
//!
//! Pure: no IO, no clock, no global randomness, no logging. Time comes in as [`time::Timestamp`], chance as
//! seeds. The same code serves production and the simulator.

pub mod blend;
pub mod cost;
pub mod estimate;
pub mod hash;
pub mod id;
pub mod peers;
pub mod ridge;
pub mod scorecard;
pub mod time;
