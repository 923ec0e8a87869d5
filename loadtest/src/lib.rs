//! All that pretends to be the world: a simulator in virtual time; in real time a sample producer that does real work,
//! open-loop traffic, and replay of what was recorded.

pub mod page;
pub mod plane;
pub mod producer;
pub mod replay;
pub mod sim;
pub mod stream;
pub mod traffic;
