//! Settings of routes and pools, already checked: every value here is in range. `conf` makes them from text.

use std::path::PathBuf;
use std::time::Duration;

use crate::settings::choice::{ChoiceSettings, Endpoint};
use foretide_forecast::calendar::ScheduledEvent;
use foretide_steering::admission::Priority;
use foretide_steering::score::Form;
use serde::{Deserialize, Serialize};

pub mod choice;

/// Everything the pure half needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingSettings {
    /// In order: the first that matches wins. At most 65,535.
    pub routes: Vec<RouteSettings>,
    /// Pools that routes name by index.
    pub pools: Vec<PoolSettings>,
    /// Announced events, for all pools.
    pub events: Vec<ScheduledEvent>,
    /// How to learn and forecast.
    pub learning: LearningSettings,
    /// Seed of every random choice.
    pub seed: u64,
}

/// How to learn and forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningSettings {
    /// Width of a step of the load history: a minute in production, less in the demo.
    pub step: Duration,
    /// Season lengths in steps.
    pub seasons: Vec<usize>,
    /// Horizons shown to people, in steps (5, 15 and 30 minutes).
    pub horizons: Vec<usize>,
    /// Steps of history kept in memory.
    pub history_steps: usize,
    /// A forecast is refitted this often.
    pub refit_every: Duration,
    /// The cost model is retrained no more often than this.
    pub retrain_every: Duration,
    /// ... and only after so many new finished requests.
    pub retrain_rows: usize,
    /// Rows in the training sample.
    pub reservoir_rows: usize,
    /// Cells in the table of running statistics.
    pub key_cells: usize,
    /// Trees of the cost model.
    pub trees: usize,
    /// Depth of its trees.
    pub depth: usize,
    /// Tier 2 on or off (off: running means only).
    pub cost_model: bool,
    /// Other policies are tried on the same requests in shadow fleets, to say what prediction is worth.
    pub shadow: bool,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSettings {
    /// Unique name.
    pub name: String,
    /// Which requests it takes.
    pub matches: RouteMatch,
    /// Name of the pool in [`RoutingSettings::pools`]; `conf` guarantees it exists.
    pub pool: String,
    /// Where to read who asks, tried in order; the client's address is always the last resort.
    pub consumer: Vec<ConsumerSource>,
    /// What drives cost. At most `NUMBERS` numeric and `CATEGORIES` categorical ones.
    pub parameters: Vec<ParameterRule>,
    /// JSON bodies are read up to this many bytes for `ParameterSource::JsonField`; 0: never.
    pub body_limit_bytes: usize,
    /// Whole request, from its head to the end of the response; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// What its requests may expect when there is too much.
    pub level: ServiceLevel,
}

/// What requests may expect when there is too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceLevel {
    /// Later than this an answer is worth nothing; `None`: the pool's objective, where the pool has admission.
    pub latency: Option<Duration>,
    /// Who is refused first, and who waits longer.
    pub priority: Priority,
}

/// Conditions of a route, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteMatch {
    /// Host without port, lower case; `*.example.org` takes any subdomain; `None`: any.
    pub host: Option<String>,
    /// Path prefix on segment borders (`/api` takes `/api` and `/api/x`, not `/apis`).
    pub path_prefix: Option<String>,
    /// Path template, e.g. `/users/{id}/orders`; `{*rest}` takes all that is left.
    pub path_template: Option<String>,
    /// Upper-case methods; empty: any.
    pub methods: Vec<String>,
}

/// Where to read who asks.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerSource {
    /// A header's value (lower-case name).
    Header(String),
    /// An API key: this header, hashed so that the key itself is never kept or shown.
    ApiKey(String),
    /// A claim of the JWT in `Authorization: Bearer`; its signature is NOT verified: for load decisions only.
    UnverifiedJwtClaim(String),
    /// Subject of the client's certificate.
    MtlsSubject,
    /// Client address cut to this many leading bits (IPv4, IPv6).
    ClientPrefix {
        /// 0 to 32.
        v4_bits: u8,
        /// 0 to 128.
        v6_bits: u8,
    },
}

/// One parameter that drives cost.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterRule {
    /// For people.
    pub name: String,
    /// Where to read it.
    pub source: ParameterSource,
    /// How to read it.
    pub kind: ParameterKind,
}

/// Where to read a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterSource {
    /// The request method.
    Method,
    /// A capture of the route's path template.
    PathCapture(String),
    /// A path segment by position, 0 first.
    PathSegment(usize),
    /// A query parameter.
    Query(String),
    /// A header (lower-case name).
    Header(String),
    /// `Content-Length`.
    ContentLength,
    /// `Content-Type` without its parameters.
    ContentType,
    /// A field of a JSON body by JSON pointer (RFC 6901), e.g. `/prompt/length`; for a string its length if numeric,
    /// for an array its number of elements.
    JsonField(String),
}

