//! Parts of a pool: those with a label, those in the own zone. A part is a small pool with a policy of its own, so that turns,
//! tables and shares are right within it, whatever the policy.
//!
//! **Subsets** (Envoy's, with one key): a request names a value in a header, and only instances that carry it as their label
//! are used. Deterministic subsets per client (Google's SRE book, ch. 20) are not built: they save connections of thousands
//! of clients, and a proxy has one set for all of them.
//!
//! **Locality** (Envoy's levels of locality, with two): `s = min(1, f · usable / known)` with f = 1.4 is the share of load
//! that the instances of the own zone, or of the others, can take of what they are there for. The own zone gets
//!
//! ```text
//! near = s_near                    if s_near + min(s_far, 1 − s_near) ≥ 1
//!        s_near / (s_near + s_far) otherwise: both have too little
//! ```
//!
//! so it keeps everything until more than two in seven of its instances are out, and the rest spills over bit by bit.
//! Nobody left in one part (all tried, all full, none usable): the other one. A share counts weights.
//!
//! Known weakness: nothing here asks whether the own zone is large enough for the load. `max_requests` makes it spill over
//! when it is full.

use crate::select::Selector;
use crate::settings::PoolSettings;
use crate::settings::choice::{LocalitySettings, SubsetSettings, Traits};
use crate::table::InstanceEntry;
use foretide_predictor::blend::TierWeights;
use foretide_predictor::hash;
use foretide_steering::score::Form;
use std::sync::Arc;

/// An instance that is there, whether or not it can be used now: its weight and its traits.
pub type Known = (u32, Arc<Traits>);

/// The parts of a pool.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Of the whole pool.
    whole: Option<Zones>,
    /// By the hash of the label's value, ascending.
    subsets: Vec<(u64, Subset)>,
    /// Who wants a label that nobody carries may go anywhere.
    fallback: bool,
}

#[derive(Debug)]
struct Subset {
    all: Group,
    zones: Option<Zones>,
}

#[derive(Debug)]
struct Zones {
    near: Group,
    far: Group,
    near_share: f64,
}

/// A part of a pool.
#[derive(Debug)]
pub(crate) struct Group {
    key: u64,
    pub(crate) instances: Vec<InstanceEntry>,
    /// Their places in the pool, ascending.
    pub(crate) members: Vec<u32>,
    pub(crate) selector: Selector,
    /// Not of the own zone.
    pub(crate) far: bool,
}

/// Where a request looks: first among the former, then among the latter, and at last, if it may, anywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    pub(crate) groups: [Option<&'a Group>; 2],
    pub(crate) anywhere: bool,
    /// Nobody carries the wanted label.
    pub(crate) astray: bool,
}

/// What a group is made from.
pub(super) struct Maker<'a> {
    pub(super) settings: &'a PoolSettings,
    pub(super) form: Form,
    pub(super) instances: &'a [InstanceEntry],
    /// All instances of the pool, usable or not.
    pub(super) known: &'a [Known],
    pub(super) weights: TierWeights,
    pub(super) previous: Option<&'a Groups>,
}

impl Groups {
    /// The parts that the settings ask for; `None`: none.
    pub(super) fn new(maker: &Maker<'_>) -> Option<Self> {
        let choice = &maker.settings.choice;
        let whole = choice.locality.as_ref().map(|locality| maker.zones(0, locality, |_| true));
        let subsets = choice.subset.as_ref().map(|subset| maker.subsets(subset));
        if whole.is_none() && subsets.is_none() {
            return None;
        }
        let fallback = choice.subset.as_ref().is_none_or(|subset| subset.fallback);
        Some(Self { whole, subsets: subsets.unwrap_or_default(), fallback })
    }

    /// Where a request looks. `label`: hash of the value it wants, if it wants one; `share`: from 0 up to 1, at random.
    pub(crate) fn path(&self, label: Option<u64>, share: f64) -> Path<'_> {
        let whole = zoned(self.whole.as_ref(), share);
        let Some(label) = label else { return Path { groups: whole, anywhere: true, astray: false } };
        let subset = self.subset(label);
        let groups = match subset {
            None if self.fallback => whole,
            None => [None; 2],
            Some(Subset { zones: None, all }) => [Some(all), None],
            Some(Subset { zones, .. }) => zoned(zones.as_ref(), share),
        };
        Path { groups, anywhere: self.fallback, astray: subset.is_none() }
    }

    /// Whether a request that wants this label may use the instance at this place of the pool.
    pub(crate) fn holds(&self, label: Option<u64>, place: usize) -> bool {
        let member = |subset: &Subset| subset.all.members.binary_search(&(place as u32)).is_ok();
        label.is_none_or(|label| self.subset(label).map_or(self.fallback, member))
    }

    fn subset(&self, label: u64) -> Option<&Subset> {
        let found = self.subsets.binary_search_by_key(&label, |(value, _)| *value).ok()?;
        Some(&self.subsets[found].1)
    }

    /// All groups, to find one of the last generation.
    fn groups(&self) -> impl Iterator<Item = &Group> {
        let zones =
            self.whole.iter().chain(self.subsets.iter().filter_map(|(_, subset)| subset.zones.as_ref()));
        let all = self.subsets.iter().map(|(_, subset)| &subset.all);
        zones.flat_map(|zones| [&zones.near, &zones.far]).chain(all)
    }
}

