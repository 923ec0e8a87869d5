//! All that pretends to be the world.

pub mod page;
pub mod producer;
pub mod replay;
pub mod sim;
pub mod stream;
pub mod traffic;
