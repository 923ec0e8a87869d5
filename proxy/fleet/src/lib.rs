//! Instances as the world has them: starting and stopping local producers, and asking any producer how it is.
//!
//! Nothing here chooses: what runs is the controller's wish, and whether a check result matters is its judgement. What
//! happens is told as events; nothing is retried, because the next tick sees reality.

pub mod ask;
mod ledger;
pub mod load;
pub mod load_stream;
pub mod ports;
pub mod probe;
pub mod process;
mod supervise;
mod tls;
