//! `[learning]` and `[[events]]`.

use std::time::Duration;

use foretide_forecast::calendar::ScheduledEvent;
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::LearningSettings;

use crate::document::{Says, Section};
use crate::item::{Item, span as shown};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Crowds build up over minutes, and a minute averages out single requests.
const STEP: Duration = MINUTE;
/// People live by days and weeks.
const SEASONS: [Duration; 2] = [DAY, Duration::from_secs(7 * 86_400)];
/// What an operator can still act on by hand.
const HORIZONS: [Duration; 3] =
    [Duration::from_secs(300), Duration::from_secs(900), Duration::from_secs(1800)];
/// Eight bytes a step, pool and instance: 1.6 MB each at most.
const MOST_STEPS: usize = 200_000;
/// Fresh labels worth a training run, as measured: see the methods the cost model follows.
const RETRAIN_ROWS: u64 = 1000;
/// 3.2 MB of rows; more gained no accuracy.
const RESERVOIR_ROWS: u64 = 20_000;
/// 1 MiB, and as much for requests seen lately: four times fewer cost 2 % of accuracy where parameters are many.
const KEY_CELLS: u64 = 16_384;

pub(super) fn learning(section: &Section<'_>) -> LearningSettings {
    let duration = |key, range| section.item(key).and_then(|item: Item<'_>| item.duration(range));
    let whole = |key, range, default| {
        section.item(key).and_then(|item: Item<'_>| item.whole(range)).unwrap_or(default) as usize
    };
    let step_item = section.item("step");
    let read = step_item.as_ref().map_or(Some(STEP), |item| item.duration(100 * MS..=HOUR));
    if read.is_none() {
        // Nothing can be said about multiples of a step that is not known.
        let spans =
            ["seasons", "horizons"].map(|key| section.item(key).map(|item| item.list()).unwrap_or_default());
        spans.iter().flatten().chain(section.item("history").iter()).for_each(|item| {
            item.duration(MS..=400 * DAY);
        });
    }
    let step = read.unwrap_or(STEP);
    let written = |key, spans: &[Duration], least| {
        let list = read.and_then(|_| section.item(key));
        list.map_or_else(|| default_steps(spans, step, least), |list| steps(&list, step, least))
    };
    let seasons = written("seasons", &SEASONS, 2);
    let horizons = written("horizons", &HORIZONS, 1);
    let history_item = read.and_then(|_| section.item("history"));
    let settings = LearningSettings {
        step,
        history_steps: history(history_item.as_ref(), step, &seasons),
        seasons,
        horizons,
        refit_every: duration("refit_every", 100 * MS..=DAY).unwrap_or(step),
        retrain_every: duration("retrain_every", SECOND..=DAY).unwrap_or(MINUTE),
        retrain_rows: whole("retrain_rows", 50..=1_000_000, RETRAIN_ROWS),
        reservoir_rows: whole("reservoir_rows", 500..=200_000, RESERVOIR_ROWS),
        key_cells: whole("key_cells", 256..=1_048_576, KEY_CELLS),
        trees: whole("trees", 1..=200, 50),
        depth: whole("depth", 1..=8, 6),
        cost_model: section.item("cost_model").and_then(|item| item.flag()).unwrap_or(true),
        shadow: section.item("shadow").and_then(|item| item.flag()).unwrap_or(true),
    };
    section.close();
    settings
}

/// A list of durations as numbers of steps, in order of length.
fn steps(list: &Item<'_>, step: Duration, least: usize) -> Vec<usize> {
    let mut steps = Vec::new();
    for item in list.list() {
        let Some(span) = item.duration(step * least as u32..=400 * DAY) else { continue };
        let count = (span.as_nanos() / step.as_nanos()) as usize;
        if !span.as_nanos().is_multiple_of(step.as_nanos()) {
            let near = shown(step * count as u32);
            item.error(
                Says::new(format!("is not a whole number of steps of {}", shown(step)))
                    .help(format!("write \"{near}\" or change `learning.step`")),
            );
        } else if steps.contains(&count) {
            item.error(Says::new("is there twice").help("remove one of the two"));
        } else if count > MOST_STEPS / 2 {
            let most = MOST_STEPS / 2;
            item.error(
                Says::new(format!("is {count} steps long, more than {most}"))
                    .help("choose a longer `learning.step`"),
            );
        } else {
            steps.push(count);
        }
    }
    steps.sort_unstable();
    steps
}

/// The defaults in steps; those shorter than `least` steps or too long for the step are left out.
fn default_steps(spans: &[Duration], step: Duration, least: usize) -> Vec<usize> {
    let count = |span: &Duration| (span.as_nanos() / step.as_nanos()) as usize;
    let mut steps: Vec<usize> =
        spans.iter().map(count).filter(|steps| (least..=MOST_STEPS / 2).contains(steps)).collect();
    if steps.is_empty() && least == 1 {
        steps.push(1);
    }
    steps
}

/// Unless written, twice the longest season (a shorter history could not learn it) and a seventh of it in reserve.
fn history(item: Option<&Item<'_>>, step: Duration, seasons: &[usize]) -> usize {
    let longest = seasons.iter().copied().max().unwrap_or(MOST_STEPS / 100);
    let default = (2 * longest + longest / 7).clamp(120, MOST_STEPS);
    let Some(item) = item else { return default };
    let most = step.saturating_mul(MOST_STEPS as u32);
    let Some(span) = item.duration(step * 10..=most) else { return default };
    let steps = (span.as_nanos() / step.as_nanos()) as usize;
    if !seasons.is_empty() && steps < 2 * longest {
        let need = shown(step * (2 * longest) as u32);
        item.warn(
            Says::new("is shorter than two of the longest season, which is therefore never used")
                .help(format!("write at least \"{need}\" or remove that season")),
        );
    }
    steps
}

pub(super) fn event(table: &Section<'_>) -> ScheduledEvent {
    let name = table.required("name", "\"spring sale\"").and_then(|item| item.text()).unwrap_or("event");
    let start = table.required("start", "2027-01-31T18:00:00Z").and_then(|item| item.moment());
    let duration = table.required("duration", "\"2h\"").and_then(|item| item.duration(SECOND..=60 * DAY));
    let ratio = table.required("ratio", "3.0").and_then(|item| item.number(0.01..=1000.0));
    table.close();
    let start = start.unwrap_or(Timestamp::ZERO);
    ScheduledEvent {
        name: name.to_owned(),
        start,
        end: start.plus(duration.unwrap_or(HOUR)),
        ratio: ratio.unwrap_or(1.0),
    }
}
