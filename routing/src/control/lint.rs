//! Refuses plans that break hard limits (contract; body to come).
use crate::control::plan::{Plan, PlanInput};

/// A broken limit, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding(pub String);

/// Checks a plan against the limits, independently of how it was made.
pub fn lint(_input: &PlanInput, _plan: &Plan) -> Vec<Finding> {
    todo!()
}
