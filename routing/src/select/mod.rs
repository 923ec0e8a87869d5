//! Selection policies (contract; body to come).

use crate::settings::Policy;
use crate::table::InstanceEntry;

/// A policy with its prepared state.
#[derive(Debug)]
pub struct Selector {}

impl Selector {
    /// Prepares `policy` for these instances (builds the ring for ketama).
    pub fn new(_policy: Policy, _instances: &[InstanceEntry]) -> Self {
        todo!()
    }
    /// Which policy.
    pub fn policy(&self) -> Policy {
        todo!()
    }
}
