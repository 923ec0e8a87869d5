//! All that pretends to be the world.

pub mod page;
pub mod sim;
pub mod stream;
