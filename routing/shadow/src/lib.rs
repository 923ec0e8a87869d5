//! What other policies would have made of the same requests.
//!
//! | module | holds |
//! |---|---|
//! | [`shadow`] | all policies of one pool, side by side |
//! | `intake` | arrivals in order, and no more than the time allows |
//! | [`fleet`] | one policy with a fleet of its own |
//! | [`chooser`] | a policy with all it knows |
//! | [`tally`] | what became of its requests |
//! | [`reactive`] | the published policies |
//! | [`producer`], [`agenda`] | one instance, processor sharing or FIFO workers, and what is to come |
//!
//! Time and chance come in as parameters. The laboratory of steering runs on the same instances and rules.

pub mod agenda;
pub mod chooser;
pub mod fleet;
mod intake;
pub mod producer;
pub mod reactive;
pub mod shadow;
pub mod tally;
