//! Tier 1: what load is coming?

mod backtest;
pub mod calendar;
mod design;
pub mod fit;
mod history;
mod ladder;
mod last_value;
mod ridge;
pub mod series;
