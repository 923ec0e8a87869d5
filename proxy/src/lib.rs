//! The product's sockets, disks and clocks.
//!
//! Adapters (`engine`, `store`, `fleet`, `admin`) never import each other; only the composition root knows them all.

pub mod admin;
pub mod clock;
pub mod engine;
pub mod fleet;
pub mod ring;
pub mod store;
