//! The report as Prometheus text, written when asked for.
//!
//! Why not gauges of the `metrics` crate: a recorder keeps every series it ever saw, so an instance that is gone would
//! show its last score for ever; its idle timeout would also end series whose cached handles are merely quiet. Here a
//! series lives exactly as long as what it describes.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::fmt::Write;

use foretide_control::report::{InstanceReport, PoolReport, StatusReport};
use foretide_routing::table::InstanceState;
use foretide_steering::score::Form;

use super::metrics::word;

/// States of an instance; each is a series, 1 for the one it is in.
const STATES: [InstanceState; 6] = [
    InstanceState::Cold,
    InstanceState::Warming,
    InstanceState::Warm,
    InstanceState::Draining,
    InstanceState::Unhealthy,
    InstanceState::Ejected,
];

/// Appends all state metrics to `out`.
pub(super) fn write(report: &StatusReport, out: &mut String) {
    load_scores(report, out);
    utilisations(report, out);
    states(report, out);
    let tiers = report.weights;
    let mut weights =
        Family::new(out, "foretide_tier_weight", "Weight of a tier in the load score; they sum to 1.");
    for (tier, weight) in [("baseline", tiers.baseline), ("cost", tiers.cost), ("peers", tiers.peers)] {
        weights.sample(&[("tier", tier)], weight);
    }
    predictions(report, out);
    shadows(report, out);
    forecasts(report, out);
    fleets(report, out);
    forms(report, out);
    members(report, out);
    let mut generation =
        Family::new(out, "foretide_table_generation", "Generation of the routing table in service.");
    generation.sample(&[], report.generation as f64);
}

fn load_scores(report: &StatusReport, out: &mut String) {
    let help =
        "Load score of an instance by tier, share of its capacity; tier total is the blend that decides.";
    let mut family = Family::new(out, "foretide_instance_load_score", help);
    for (pool, instance) in instances(report) {
        let load = &instance.load;
        let tiers = [
            ("total", load.total),
            ("baseline", load.loads.baseline),
            ("cost", load.loads.cost),
            ("peers", load.loads.peers),
        ];
        for (tier, value) in tiers {
            if let Some(value) = value {
                family.sample(&[("pool", &pool.name), ("instance", &name(instance)), ("tier", tier)], value);
            }
        }
    }
}

fn utilisations(report: &StatusReport, out: &mut String) {
    let help = "Share of a resource in use, as the instance says in its load reports of the last seconds.";
    let mut family = Family::new(out, "foretide_instance_utilization", help);
    for (pool, instance) in instances(report) {
        let Some(said) = instance.utilisation else { continue };
        let resources = [("cpu", said.cpu), ("memory", said.memory), ("application", said.application)];
        for (resource, share) in resources {
            let Some(share) = share else { continue };
            let labels = [("pool", &*pool.name), ("instance", &*name(instance)), ("resource", resource)];
            family.sample(&labels, f64::from(share));
        }
    }
}

fn states(report: &StatusReport, out: &mut String) {
    let mut family =
        Family::new(out, "foretide_instance_state", "1 for the state an instance is in, else 0.");
    for (pool, instance) in instances(report) {
        for state in STATES {
            let labels = [("pool", &*pool.name), ("instance", &*name(instance)), ("state", &*word(&state))];
            family.sample(&labels, f64::from(u8::from(instance.state == state)));
        }
    }
}

fn predictions(report: &StatusReport, out: &mut String) {
    let help =
        "Share of the route mean's deviance that predicted costs take away; 0 and less: they know nothing.";
    let mut skills = Family::new(out, "foretide_prediction_skill", help);
    for gate in &report.gates {
        if let Some(skill) = gate.skill {
            skills.sample(&[("route", &gate.route)], skill);
        }
    }
    let help = "How far predicted costs steer on a route: 1 fully, 0 its mean steers.";
    let mut weights = Family::new(out, "foretide_prediction_weight", help);
    for gate in &report.gates {
        weights.sample(&[("route", &gate.route)], gate.weight);
    }
}

fn shadows(report: &StatusReport, out: &mut String) {
    let shadows = || report.pools.iter().filter_map(|pool| Some((&*pool.name, pool.shadow.as_ref()?)));
    let help = "Mean latency that a policy would have had on the latest requests, in a shadow fleet; measured: really had.";
    let mut means = Family::new(out, "foretide_shadow_mean_seconds", help);
    for (pool, shadow) in shadows() {
        for one in &shadow.policies {
            means.sample(&[("pool", pool), ("policy", one.policy.name())], one.figures.mean_s);
        }
        if let Some(measured) = shadow.measured {
            means.sample(&[("pool", pool), ("policy", "measured")], measured.mean_s);
        }
    }
    let help =
        "Shadow of the predictive policy over that of the best other one; below 1 prediction is better.";
    let mut worths = Family::new(out, "foretide_prediction_worth", help);
    for (pool, worth) in shadows().filter_map(|(pool, shadow)| Some((pool, shadow.worth?))) {
        for (metric, ratio) in
            [("mean", worth.mean), ("p99", worth.p99), ("mean_slowdown", worth.mean_slowdown)]
        {
            worths.sample(&[("pool", pool), ("metric", metric)], ratio);
        }
    }
}

