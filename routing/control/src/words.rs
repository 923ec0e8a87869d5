//! One sentence that tells people why a plan is what it is.
use crate::plan::{Action, PlanInput, PlanReason, PlanReport};
use std::time::Duration;

/// "2 → 4: event 'sale' brings up to 2.1 cost/s within 4.0 s (now 0.9, one instance carries 0.5); …"
pub(crate) fn sentence(input: &PlanInput, report: &PlanReport) -> String {
    let count = match report.action {
        Action::Hold => format!("stays at {}", report.current),
        _ => format!("{} → {}", report.current, report.target),
    };
    let mut text = format!("{count}: {}", because(input, report));
    if let Some(limit) = report.limited_by {
        text.push_str(&limited(input, report, limit));
    }
    if report.action == Action::ScaleUp {
        text.push_str(&format!("; a start takes {}", span(input.lead)));
    }
    text
}

fn because(input: &PlanInput, report: &PlanReport) -> String {
    let scale =
        format!("(now {:.2}, one instance carries {:.2})", report.work_rate, report.capacity_per_instance);
    let window = span(input.lead.saturating_mul(2));
    match report.reason {
        PlanReason::Event => {
            let name = input.event.as_deref().unwrap_or("announced");
            format!("event '{name}' brings up to {:.2} cost/s within {window} {scale}", report.demand)
        }
        PlanReason::Forecast => format!("forecast up to {:.2} cost/s within {window} {scale}", report.demand),
        PlanReason::Surge => {
            format!(
                "load is rising by {:.2} cost/s every second, nobody forecast it {scale}",
                input.work_rate_slope.0
            )
        }
        PlanReason::Demand => format!("{:.2} cost/s arrive {scale}", report.work_rate),
        PlanReason::RequestRate => format!(
            "{:.1} requests/s against a target of {:.1} for each instance",
            report.request_rate,
            input.settings.target_rate_per_s.unwrap_or(0.0)
        ),
        PlanReason::Floor => format!("the floor is {}", input.settings.floor),
        PlanReason::Ceiling => format!("the ceiling is {}", input.settings.ceiling),
        PlanReason::Surplus => {
            format!("at most {:.2} cost/s are expected, {} would do {scale}", report.demand, report.wish)
        }
        PlanReason::Unhealthy if report.action == Action::ScaleUp => {
            format!("broken instances are replaced {scale}")
        }
        PlanReason::Unhealthy => "a broken instance makes room for a sound one".to_owned(),
        PlanReason::Enough | PlanReason::Step | PlanReason::Cooldown | PlanReason::Refused => {
            format!("enough for {:.2} cost/s {scale}", report.demand)
        }
    }
}

fn limited(input: &PlanInput, report: &PlanReport, limit: PlanReason) -> String {
    let limits = &input.settings;
    let wish = report.wish;
    match limit {
        PlanReason::Ceiling => format!("; {wish} wished for, the ceiling is {}", limits.ceiling),
        PlanReason::Floor => format!("; {wish} wished for, the floor is {}", limits.floor),
        PlanReason::Step if report.action == Action::ScaleDown => {
            format!("; {wish} wished for, at most {} go at once", limits.step_down)
        }
        PlanReason::Step => format!("; {wish} wished for, at most {} start at once", limits.step_up),
        PlanReason::Cooldown => {
            format!("; {wish} wished for, none go within {} of the last need", span(limits.cooldown))
        }
        PlanReason::Refused => "; the plan broke a limit and was refused".to_owned(),
        _ => "; more would not leave enough capacity".to_owned(),
    }
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 120.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}
