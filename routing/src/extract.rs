//! Compiled rules: from a request's head to a [`CostQuery`] (contract; body to come).
use crate::settings::RoutingSettings;
use foretide_predictor::cost::query::CostQuery;
use foretide_predictor::id::{PoolId, RouteId};
use std::net::IpAddr;

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
pub struct CompiledRoutes {}

impl CompiledRoutes {
    /// Compiles checked settings. Errors here are defects of `conf`, which has checked everything.
    pub fn compile(_settings: &RoutingSettings) -> Self {
        todo!()
    }
    /// First matching route with all it needs from the head. No allocation. `None`: no route (404).
    pub fn extract(&self, _head: &impl RequestHead) -> Option<RequestFacts> {
        todo!()
    }
    /// Settings of a route.
    pub fn route(&self, _route: RouteId) -> &crate::settings::RouteSettings {
        todo!()
    }
    /// Bytes of body the route wants to see before the choice; 0: none.
    pub fn body_limit(&self, _route: RouteId) -> usize {
        todo!()
    }
    /// Fills in the route's JSON fields from a body of at most [`Self::body_limit`] bytes; what is missing or
    /// malformed stays absent. Never panics; bounded depth.
    pub fn read_body(&self, _facts: &mut RequestFacts, _body: &[u8]) {
        todo!()
    }
}
