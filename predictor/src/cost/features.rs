//! What the trees see of a request: a row of fixed width, all finite, frozen on arrival and kept with the label.
//!
//! Recomputing it later would leak the label into its own statistics. Names of the features are for people: [`NAMES`].

use serde::{Deserialize, Serialize};

use crate::cost::query::{CATEGORIES, NUMBERS};

/// Width of the feature vector.
pub const FEATURES: usize = 58;

/// Where in [`Features`] the groups begin. A level is four numbers: shrunk mean, EWMA and last of ln cost, and
/// ln(1 + count).
pub(crate) mod place {
    pub(crate) const ROUTE: usize = 0;
    pub(crate) const SOURCE: usize = 4;
    pub(crate) const PARAMETERS: usize = 8;
    pub(crate) const FINE: usize = 12;
    pub(crate) const BOTH: usize = 16;
    /// Last ln cost of the very same request (route and exact parameters), and how long ago.
    pub(crate) const EXACT: usize = 20;
    /// ln(1 + seconds) since route × source and since the fine parameter key were last seen.
    pub(crate) const AGES: usize = 22;
    /// Mean deviation of ln cost of the parameter key.
    pub(crate) const SPREAD: usize = 24;
    /// ln(mean cost) of the parameter key, over the route's.
    pub(crate) const TAIL: usize = 25;
    /// Recent common deviation of all routes from their means.
    pub(crate) const MOOD: usize = 26;
    /// ln(1 + requests in flight).
    pub(crate) const IN_FLIGHT: usize = 27;
    pub(crate) const NUMBERS: usize = 28;
    pub(crate) const CATEGORIES: usize = NUMBERS + crate::cost::query::NUMBERS;
    /// Shares of costs above the three class borders, of the best known key.
    pub(crate) const ABOVE: usize = CATEGORIES + crate::cost::query::CATEGORIES;
    /// Which route, as a code in (0, 1].
    pub(crate) const ROUTE_CODE: usize = ABOVE + 3;
    /// Of the very same request: shrunk mean of ln cost, ln(1 + count), shares above the class borders.
    pub(crate) const SAME: usize = ROUTE_CODE + 1;
    /// What the means say together; each model puts its own there ([`crate::cost::anchor::Anchor::among`]), until then it is
    /// that of the finest key.
    pub(crate) const ANCHOR: usize = SAME + 5;
}

const _: () = assert!(place::ANCHOR + 1 == FEATURES && NUMBERS == 12 && CATEGORIES == 8);

/// What the trees see; as it was on arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features(pub [f32; FEATURES]);

/// A key with fewer observations does not answer by itself.
pub(crate) const ENOUGH: f32 = 3.0;

/// Names of the features, in their order.
pub const NAMES: [&str; FEATURES] = [
    "route: mean",
    "route: moving average",
    "route: last",
    "route: count",
    "source: mean",
    "source: moving average",
    "source: last",
    "source: count",
    "parameters: mean",
    "parameters: moving average",
    "parameters: last",
    "parameters: count",
    "fine parameters: mean",
    "fine parameters: moving average",
    "fine parameters: last",
    "fine parameters: count",
    "parameters of source: mean",
    "parameters of source: moving average",
    "parameters of source: last",
    "parameters of source: count",
    "same request: last",
    "same request: age",
    "source: age",
    "parameters: age",
    "parameters: spread",
    "parameters: tail",
    "all routes: recent deviation",
    "requests in flight",
    "number 1",
    "number 2",
    "number 3",
    "number 4",
    "number 5",
    "number 6",
    "number 7",
    "number 8",
    "number 9",
    "number 10",
    "number 11",
    "number 12",
    "category 1",
    "category 2",
    "category 3",
    "category 4",
    "category 5",
    "category 6",
    "category 7",
    "category 8",
    "share above light",
    "share above medium",
    "share above heavy",
    "route",
    "same request: mean",
    "same request: count",
    "same request: share above light",
    "same request: share above medium",
    "same request: share above heavy",
    "means together",
];

impl Features {
    /// ln cost that the per-key running means answered on arrival: fine parameter key, parameter key, route × source, or route.
    pub fn key_mean_log(&self) -> f32 {
        let seen = |at: usize| self.0[at + 3] >= ENOUGH.ln_1p() - 1e-4;
        if seen(place::FINE) {
            self.0[place::FINE]
        } else if seen(place::PARAMETERS) {
            self.0[place::PARAMETERS]
        } else if seen(place::SOURCE) {
            self.0[place::SOURCE]
        } else {
            self.route_mean_log()
        }
    }

    /// ln cost by the means together.
    pub(crate) fn anchor_log(&self) -> f32 {
        self.0[place::ANCHOR]
    }

    /// ln cost that the route's mean answered on arrival.
    pub fn route_mean_log(&self) -> f32 {
        self.0[place::ROUTE]
    }

    /// Shares of costs above the three class borders, of the best known key.
    pub(crate) fn shares_above(&self) -> [f32; 3] {
        std::array::from_fn(|border| self.0[place::ABOVE + border])
    }

    /// Whether every number can be reckoned with.
    pub(crate) fn is_sound(&self) -> bool {
        self.0.iter().all(|feature| feature.is_finite())
    }
}

impl Serialize for Features {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = Vec::<f32>::deserialize(deserializer)?;
        let row = numbers.try_into().map_err(|_| serde::de::Error::custom("another number of features"))?;
        Ok(Self(row))
    }
}
