//! Tier 1: what load is coming?

pub mod calendar;
pub mod fit;
pub mod series;