fn forecasts(report: &StatusReport, out: &mut String) {
    let help =
        "Forecast work rate by horizon in steps, seconds of service per second, with its 90 % interval.";
    let mut rates = Family::new(out, "foretide_forecast_work_rate", help);
    for pool in &report.pools {
        for &steps in &pool.horizons {
            let point =
                pool.forecast.as_ref().and_then(|forecast| forecast.points.get(steps.checked_sub(1)?));
            let Some(load) = point.map(|point| point.load) else { continue };
            for (bound, value) in [("mean", load.mean()), ("low", load.low()), ("high", load.high())] {
                rates.sample(
                    &[("pool", &pool.name), ("horizon", &steps.to_string()), ("bound", bound)],
                    value,
                );
            }
        }
    }
    let help = "Share of actual work rates that were inside the forecast's interval; 0.9 is right.";
    let mut coverage = Family::new(out, "foretide_forecast_coverage_ratio", help);
    for pool in &report.pools {
        if let Some(value) = pool.coverage {
            coverage.sample(&[("pool", &pool.name)], value);
        }
    }
    let help = "Forecast error over that of repeating the last season; below 1 is better.";
    let mut mase = Family::new(out, "foretide_forecast_mase", help);
    for pool in &report.pools {
        if let Some(score) = pool.forecast.as_ref().and_then(|forecast| forecast.score) {
            mase.sample(&[("pool", &pool.name)], score.mase);
        }
    }
}

fn fleets(report: &StatusReport, out: &mut String) {
    type Value = fn(&PoolReport) -> f64;
    let families: [(&str, &str, Value); 5] = [
        ("foretide_pool_work_rate", "Work arriving now, seconds of service per second.", |pool| {
            pool.work_rate
        }),
        ("foretide_pool_request_rate", "Requests arriving now, per second.", |pool| pool.request_rate),
        ("foretide_pool_capacity", "Capacity of warm instances, seconds of service per second.", |pool| {
            pool.capacity
        }),
        ("foretide_pool_lead_seconds", "Time from a wish to a ready instance, p95.", |pool| pool.lead_s),
        ("foretide_pool_panic", "1 when too few instances are healthy and all are used.", |pool| {
            f64::from(u8::from(pool.panic))
        }),
    ];
    for (family, help, value) in families {
        let mut family = Family::new(out, family, help);
        for pool in &report.pools {
            family.sample(&[("pool", &pool.name)], value(pool));
        }
    }
}

fn forms(report: &StatusReport, out: &mut String) {
    let help = "1 for the form in which a pool's instances serve several requests at once, else 0.";
    let mut family = Family::new(out, "foretide_pool_form", help);
    for pool in &report.pools {
        for form in [Form::ProcessorSharing, Form::WorkerPool].map(Form::name) {
            let labels = [("pool", &*pool.name), ("form", form)];
            family.sample(&labels, f64::from(u8::from(pool.serves.form == form)));
        }
    }
}

fn members(report: &StatusReport, out: &mut String) {
    let Some(gossip) = &report.gossip else { return };
    let help = "Proxies of the cluster that are alive, this one included.";
    Family::new(out, "foretide_gossip_members", help).sample(&[], 1.0 + gossip.members.len() as f64);
    let help = "Proxies that send to a pool's instances, as far as gossip knows, this one included.";
    let mut proxies = Family::new(out, "foretide_pool_proxies", help);
    for pool in &report.pools {
        if let Some(count) = pool.proxies {
            proxies.sample(&[("pool", &pool.name)], count as f64);
        }
    }
}

fn instances(report: &StatusReport) -> impl Iterator<Item = (&PoolReport, &InstanceReport)> {
    let alive = |instance: &&InstanceReport| instance.state != InstanceState::Gone;
    report
        .pools
        .iter()
        .flat_map(move |pool| pool.instances.iter().filter(alive).map(move |instance| (pool, instance)))
}

/// The address, which is what other systems know it by; before it has one, its number.
fn name(instance: &InstanceReport) -> String {
    instance.address.clone().unwrap_or_else(|| format!("#{}", instance.id.0))
}

/// One metric with its help; samples of a family must stand together.
struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn new(out: &'a mut String, name: &'static str, help: &str) -> Self {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        Self { out, name }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{opening}{label}=\"{text}\"");
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{closing} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_world_cannot_break_the_format() {
        let mut out = String::new();
        Family::new(&mut out, "x", "help").sample(&[("pool", "a\"b\\c\nd"), ("tier", "t")], 0.5);
        assert_eq!(out, "# HELP x help\n# TYPE x gauge\nx{pool=\"a\\\"b\\\\c\\nd\",tier=\"t\"} 0.5\n");
    }
}
