//! All that pretends to be the world: a sample producer that does real work, open-loop traffic, and replay of what
//! was recorded.

pub mod producer;
pub mod replay;
pub mod traffic;