fn zoned(zones: Option<&Zones>, share: f64) -> [Option<&Group>; 2] {
    match zones {
        None => [None; 2],
        Some(zones) if share < zones.near_share => [Some(&zones.near), Some(&zones.far)],
        Some(zones) => [Some(&zones.far), Some(&zones.near)],
    }
}

impl Maker<'_> {
    fn subsets(&self, subset: &SubsetSettings) -> Vec<(u64, Subset)> {
        let value = |traits: &Traits| Some(label(traits.labels.get(&subset.label)?));
        let mut values: Vec<u64> = self.known.iter().filter_map(|(_, traits)| value(traits)).collect();
        values.sort_unstable();
        values.dedup();
        let make = |wanted: u64| {
            let is = |traits: &Traits| value(traits) == Some(wanted);
            let locality = self.settings.choice.locality.as_ref();
            let all = self.group(hash::pair(wanted, 1), is);
            let zones = locality.map(|locality| self.zones(wanted, locality, is));
            (wanted, Subset { all, zones })
        };
        values.into_iter().map(make).collect()
    }

    fn zones(&self, key: u64, locality: &LocalitySettings, is: impl Fn(&Traits) -> bool) -> Zones {
        let is_near = |traits: &Traits| traits.zone.as_deref() == Some(&locality.zone);
        let health = |near: bool| {
            let here = |traits: &Arc<Traits>| is(traits) && is_near(traits) == near;
            let known = self.known.iter().filter(|(_, traits)| here(traits)).map(|one| f64::from(one.0));
            let usable =
                self.instances.iter().filter(|one| here(&one.traits)).map(|one| f64::from(one.weight));
            usable.sum::<f64>() / known.sum::<f64>()
        };
        Zones {
            near: self.group(hash::pair(key, 2), |traits| is(traits) && is_near(traits)),
            far: Group {
                far: true,
                ..self.group(hash::pair(key, 3), |traits| is(traits) && !is_near(traits))
            },
            near_share: near_share(health(true), health(false), locality.overprovision_factor),
        }
    }

    fn group(&self, key: u64, is: impl Fn(&Traits) -> bool) -> Group {
        let (members, instances): (Vec<u32>, Vec<InstanceEntry>) = (0..)
            .zip(self.instances)
            .filter(|(_, one)| is(&one.traits))
            .map(|(at, one)| (at, one.clone()))
            .unzip();
        let before = self.previous.and_then(|groups| groups.groups().find(|group| group.key == key));
        let before = before.map(|group| &group.selector);
        let selector = Selector::new(self.settings, self.form, &instances, self.weights, before);
        Group { key, instances, members, selector, far: false }
    }
}

/// A label's value as requests are compared by it.
pub fn label(value: &str) -> u64 {
    hash::bytes(value.as_bytes())
}

/// The own zone's share of requests from the usable shares of both; NaN is a part without instances.
fn near_share(near: f64, far: f64, factor: f64) -> f64 {
    let takes = |usable: f64| if usable > 0.0 { (factor * usable).min(1.0) } else { 0.0 };
    let (near, far) = (takes(near), takes(far));
    let sum = near + far;
    if near == 0.0 { 0.0 } else { (near / sum.min(1.0)).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_zone_keeps_all_until_too_much_of_it_is_gone() {
        let share = |near, far| (near_share(near, far, 1.4) * 1000.0).round() / 1000.0;
        assert_eq!((share(1.0, 1.0), share(0.72, 1.0)), (1.0, 1.0));
        assert_eq!(share(0.5, 1.0), 0.7, "the rest goes elsewhere");
        assert_eq!(share(0.0, 1.0), 0.0);
        assert_eq!(share(0.25, 0.25), 0.5, "both have too little");
        assert_eq!(share(0.25, 0.0), 1.0, "there is nobody else");
        assert_eq!((share(0.5, f64::NAN), share(f64::NAN, 1.0)), (1.0, 0.0), "one part alone");
    }
}
