//! Why is this request predicted to cost what it is? Contributions of features along the paths that it takes through the
//! trees, as a table with bars.
//!
//! A model predicts the log of cost as a sum, so each feature's part is a factor on cost: ×1.30 made the prediction 30 %
//! dearer than it would be without, ×0.50 halved it. The product of all, on the starting value, is the median predicted.

use std::fmt::Write as _;

use foretide_predictor::cost::model::Explanation;
use foretide_routing::settings::{ParameterKind, RouteSettings};

use crate::words;

/// Widest bar.
const BAR: f64 = 24.0;
/// Contributions shown; the rest is summed up.
const SHOWN: usize = 12;

/// The table.
pub fn table(explanation: &Explanation, route: &RouteSettings) -> String {
    let parts = &explanation.contributions;
    let most = parts.iter().map(|part| part.effect.abs()).fold(1e-9, f64::max);
    let row = |name: String, value: String, effect: f64| {
        let length = (effect.abs() / most * BAR).round().clamp(1.0, BAR) as usize;
        let sign = if effect < 0.0 { '-' } else { '+' };
        vec![name, value, format!("×{:.3}", effect.exp()), format!("{sign}{}", "█".repeat(length))]
    };
    let shown = parts.iter().take(SHOWN);
    let mut rows: Vec<Vec<String>> = shown
        .map(|part| row(named(part.feature, route), shown_as(part.feature, part.value), part.effect))
        .collect();
    let rest = &parts[parts.len().min(SHOWN)..];
    if !rest.is_empty() {
        let effect = rest.iter().map(|part| part.effect).sum();
        rows.push(row(format!("{} others", rest.len()), String::new(), effect));
    }
    let mut text = format!("starting from {}\n", cost(explanation.bias.exp()));
    text += &words::aligned(&["what moved it", "value", "effect", ""], &rows);
    let _ = write!(text, "together {}, the median predicted", cost(explanation.log_work.exp()));
    text
}

/// Numbers and counts are seen as ln(1 + value), costs as ln: here they are what they were.
fn shown_as(feature: &str, value: f32) -> String {
    let value = f64::from(value);
    let ends = |ends: &[&str]| ends.iter().any(|end| feature.ends_with(end));
    if feature.starts_with("number ") || ends(&[": count", "in flight"]) {
        if value < 0.0 { "absent".to_owned() } else { format!("{:.0}", value.exp_m1()) }
    } else if ends(&[": mean", ": moving average", ": last"]) {
        cost(value.exp())
    } else {
        format!("{value:.3}")
    }
}

/// A cost for people.
pub fn cost(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.1} µs"),
    }
}

/// `number 2` is the route's second numeric parameter.
fn named(feature: &str, route: &RouteSettings) -> String {
    let of_kind = |prefix: &str, kind: ParameterKind| {
        let place: usize = feature.strip_prefix(prefix)?.trim().parse().ok()?;
        let rules = route.parameters.iter().filter(|rule| rule.kind == kind);
        rules.map(|rule| rule.name.clone()).nth(place.checked_sub(1)?)
    };
    of_kind("number ", ParameterKind::Number)
        .or_else(|| of_kind("category ", ParameterKind::Category))
        .unwrap_or_else(|| feature.to_owned())
}

#[cfg(test)]
mod tests {
    use foretide_predictor::cost::model::Contribution;
    use foretide_routing::settings::{ParameterRule, ParameterSource, RouteMatch, ServiceLevel};

    use super::*;

    #[test]
    fn parameters_have_the_names_of_the_configuration_and_little_things_are_summed_up() {
        let rule =
            |name: &str, kind| ParameterRule { name: name.into(), source: ParameterSource::Method, kind };
        let route = RouteSettings {
            name: "all".into(),
            matches: RouteMatch::default(),
            pool: "work".into(),
            consumer: Vec::new(),
            parameters: vec![rule("verb", ParameterKind::Category), rule("rows", ParameterKind::Number)],
            body_limit_bytes: 0,
            request_timeout: None,
            level: ServiceLevel::default(),
        };
        let part = |feature, effect| Contribution { feature, value: 7.0, effect };
        let mut contributions = vec![part("number 1", 1.0), part("category 1", -0.5)];
        contributions.extend((0..SHOWN).map(|_| part("route: mean", 0.001)));
        let explanation = Explanation { bias: 1_500f64.ln(), contributions, log_work: 2_500f64.ln() };
        let text = table(&explanation, &route);
        assert!(
            text.starts_with("starting from 1.50 ms\n")
                && text.ends_with("together 2.50 ms, the median predicted")
        );
        assert!(text.contains("rows") && text.contains("×2.718") && text.contains("verb"), "{text}");
        assert!(text.contains("2 others") && text.contains("1.10 ms"), "{text}");
        assert_eq!(shown_as("number 3", 500f32.ln_1p()), "500");
        assert_eq!(shown_as("number 3", -1.0), "absent");
    }
}
