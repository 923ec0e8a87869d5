//! Compiled rules: from a request's head to a [`CostQuery`].
//!
//! Routes are tried in order, the first that matches wins ([`matching`]). Its consumer sources are tried in order, the
//! client's address is the last resort ([`consumer`]); its parameters become numbers or hashes ([`parameter`]). Reading
//! a head allocates nothing. JSON bodies are read only where a route asks for them ([`body`]).
//!
//! A value that cannot be read is *absent*, never an error: what drives cost must not be able to refuse a request.
//! High cardinality ends here: consumers and categories are hashes, and the maps keyed by them have caps of their own.
//!
//! Known weakness: routes are matched one after another, so time grows with their number; hundreds are fine.

pub mod body;
pub mod consumer;
pub mod described;
pub mod head;
pub mod jwt;
pub mod matching;
pub mod parameter;
pub mod percent;

use crate::extract::body::BodyReader;
use crate::extract::consumer::ConsumerReader;
use crate::extract::matching::Matcher;
use crate::extract::parameter::{ParameterReader, Slot};
use crate::settings::{ParameterKind, ParameterRule, ParameterSource, RouteSettings, RoutingSettings};
use core::net::IpAddr;
use foretide_predictor::cost::query::{CATEGORIES, CostQuery, NUMBERS};
use foretide_predictor::hash;
use foretide_predictor::id::{PoolId, RouteId};

/// What extraction reads of a request; implemented by the engine's request and by the simulator's.
pub trait RequestHead {
    /// Method, upper case.
    fn method(&self) -> &str;
    /// Host without port, if sent (`Host` or `:authority`).
    fn host(&self) -> Option<&str>;
    /// Path without query, as sent.
    fn path(&self) -> &str;
    /// Query without `?`.
    fn query(&self) -> Option<&str>;
    /// First value of a header (lower-case name).
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The client's address.
    fn client(&self) -> Option<IpAddr>;
    /// Subject of the client's certificate.
    fn mtls_subject(&self) -> Option<&str>;
}

/// What is known about a request before it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestFacts {
    /// Route taken.
    pub route: RouteId,
    /// Pool it names.
    pub pool: PoolId,
    /// What the cost model is asked.
    pub query: CostQuery,
    /// False when none of the route's sources named a consumer and the address stood in.
    pub consumer_named: bool,
}

/// All routes of one generation, compiled.
#[derive(Debug)]
pub struct CompiledRoutes {
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    settings: RouteSettings,
    key: u64,
    /// `None`: the pool does not exist; such a route takes nothing.
    pool: Option<PoolId>,
    matcher: Matcher,
    consumer: ConsumerReader,
    parameters: Vec<ParameterReader>,
    body: BodyReader,
}

impl CompiledRoutes {
    /// Compiles checked settings. Errors here are defects of `conf`, which has checked everything: a route whose pool
    /// is missing takes no request, a parameter beyond the width of [`CostQuery`] is not read.
    pub fn compile(settings: &RoutingSettings) -> Self {
        let pool = |name: &str| settings.pools.iter().position(|pool| pool.name == name);
        let compile = |route: &RouteSettings| Route::compile(route, pool(&route.pool));
        Self { routes: settings.routes.iter().map(compile).collect() }
    }

    /// First matching route with all it needs from the head. No allocation. `None`: no route (404).
    pub fn extract(&self, head: &impl RequestHead) -> Option<RequestFacts> {
        let (index, route, pool) = self
            .routes
            .iter()
            .enumerate()
            .filter_map(|(index, route)| Some((index, route, route.pool?)))
            .find(|(_, route, _)| route.matcher.takes(head))?;
        let id = RouteId(index as u16);
        let (consumer_key, consumer_named) = route.consumer.read(head);
        let mut query = CostQuery::new(id, route.key, consumer_key);
        for parameter in &route.parameters {
            parameter.read(head, &mut query);
        }
        Some(RequestFacts { route: id, pool, query, consumer_named })
    }

    /// Settings of a route of this generation.
    pub fn route(&self, route: RouteId) -> &RouteSettings {
        &self.routes[route.index()].settings
    }

    /// Bytes of body the route wants to see before the choice; 0: none.
    pub fn body_limit(&self, route: RouteId) -> usize {
        let route = &self.routes[route.index()];
        if route.body.is_empty() { 0 } else { route.settings.body_limit_bytes }
    }

    /// Fills in the route's JSON fields from a body of at most [`Self::body_limit`] bytes (more is not looked at); what
    /// is missing or malformed stays absent. Never panics; bounded depth.
    pub fn read_body(&self, facts: &mut RequestFacts, body: &[u8]) {
        let seen = &body[..body.len().min(self.body_limit(facts.route))];
        self.routes[facts.route.index()].body.read(seen, &mut facts.query);
    }
}

impl Route {
    fn compile(settings: &RouteSettings, pool: Option<usize>) -> Self {
        let matcher = Matcher::compile(&settings.matches);
        let mut parameters = Vec::new();
        let mut body = BodyReader::default();
        for (rule, slot) in slots(settings) {
            match &rule.source {
                ParameterSource::JsonField(pointer) => body.add(pointer, slot),
                source => parameters.extend(ParameterReader::compile(source, slot, &matcher)),
            }
        }
        Self {
            key: hash::bytes(settings.name.as_bytes()),
            pool: pool.map(|index| PoolId(index as u16)),
            matcher,
            consumer: ConsumerReader::compile(&settings.consumer),
            parameters,
            body,
            settings: settings.clone(),
        }
    }
}

/// Where each parameter of a route goes in the query; those beyond its width go nowhere.
fn slots(settings: &RouteSettings) -> impl Iterator<Item = (&ParameterRule, Slot)> {
    let (mut numbers, mut categories) = (0, 0);
    settings.parameters.iter().filter_map(move |rule| {
        let (used, room) = match rule.kind {
            ParameterKind::Number => (&mut numbers, NUMBERS),
            ParameterKind::Category => (&mut categories, CATEGORIES),
        };
        *used += 1;
        (*used <= room).then(|| (rule, Slot { kind: rule.kind, index: *used - 1 }))
    })
}
