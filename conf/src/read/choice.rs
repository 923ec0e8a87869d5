//! What narrows the choice among a pool's instances or bends it.

use foretide_routing::settings::Policy;
use foretide_routing::settings::choice::{ChoiceSettings, Endpoint};

use crate::document::{Says, Section};

/// Above this a bound hardly ever binds.
const MOST_BALANCE_FACTOR: f64 = 100.0;

pub(super) fn choice(section: &Section<'_>, policy: Policy, endpoints: &[Endpoint]) -> ChoiceSettings {
    let weighed = endpoints.iter().any(|endpoint| endpoint.weight != 1);
    if weighed
        && matches!(policy, Policy::Predictive | Policy::RoundRobin)
        && let Some(item) = section.item("endpoints")
    {
        item.warn(Says::new("has weights, which have no effect with this policy").help(
            "add `policy = \"weighted\"` or \"least-request\", or remove them: \"predictive\" measures how fast each one is",
        ));
    }
    let factor = section.item("hash_balance_factor");
    if let Some(item) = &factor
        && !matches!(policy, Policy::Ketama | Policy::Maglev)
    {
        item.warn(Says::new("has no effect with this policy").help("add `policy = \"maglev\"` or remove it"));
    }
    ChoiceSettings { hash_balance_factor: factor.and_then(|item| item.number(1.0..=MOST_BALANCE_FACTOR)) }
}
