//! The suite as a page: the table, what each distribution came to, and the figures behind the ratios.

use crate::figures::Figures;
use crate::sizes::SIX;
use crate::suite::cells::{ALL, Cells, SIGMA, Setting};
use crate::suite::{Row, SEEDS, TUNED_ON};
use crate::world::Predictor;
use foretide_loadtest::page::{Line, Page};
use foretide_loadtest::plane::Plane;

/// The page.
pub fn page(cells: &Cells, rows: &[Row]) -> String {
    let mut page = Page::new("Steering against the published policies");
    let requests = rows.first().map_or(0, |row| row.requests);
    page.paragraph(&format!(
        "Seeds {SEEDS:?}, {requests} requests a run, the first tenth not counted. Ratios are geometric means over six \
         distributions; below 1 is better. Constants were found on {TUNED_ON}."
    ));
    page.table(&Row::HEADS, &rows.iter().map(Row::cells).collect::<Vec<_>>());
    for setting in Setting::ALL {
        by_policy(&mut page, cells, setting);
    }
    page.plane(&slopes(rows));
    page.finish()
}

/// Figures of every policy in a setting.
fn by_policy(page: &mut Page, cells: &Cells, setting: Setting) {
    let us = setting.foretide(Predictor::LogError(SIGMA));
    let mut lines = Vec::new();
    for (distribution, (name, _)) in SIX.iter().enumerate() {
        for policy in ALL.into_iter().chain([us]) {
            let of = |figure: fn(&Figures) -> f64| cells.mean(setting, distribution, policy, figure);
            let values = [
                of(|figures| figures.mean_ms),
                of(|figures| figures.p50_ms),
                of(|figures| figures.p99_ms),
                of(|figures| figures.p999_ms),
                of(|figures| figures.mean_slowdown),
                of(|figures| figures.p99_slowdown),
            ];
            if values[0].is_finite() {
                let values = values.iter().map(|value| format!("{value:.3}"));
                lines.push([format!("{name}: {}", policy.name())].into_iter().chain(values).collect());
            }
        }
    }
    page.paragraph(setting.name());
    let heads = ["policy", "mean ms", "p50", "p99", "p99.9", "mean slowdown", "p99 slowdown"];
    page.table(&heads, &lines);
}

/// How far the distributions lie apart: the ratios of the rows against the best of all, one line a setting.
fn slopes(rows: &[Row]) -> Plane {
    let against_all = rows.iter().filter(|row| row.against.starts_with("best of those"));
    let lines = against_all.map(|row| Line {
        name: format!("{}: {}", row.setting, row.metric),
        points: row.by_distribution.iter().zip(1..).map(|((_, ratio), at)| (f64::from(at), *ratio)).collect(),
    });
    let names = SIX.iter().zip(1..).map(|((name, _), at)| format!("{at} {name}"));
    Plane {
        title: "Ratio against the best of all published policies, by distribution".into(),
        across: names.collect::<Vec<_>>().join(", "),
        up: "ratio".into(),
        lines: lines.collect(),
        ..Plane::default()
    }
}
