//! The product's sockets, disks and clocks.
//!
//! Adapters (`engine`, `store`, and the crates `foretide-admin` and `foretide-fleet`) never import each other; only the
//! composition root ([`app`]) knows them all. [`reconcile`] drives the pure controller in real time.

pub mod app;
pub mod cli;
pub mod clock;
pub mod demo;
pub mod engine;
pub mod reconcile;
pub mod ring;
pub mod store;
