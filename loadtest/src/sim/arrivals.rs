//! From a scenario to a world: when requests come, what they ask, what they really cost.
//!
//! Heads go through the product's own extraction, so a scenario whose parameters the configuration does not name
//! leaves the cost model as blind as production would be.

use std::f64::consts::TAU;
use std::time::Duration;

use foretide_conf::scenario::{ArrivalShape, Campaign, Contender, CostShape, Dependence, Scenario, Traffic};
use foretide_forecast::calendar::ScheduledEvent;
use foretide_predictor::time::Timestamp;
use foretide_routing::extract::CompiledRoutes;
use foretide_routing::extract::head::PlainHead;
use foretide_routing::settings::{ParameterSource, RouteSettings, RoutingSettings};
use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp1, LogNormal, Pareto};
use rand_pcg::Pcg64Mcg;

use crate::replay::recording;
use crate::sim::run::{Arrival, Disturbance, World};
use crate::stream;

/// More requests than this in one scenario are cut off; at 200,000 a second of computing this is a minute.
const MOST_ARRIVALS: usize = 5_000_000;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The trace of counts.
    #[error("cannot read the trace {file}: {why}")]
    Trace {
        /// Its name.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Its requests match no route.
    #[error("requests for route '{route}' are not taken by it: {target}; an earlier route may take them")]
    Unrouted {
        /// Named route.
        route: String,
        /// A target that was tried.
        target: String,
    },
}

/// The world of a scenario as one contender lives in it; the same arrivals for all contenders.
///
/// # Errors
/// The trace cannot be read, or a request of the mix is not taken by its route.
pub fn world(scenario: &Scenario, contender: &Contender) -> Result<World, ScenarioError> {
    let mut settings = scenario.config.routing.clone();
    for pool in &mut settings.pools {
        pool.policy = contender.policy;
        pool.scaling.rule = contender.rule;
    }
    if let Some(campaign) = scenario.arrivals.campaign.filter(|campaign| campaign.announced) {
        settings.events.push(announced(campaign));
    }
    let arrivals = arrivals(scenario, &settings)?;
    Ok(World {
        arrivals,
        start: Timestamp::ZERO,
        speeds: scenario.world.speeds.clone(),
        cold_starts: vec![scenario.world.cold_start],
        network_delay: scenario.world.network_delay,
        disturbance: scenario.world.disturbance.map(|d| Disturbance {
            ratio: d.ratio,
            factor: d.factor,
            mean: d.mean,
        }),
        crashes: scenario.world.crashes.iter().map(|c| (Timestamp::ZERO.plus(c.at), c.instance)).collect(),
        settings,
        seed: scenario.seed,
    })
}

fn announced(campaign: Campaign) -> ScheduledEvent {
    let start = Timestamp::ZERO.plus(campaign.start);
    ScheduledEvent {
        name: "campaign".into(),
        start,
        end: start.plus(campaign.duration),
        ratio: campaign.ratio,
    }
}

fn arrivals(scenario: &Scenario, settings: &RoutingSettings) -> Result<Vec<Arrival>, ScenarioError> {
    let routes = CompiledRoutes::compile(settings);
    let total: f64 = scenario.mix.iter().map(|traffic| traffic.share).sum();
    let mut mix = stream::named(scenario.seed, "mix");
    let mut costs = stream::named(scenario.seed, "costs");
    let mut parameters = stream::named(scenario.seed, "parameters");
    times(scenario)?
        .into_iter()
        .map(|at| {
            let traffic = pick(&scenario.mix, mix.random::<f64>() * total);
            let route = settings.routes.iter().find(|route| route.name == traffic.route);
            let value = traffic.parameter.as_ref().map(|p| draw_value(p, &mut parameters));
            let consumer = parameters.random_range(0..traffic.consumers.max(1));
            let head = head_for(route, traffic, value, consumer);
            let facts = routes
                .extract(&head)
                .filter(|facts| routes.route(facts.route).name == traffic.route)
                .ok_or_else(|| ScenarioError::Unrouted {
                    route: traffic.route.clone(),
                    target: head.path.clone(),
                })?;
            let work_us =
                1e3 * draw_ms(traffic.cost, &mut costs) * dependence(traffic.parameter.as_ref(), value);
            Ok(Arrival { at, facts, work_us })
        })
        .collect()
}

fn pick(mix: &[Traffic], mut at: f64) -> &Traffic {
    for traffic in mix {
        at -= traffic.share;
        if at < 0.0 {
            return traffic;
        }
    }
    // Rounding at the very end; conf guarantees at least one.
    &mix[mix.len() - 1]
}

