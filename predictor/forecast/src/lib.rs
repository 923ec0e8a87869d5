//! Tier 1: what load is coming?
//!
//! Pure: no IO, no clock, no global randomness, no logging. Time comes in as
//! [`Timestamp`](foretide_predictor::time::Timestamp).

mod backtest;
pub mod calendar;
mod design;
pub mod fit;
mod history;
mod ladder;
mod last_value;
mod ridge;
pub mod series;
