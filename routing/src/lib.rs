//! Who gets a request, how many instances there are, and when.
//!
//! Pure: no IO, no clock, no global randomness, no logging. The data plane half ([`extract`], [`table`], [`select`],
//! [`mod@decide`]) runs on every request without lock or allocation; the control half, the crate `foretide-control`, is a
//! state machine fed with inputs and ticks that answers with effects. Both run unchanged in the simulator.

pub mod claim;
pub mod decide;
pub mod extract;
pub mod foresee;
pub mod gates;
pub mod hedge;
pub mod lease;
pub mod live;
pub mod observe;
pub mod retry;
pub mod select;
pub mod settings;
pub mod table;
pub mod weights;