/// How to read a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A number >= 0.
    Number,
    /// A word, hashed.
    Category,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    /// Unique name.
    pub name: String,
    /// How instances are chosen.
    pub policy: Policy,
    /// What narrows that choice or bends it.
    pub choice: ChoiceSettings,
    /// Instances that are simply there.
    pub endpoints: Vec<Endpoint>,
    /// Starts and stops further ones; `None`: only `endpoints`.
    pub manager: Option<ProcessManager>,
    /// How many instances there should be.
    pub scaling: ScalingSettings,
    /// Requests one instance works on at full speed at the same time (its cores or workers).
    pub concurrency: u32,
    /// How its instances work on several requests, and who gives way.
    pub serving: ServingSettings,
    /// Gateway mode: requests wait here and go to the first instance with a free slot; `None`: they wait at the instances.
    pub queue: Option<QueueSettings>,
    /// Refuse what would be late anyway; `None`: everybody comes in.
    pub admission: Option<AdmissionSettings>,
    /// Others' requests on the instances are asked for and minded; `None`: only this proxy's own are.
    pub sight: Option<SightSettings>,
    /// Work ramp of a new instance from a tenth of its share to all of it.
    pub slow_start: Duration,
    /// Active checks.
    pub health: HealthSettings,
    /// Passive ejection.
    pub ejection: EjectionSettings,
    /// Retries.
    pub retry: RetrySettings,
    /// A second instance for light requests that wait for too long; `None`: never.
    pub hedge: Option<HedgeSettings>,
    /// How to talk to instances.
    pub upstream: UpstreamSettings,
    /// A request that took longer is over its objective.
    pub objective: Duration,
}

/// How a pool's instances work on several requests at once, and who gives way when they do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServingSettings {
    /// As the operator says; `None`: found out.
    pub form: Option<Form>,
    /// How much heavy requests avoid lighter ones under processor sharing, 0 to 10: 0 makes the mean latency smallest,
    /// more lowers the slowdown of light requests at the price of the tail of heavy ones. `None`: more, the less the
    /// instances differ in speed.
    pub heavy_yields: Option<f32>,
}

/// How to learn what other proxies have in flight on a pool's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SightSettings {
    /// Instances asked beside each request, never in its way.
    pub probes: u32,
    /// Where they are asked, with GET.
    pub path: String,
    /// An answer that takes longer is of no use.
    pub timeout: Duration,
    /// What was heard longer ago says no more than the fleet's mean.
    pub max_age: Duration,
}

/// Where requests wait while all slots of a pool are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Requests that may wait; further ones are refused at once.
    pub limit: usize,
    /// How long one may wait.
    pub timeout: Duration,
}

/// Whom to refuse when there is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdmissionSettings {
    /// Share of its deadline that the predicted latency of a request of normal priority may take, 0 to 1.
    pub margin: f64,
    /// What requests may say of themselves.
    pub client_hints: ClientHints,
    /// Requests per slot that the concurrency limit, a backstop, never goes below ...
    pub least_per_slot: u32,
    /// ... and never above.
    pub most_per_slot: u32,
}

/// How far to believe `x-slo-latency-ms` and `x-priority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientHints {
    /// Not at all.
    Ignore,
    /// As far as they ask for less than the route gives: safe with strangers.
    #[default]
    Lower,
    /// Fully, within bounds: for clients that are one's own.
    Trust,
}

/// How an instance is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Smallest blended score of all instances.
    #[default]
    Predictive,
    /// In turn.
    RoundRobin,
    /// In turn, as often as the endpoints' weights say; nginx's smooth weighted round robin.
    Weighted,
    /// Fewest requests in flight of all instances.
    LeastRequest,
    /// Two at random, fewer in flight.
    P2c,
    /// Two at random, smaller (peak EWMA of latency × requests in flight); Finagle's.
    PeakEwma,
    /// Of sixteen instances probed lately the one with the lowest latency that is not among the busiest; Google's.
    Prequal,
    /// Consistent hash of the consumer on a ring; libketama's.
    Ketama,
    /// Consistent hash of the consumer in a table; Google's.
    Maglev,
}

/// Local producers started from a command.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessManager {
    /// Program and arguments; `{port}` and `{instance}` are replaced in each.
    pub command: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
    /// Ports to use, first and last.
    pub ports: (u16, u16),
    /// Path probed until it answers 2xx: ready.
    pub ready_path: String,
    /// Requests sent to a ready instance before it takes traffic, as paths; warms caches.
    pub warm_paths: Vec<String>,
    /// A start that takes longer has failed.
    pub start_timeout: Duration,
    /// SIGTERM, then this long, then SIGKILL.
    pub stop_grace: Duration,
}