fn times(scenario: &Scenario) -> Result<Vec<Timestamp>, ScenarioError> {
    let mut rng = stream::named(scenario.seed, "arrivals");
    let campaign = scenario.arrivals.campaign;
    let boost = |t: f64| campaign.map_or(1.0, |c| if within(c, t) { c.ratio } else { 1.0 });
    let most = campaign.map_or(1.0, |c| c.ratio.max(1.0));
    let length = scenario.duration.as_secs_f64();
    Ok(match &scenario.arrivals.shape {
        ArrivalShape::Poisson { rate_per_s } => {
            thin(length, rate_per_s * most, |t| rate_per_s * boost(t), &mut rng)
        }
        ArrivalShape::Daily { rate_per_s, day, amplitude } => {
            let rate =
                |t: f64| rate_per_s * (1.0 - amplitude * (TAU * t / day.as_secs_f64()).cos()) * boost(t);
            thin(length, rate_per_s * (1.0 + amplitude) * most, rate, &mut rng)
        }
        ArrivalShape::TraceCsv { path, step, scale } => {
            let counts = read_counts(&path.display().to_string())?;
            let step_s = step.as_secs_f64();
            let rate = |t: f64| {
                let count = counts.get((t / step_s) as usize).copied().unwrap_or(0.0);
                count * scale / step_s * boost(t)
            };
            let peak = counts.iter().copied().fold(0.0, f64::max) * scale / step_s * most;
            thin(length.min(counts.len() as f64 * step_s), peak, rate, &mut rng)
        }
    })
}

fn within(campaign: Campaign, t: f64) -> bool {
    let start = campaign.start.as_secs_f64();
    (start..start + campaign.duration.as_secs_f64()).contains(&t)
}

/// Thinning (Lewis and Shedler 1979).
fn thin(length_s: f64, most: f64, rate: impl Fn(f64) -> f64, rng: &mut Pcg64Mcg) -> Vec<Timestamp> {
    let mut times = Vec::new();
    let mut t = 0.0;
    while most > 0.0 && times.len() < MOST_ARRIVALS {
        let gap: f64 = Exp1.sample(rng);
        t += gap / most;
        if t >= length_s {
            break;
        }
        if rng.random::<f64>() * most < rate(t) {
            times.push(Timestamp::ZERO.plus(Duration::from_secs_f64(t)));
        }
    }
    times
}

/// Names that recordings of load use for requests per step.
const COUNT_COLUMNS: [&str; 3] = ["count", "y", "requests"];

fn read_counts(file: &str) -> Result<Vec<f64>, ScenarioError> {
    let broken = |why: String| ScenarioError::Trace { file: file.to_owned(), why };
    let opened = recording::open(file.as_ref()).map_err(|error| broken(error.to_string()))?;
    let mut reader = csv::Reader::from_reader(opened);
    let heads = reader.headers().map_err(|error| broken(error.to_string()))?.clone();
    let column = (heads.iter().position(|head| COUNT_COLUMNS.contains(&head.trim())))
        .ok_or_else(|| broken(format!("no column {}", COUNT_COLUMNS.join(", "))))?;
    reader
        .records()
        .map(|record| {
            let record = record.map_err(|error| broken(error.to_string()))?;
            let cell = record.get(column).unwrap_or_default();
            cell.trim().parse::<f64>().ok().filter(|count| count.is_finite() && *count >= 0.0).ok_or_else(
                || {
                    broken(format!(
                        "line {}: '{cell}' is no count",
                        record.position().map_or(0, csv::Position::line)
                    ))
                },
            )
        })
        .collect()
}

fn draw_value(parameter: &Dependence, rng: &mut Pcg64Mcg) -> f64 {
    (parameter.low + rng.random::<f64>() * (parameter.high - parameter.low)).round().max(1.0)
}

fn dependence(parameter: Option<&Dependence>, value: Option<f64>) -> f64 {
    match (parameter, value) {
        (Some(p), Some(value)) => (value / ((p.low + p.high) / 2.0)).powf(p.power),
        _ => 1.0,
    }
}

