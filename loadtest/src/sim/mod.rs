//! The world in virtual time: the product's own controller, planner and selectors against simulated producers.
//!
//! A discrete-event simulation: one heap ordered by (time, sequence number), so that equal times keep their order and
//! a run depends on nothing but its input and seed. Every purpose draws from a random stream of its own
//! ([`crate::stream`]), so adding a draw in one shifts no other. After every event [`check`] holds what must always be
//! true.

pub mod arrivals;
pub mod check;
pub mod contest;
pub mod outcome;
pub mod processor;
pub mod run;