/// Whether plans are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalingMode {
    /// Only look.
    #[default]
    Observe,
    /// Say what one would do.
    Advise,
    /// Do it.
    Act,
}

/// What sizes a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingRule {
    /// Forecast of cost at now + lead time.
    #[default]
    Predictive,
    /// What Kubernetes' HPA does on request rate: ceil(instances × rate per instance / target), tolerance 0.1,
    /// scale-down stabilisation. Here for comparison and for those who want it.
    RequestRate,
}

/// Hard limits and wishes. The limits hold whatever a model says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalingSettings {
    /// Whether plans are carried out.
    pub mode: ScalingMode,
    /// What sizes the fleet.
    pub rule: ScalingRule,
    /// Fewest instances.
    pub floor: u32,
    /// Most instances.
    pub ceiling: u32,
    /// Most instances started by one plan.
    pub step_up: u32,
    /// Most instances released by one plan.
    pub step_down: u32,
    /// Least time between a change and a following release.
    pub cooldown: Duration,
    /// Share of capacity to use, 0 to 1.
    pub target_utilisation: f64,
    /// Requests a second per instance that `RequestRate` aims at; `None`: learned from the first steady minute.
    pub target_rate_per_s: Option<f64>,
    /// Lead time assumed until cold starts have been measured.
    pub assumed_lead: Duration,
    /// A draining instance with requests left is stopped after this.
    pub drain_timeout: Duration,
}

/// Active health checks.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    /// Path asked with GET; `None`: only a TCP connect.
    pub path: Option<String>,
    /// Time between checks.
    pub every: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// Failures in a row that make an instance unhealthy.
    pub unhealthy_after: u32,
    /// Successes in a row that make it healthy again.
    pub healthy_after: u32,
}

/// Passive ejection: what clients' requests show.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionSettings {
    /// Failures in a row (5xx by the producer, connect errors, timeouts) that eject an instance; 0: never.
    pub consecutive_failures: u32,
    /// Ejection of who fails clearly more often than the others; `None`: never.
    pub success_rate: Option<SuccessRateSettings>,
    /// First ejection; each further one is longer by this.
    pub base: Duration,
    /// Longest ejection.
    pub longest: Duration,
    /// Largest share of a pool that may be ejected, 0 to 1.
    pub cap_ratio: f64,
    /// Below this share of healthy instances all are used again (panic), 0 to 1.
    pub panic_ratio: f64,
}

/// Comparing the success rates of a pool's instances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRateSettings {
    /// Standard deviations below the mean that are too many.
    pub stdev_factor: f64,
    /// Fewer instances with enough requests are not compared.
    pub hosts: u32,
    /// Requests of an instance between two comparisons that are enough.
    pub requests: u32,
    /// Time between two comparisons.
    pub every: Duration,
}

/// Retries, only where they are safe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySettings {
    /// Tries in all, 1: no retry.
    pub attempts: u32,
    /// Retries per request over the last ten seconds, 0 to 1.
    pub budget_ratio: f64,
    /// Retries a second that are always allowed.
    pub budget_floor_per_s: f64,
}

/// When to send a light request to a second instance as well, see [`crate::hedge`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgeSettings {
    /// How long to wait for the first one.
    pub after: HedgeAfter,
    /// Hedges per request that might be hedged over the last ten seconds, 0 to 1.
    pub budget: f64,
}

/// How long to wait before a hedge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// As long as this share of first instances take at most, 0.5 to 0.999.
    Quantile(f64),
    /// So long.
    Fixed(Duration),
}

/// How to talk to instances.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSettings {
    /// TLS to the instance, with this server name.
    pub tls_server_name: Option<String>,
    /// PEM file of the authorities that may vouch for that name; `None`: the platform's.
    pub tls_ca: Option<PathBuf>,
    /// HTTP/2 (over TLS by ALPN, else with prior knowledge).
    pub http2: bool,
    /// TCP and TLS set-up.
    pub connect_timeout: Duration,
    /// From the request sent to the first byte of the response.
    pub first_byte_timeout: Duration,
    /// Between two reads of a body, and of a pooled connection's life unused.
    pub idle_timeout: Duration,
    /// What a request costs is what its instance says in its load report; `None`: what was measured.
    pub cost_from: Option<ReportedCost>,
    /// Whether clients see the instances' load reports.
    pub pass_load_report: bool,
    /// How often instances shall say their utilisation beside all answers (ORCA out of band); `None`: they are not asked.
    pub load_stream: Option<Duration>,
}

/// A cost that instances report with their answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedCost {
    /// `request_cost.NAME` or `named_metrics.NAME`, as a load report (ORCA) spells it.
    pub field: String,
    /// Work that one of it is, as time of service on an instance of speed 1.
    pub unit: Duration,
}
