//! Tier 2: what will this request cost?

mod anchor;
pub(crate) mod approx;
pub mod backtest;
mod bins;
mod boost;
mod cells;
mod classes;
pub mod codec;
pub mod estimator;
pub mod features;
mod forest;
mod grow;
mod interval;
mod lanes;
mod lean;
pub mod model;
pub mod query;
mod recent;
pub mod reference;
pub mod reservoir;
pub mod routes;
mod scorer;
pub mod table;
pub mod trainer;
pub mod verdict;
