//! What comes before a pool's policy: the instance a client was on, the label a request wants, the own zone.
//!
//! | the request | goes to | if nobody there may be used |
//! |---|---|---|
//! | carries a known token ([`affinity`]) | that instance | the policy decides, as if it carried none |
//! | wants a label ([`groups`]) | the policy among its instances | anywhere, or nowhere if so configured |
//! | any other | the policy among the own zone's or the others' | the other ones |
//!
//! A pool that asks for none of this pays one comparison.
//!
//! [`affinity`]: crate::select::affinity
//! [`groups`]: crate::select::groups

use crate::select::affinity::Tokens;
use crate::select::groups::{Groups, Known, Maker};
use crate::settings::PoolSettings;
use crate::table::InstanceEntry;
use foretide_predictor::blend::TierWeights;
use foretide_steering::score::Form;

/// What the request itself says of where it would like to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Token of the instance it was on before ([`crate::select::affinity::token`]).
    pub instance: Option<u64>,
    /// The label's value it wants, hashed ([`crate::select::groups::label`]).
    pub label: Option<u64>,
}

/// What a generation prepares for that.
#[derive(Debug, Default)]
pub struct Narrowing {
    pub(crate) tokens: Option<Tokens>,
    pub(crate) groups: Option<Groups>,
}

impl Narrowing {
    /// For these instances in service, which serve in this form. `known`: all that are there, usable or not. `previous`:
    /// the last generation's, whose rings and tables are kept while their members are.
    pub fn new(
        settings: &PoolSettings,
        form: Form,
        instances: &[InstanceEntry],
        known: &[Known],
        weights: TierWeights,
        previous: Option<&Self>,
    ) -> Self {
        let previous = previous.and_then(|narrowing| narrowing.groups.as_ref());
        let maker = Maker { settings, form, instances, known, weights, previous };
        Self { tokens: Tokens::new(settings, instances), groups: Groups::new(&maker) }
    }
}
