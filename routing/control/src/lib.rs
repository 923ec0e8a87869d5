//! The control plane: learn → forecast → plan → lint → effects → publish.
//!
//! `controller` is the state machine that holds the parts together; `io` and `report` are its border to the
//! world. Demand comes from `meter`, knowledge from `learning` and `training`, the future from `track`, the
//! size of a fleet from `plan` (checked by `lint`), and `publish` hands the result to the hot path.

mod backoff;
pub mod controller;
mod decisions;
mod gates;
mod health;
pub mod hearsay;
mod instance;
pub mod io;
mod learning;
pub mod lint;
mod meter;
mod outbox;
mod outlier;
pub mod plan;
mod pool;
mod publish;
mod reload;
pub mod report;
mod scaling;
mod sizing;
mod status;
mod target_rate;
mod track;
mod training;
mod words;
