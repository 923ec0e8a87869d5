//! Facts about a request that somebody describes instead of sending it through: for leases.
//!
//! The description uses the names of the configuration: route or pool, the consumer as the route's first source would give
//! it, parameters by their names. So a described request meets the same statistics as one that comes through the proxy.

use crate::extract::{CompiledRoutes, RequestFacts, slots};
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::id::{PoolId, RouteId};

/// A request in words. What is not said stays absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Description<'a> {
    /// Route by name; `None`: the first that leads to the pool.
    pub route: Option<&'a str>,
    /// Pool; `None`: the route's.
    pub pool: Option<PoolId>,
    /// Who asks.
    pub consumer: Option<&'a str>,
    /// Parameters by name.
    pub parameters: &'a [(&'a str, Given<'a>)],
}

/// Value of a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// A number.
    Number(f64),
    /// A word, or a number in words.
    Text(&'a str),
}

/// What is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// No route is called so, or none leads to that pool.
    Route,
    /// The route knows no parameter of this name.
    Parameter(String),
}

impl CompiledRoutes {
    /// The facts of a described request.
    ///
    /// # Errors
    /// Names that the configuration does not have.
    pub fn describe(&self, described: &Description<'_>) -> Result<RequestFacts, Unclear> {
        let fits = |index: usize| {
            let route = &self.routes[index];
            described.route.is_none_or(|name| name == route.settings.name)
                && route.pool.is_some_and(|own| described.pool.is_none_or(|pool| pool == own))
        };
        let index = (0..self.routes.len()).find(|&index| fits(index)).ok_or(Unclear::Route)?;
        let route = &self.routes[index];
        let pool = route.pool.ok_or(Unclear::Route)?;
        let id = RouteId(index as u16);
        let consumer_key = route.consumer.key_of(described.consumer.unwrap_or_default().as_bytes());
        let mut query = CostQuery::new(id, route.key, consumer_key);
        for (name, given) in described.parameters {
            let slot = slots(&route.settings).find(|(rule, _)| rule.name == *name).map(|(_, slot)| slot);
            let slot = slot.ok_or_else(|| Unclear::Parameter((*name).to_owned()))?;
            match *given {
                Given::Number(number) => slot.put_number(number, &mut query),
                Given::Text(text) => slot.put_text(text.trim().as_bytes(), &mut query),
            }
        }
        Ok(RequestFacts { route: id, pool, query, consumer_named: described.consumer.is_some() })
    }
}
