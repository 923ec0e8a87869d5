//! Tier 2: what will this request cost?

pub mod backtest;
mod cells;
mod classes;
pub mod codec;
pub mod estimator;
mod flatten;
mod forest;
mod interval;
pub mod model;
pub mod query;
pub mod reservoir;
pub mod table;
pub mod trainer;
