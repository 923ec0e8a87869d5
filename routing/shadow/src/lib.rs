//! What other policies would have made of the same requests.
//!
//! | module | holds |
//! |---|---|
//! | [`agenda`] | what is to come |
//! | [`producer`] | one instance, processor sharing or FIFO workers |
//! | [`reactive`] | the published policies |
//!
//! Time and chance come in as parameters. The laboratory of steering runs on the same parts.

pub mod agenda;
pub mod producer;
pub mod reactive;
