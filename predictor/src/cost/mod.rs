//! Tier 2: what will this request cost?

pub mod codec;
pub mod estimator;
pub mod model;
pub mod query;
pub mod reservoir;
pub mod table;
pub mod trainer;