fn draw_ms(shape: CostShape, rng: &mut Pcg64Mcg) -> f64 {
    match shape {
        CostShape::Constant { mean_ms } => mean_ms,
        CostShape::Lognormal { mean_ms, sigma } => {
            // mean = exp(mu + sigma²/2); conf has checked that both make a distribution.
            LogNormal::new(mean_ms.ln() - sigma * sigma / 2.0, sigma).map_or(mean_ms, |d| d.sample(rng))
        }
        CostShape::Pareto { mean_ms, alpha } => {
            Pareto::new(mean_ms * (alpha - 1.0) / alpha, alpha).map_or(mean_ms, |d| d.sample(rng))
        }
        CostShape::Bimodal { light_ms, heavy_ms, heavy_ratio } => {
            if rng.random::<f64>() < heavy_ratio {
                heavy_ms
            } else {
                light_ms
            }
        }
    }
}

/// A head that the route takes and that carries the parameter where the route reads it.
fn head_for(
    route: Option<&RouteSettings>,
    traffic: &Traffic,
    value: Option<f64>,
    consumer: u32,
) -> PlainHead {
    let matches = route.map(|route| &route.matches);
    let named = traffic.parameter.as_ref().map(|parameter| parameter.name.as_str());
    let rule = route.and_then(|r| r.parameters.iter().find(|rule| Some(rule.name.as_str()) == named));
    let shown = value.map(|value| format!("{value}"));
    let template = matches.and_then(|m| m.path_template.clone().or_else(|| m.path_prefix.clone()));
    let capture = match rule.map(|rule| &rule.source) {
        Some(ParameterSource::PathCapture(name)) => Some(name.clone()),
        _ => None,
    };
    let mut target = fill(&template.unwrap_or_else(|| "/".into()), capture.as_deref(), shown.as_deref());
    if let (Some(ParameterSource::Query(name)), Some(value)) = (rule.map(|rule| &rule.source), &shown) {
        target = format!("{target}?{name}={value}");
    }
    let method = matches.and_then(|m| m.methods.first()).map_or("GET", String::as_str);
    let tenant = format!("tenant-{consumer}");
    let mut head = PlainHead::new(method, &target).with_header("x-tenant", tenant.as_bytes());
    if let Some(host) = matches.and_then(|m| m.host.as_deref()) {
        head = head.with_host(&host.replacen('*', "any", 1));
    }
    match (rule.map(|rule| &rule.source), shown) {
        (Some(ParameterSource::Header(name)), Some(value)) => head.with_header(name, value.as_bytes()),
        (Some(ParameterSource::ContentLength), Some(value)) => {
            head.with_header("content-length", value.as_bytes())
        }
        _ => head,
    }
}

fn fill(template: &str, capture: Option<&str>, value: Option<&str>) -> String {
    let segments = template.split('/').map(|segment| {
        let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else { return segment };
        if Some(name.trim_start_matches('*')) == capture { value.unwrap_or("any") } else { "any" }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_mean_rate_and_the_seed() {
        let seed = 3;
        println!("seed {seed}");
        let draw =
            || thin(1_000.0, 30.0, |t| if t < 500.0 { 10.0 } else { 30.0 }, &mut stream::named(seed, "a"));
        let times = draw();
        assert_eq!(times, draw());
        // 20,000 expected, standard deviation 141.
        assert!((times.len() as f64 - 20_000.0).abs() < 700.0, "{}", times.len());
    }

    #[test]
    fn traces_may_be_recordings_of_load() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "unique_id,ds,y\na,2024-01-01 00:00:00,3\na,2024-01-01 00:01:00,4.5\n").unwrap();
        assert_eq!(read_counts(path).unwrap(), [3.0, 4.5]);
        std::fs::write(path, "ds,load\n1,2\n").unwrap();
        assert!(read_counts(path).unwrap_err().to_string().contains("count, y, requests"));
    }

    #[test]
    fn templates_are_filled_with_the_parameter() {
        assert_eq!(fill("/report/{kind}/{n}", Some("n"), Some("7")), "/report/any/7");
    }

    #[test]
    fn heavy_shapes_have_the_mean_they_promise() {
        let mut rng = stream::named(5, "costs");
        for shape in [
            CostShape::Lognormal { mean_ms: 10.0, sigma: 1.0 },
            CostShape::Pareto { mean_ms: 10.0, alpha: 3.0 },
            CostShape::Bimodal { light_ms: 1.0, heavy_ms: 91.0, heavy_ratio: 0.1 },
        ] {
            let n = 200_000;
            let mean = (0..n).map(|_| draw_ms(shape, &mut rng)).sum::<f64>() / f64::from(n);
            assert!((mean - 10.0).abs() < 0.5, "{shape:?}: {mean}");
        }
    }
}
