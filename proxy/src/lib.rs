//! The product's sockets, disks and clocks.
//!
//! Adapters (`engine`, `store`, `fleet`, `admin`) never import each other; only the composition root knows them all.

pub mod clock;
pub mod ring;
