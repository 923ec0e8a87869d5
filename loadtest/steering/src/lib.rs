//! A laboratory for steering: selection, queueing and admission alone, in virtual time, a million requests in seconds.
//!
//! The whole-product simulator (`foretide_loadtest::sim`) runs the controller and learns; this one asks how good a *rule*
//! is. It calls production's own score, gate, sight, queue and admission (`foretide_steering`) and lets them stand
//! against the published policies on the same arrivals, the same sizes and the same disturbances. Instances and published
//! policies are those of shadow scoring (`foretide_shadow`).
//!
//! | module | holds |
//! |---|---|
//! | [`sizes`] | what requests cost: the six distributions |
//! | [`world`] | who serves, how fast, how disturbed; arrivals; what a predictor says |
//! | [`policy`] | who chooses: the published policies and Foretide |
//! | [`run`] | the events |
//! | [`figures`] | what came out |
//! | [`suite`] | the table of targets |

pub mod figures;
pub mod policy;
pub mod run;
pub mod sizes;
pub mod suite;
pub mod world;
