//! The control plane: learn → forecast → plan → lint → effects → publish.

pub mod controller;
pub mod io;
pub mod lint;
pub mod plan;
pub mod report;
mod sizing;
mod words;
