//! A series made fit for regression: events taken out, gaps filled, and on a square-root scale.
//!
//! `z = √(load / event ratio) / √(largest such)`. The root makes the noise of counts even and cannot push a forecast
//! below zero; the scale keeps every number near 1, so that no input overflows. Short gaps are filled by a line, long
//! ones by what was there a season before.

use crate::calendar::{self, ScheduledEvent};
use crate::series::Series;

/// Gaps up to this many steps are bridged by a line even where a season is known.
const SHORT_GAP: usize = 5;

/// Loads are cut here, so that squares and sums stay finite.
const LARGEST_LOAD: f64 = 1e15;

/// Shorter cycles are lags, not seasons.
const SHORTEST_SEASON: usize = 4;

/// The cleaned history.
pub(super) struct History {
    /// Scaled roots, oldest first, without gaps, in [0, 1].
    pub(super) z: Vec<f64>,
    /// What `z` was divided by.
    pub(super) scale: f64,
    /// Seasons that fit twice into the history, ascending, each once.
    pub(super) seasons: Vec<usize>,
}

/// Cleans; the error is the number of usable steps when they are fewer than two.
pub(super) fn clean(series: &Series, events: &[ScheduledEvent], wanted: &[usize]) -> Result<History, usize> {
    let values = series.values();
    let usable = values.iter().filter(|value| value.is_finite()).count();
    let (Some(start), true) = (series.start(), usable >= 2) else {
        return Err(usable);
    };
    let leading = values.iter().take_while(|value| !value.is_finite()).count();
    let usual = |(index, value): (usize, &f64)| {
        let at = start.plus(series.step().saturating_mul(u32::try_from(index).unwrap_or(u32::MAX)));
        let ratio = if events.is_empty() { 1.0 } else { calendar::ratio_at(events, at) };
        if value.is_finite() { (value.clamp(0.0, LARGEST_LOAD) / ratio).sqrt() } else { f64::NAN }
    };
    let mut z: Vec<f64> = values.iter().enumerate().skip(leading).map(usual).collect();
    let largest = z.iter().copied().filter(|root| root.is_finite()).fold(0.0, f64::max);
    // Below this, dividing by the scale would overflow; such a load is none.
    let scale = if largest > 1e-100 { largest } else { 1.0 };
    z.iter_mut().for_each(|root| *root /= scale);
    let mut seasons: Vec<usize> = wanted.to_vec();
    seasons.retain(|&season| season >= SHORTEST_SEASON && season <= z.len() / 2);
    seasons.sort_unstable();
    seasons.dedup();
    fill_gaps(&mut z, seasons.first().copied());
    Ok(History { z, scale, seasons })
}

/// The first value must not be a gap.
fn fill_gaps(z: &mut [f64], season: Option<usize>) {
    let mut from = 1;
    while let Some(begin) = (from..z.len()).find(|&index| z[index].is_nan()) {
        let end = (begin..z.len()).find(|&index| !z[index].is_nan()).unwrap_or(z.len());
        let before = z[begin - 1];
        let after = z.get(end).copied().unwrap_or(before);
        let long = end - begin > SHORT_GAP;
        for index in begin..end {
            let part = (index + 1 - begin) as f64 / (end + 1 - begin) as f64;
            let line = before + part * (after - before);
            let earlier = season.filter(|_| long).and_then(|season| index.checked_sub(season));
            z[index] = earlier.map_or(line, |earlier| z[earlier]);
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_gaps_are_bridged_and_long_ones_copied_from_a_season_ago() {
        let mut z: Vec<f64> = (0..40).map(|step| f64::from(step % 10)).collect();
        z[13] = f64::NAN;
        z[22..32].fill(f64::NAN);
        z[38..].fill(f64::NAN);
        fill_gaps(&mut z, Some(10));
        assert_eq!(z[13], 3.0);
        assert_eq!(z[22..32], z[12..22]);
        assert_eq!(z[38..], [7.0, 7.0], "a short gap at the end holds the last value");
    }
}
