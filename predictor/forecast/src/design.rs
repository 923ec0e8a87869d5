//! What the regression sees at an origin `t` when it looks `h` steps ahead.
//!
//! Everything is a difference, so that a coefficient of zero means "as now": for each season, the increment of its
//! profile from t to t+h, the profile's distance at t, the increment one season before, and the value one season
//! before t; means over several scales and two lags, minus the value at t. A season's profile is an exponentially
//! weighted mean over its earlier cycles, each smoothed a little, so that a spike which comes a step earlier or later
//! than yesterday still counts.
//! Nothing looks past t.

/// Weight of the newest cycle in a profile.
const CYCLE_RATE: f64 = 0.35;

/// How much of the profile's increment is expected before anything was learned.
const PRIOR_INCREMENT: f64 = 0.8;

/// Most steps of smoothing on either side.
const MOST_SMOOTHING: usize = 10;

/// Inputs per season, and besides seasons and means (two lags and the intercept).
const PER_SEASON: usize = 4;
const BESIDES: usize = 3;

struct Season {
    length: usize,
    /// Steps of smoothing on either side.
    reach: usize,
    /// Expected value at each step from the cycles before it; one season longer than the history.
    profile: Vec<f64>,
}

/// Inputs of the regression over one history.
pub(super) struct Design<'a> {
    z: &'a [f64],
    /// Sum of all values before an index.
    sums: Vec<f64>,
    seasons: Vec<Season>,
    windows: Vec<usize>,
}

impl<'a> Design<'a> {
    pub(super) fn new(z: &'a [f64], seasons: &[usize]) -> Self {
        let mut sums = vec![0.0];
        let mut sum = 0.0;
        sums.extend(z.iter().map(|value| {
            sum += value;
            sum
        }));
        let longest = seasons.first().copied().unwrap_or(z.len() / 4);
        let mut windows = vec![3, 5, 15, 60, longest / 4, longest];
        windows.retain(|&window| window >= 3 && window <= longest);
        windows.sort_unstable();
        windows.dedup();
        let seasons = seasons.iter().map(|&length| season(z, &sums, length)).collect();
        Self { z, sums, seasons, windows }
    }

    /// Values of the history.
    pub(super) fn z(&self) -> &'a [f64] {
        self.z
    }

    /// Numbers in a row.
    pub(super) fn width(&self) -> usize {
        PER_SEASON * self.seasons.len() + self.windows.len() + BESIDES
    }

    /// First origin that knows all its seasons.
    pub(super) fn first_origin(&self) -> usize {
        let known =
            self.seasons.last().map_or(self.windows.last().map_or(0, |&longest| longest / 2), |season| {
                season.length + season.reach
            });
        known.max(2)
    }

    /// Length of the shortest season.
    pub(super) fn shortest_season(&self) -> Option<usize> {
        self.seasons.first().map(|season| season.length)
    }

    /// Lengths of all seasons.
    pub(super) fn season_lengths(&self) -> impl Iterator<Item = usize> {
        self.seasons.iter().map(|season| season.length)
    }

    /// What "as one season ago" says at `t + h`; as now where there is no season.
    pub(super) fn naive(&self, t: usize, h: usize) -> f64 {
        self.seasons.first().map_or(self.z[t], |season| self.z[season.earlier(t, h)])
    }

    /// Appends the inputs for origin `t` (from [`Self::first_origin`] on, inside the history) and horizon `h` >= 1.
    pub(super) fn push_row(&self, t: usize, h: usize, row: &mut Vec<f64>) {
        let now = self.z[t];
        for season in &self.seasons {
            let here = season.profile[t];
            let there = season.profile[season.profiled(t, h)];
            let season_ago = self.z[t - season.length];
            row.extend([
                there - here,
                here - now,
                self.z[season.earlier(t, h)] - season_ago,
                season_ago - now,
            ]);
        }
        row.extend(
            self.windows.iter().map(|&window| mean(&self.sums, t + 1 - window.min(t + 1), t + 1) - now),
        );
        row.extend([self.z[t - 1] - now, self.z[t - 2] - now, 1.0]);
    }

    /// Coefficients expected before anything was learned: the seasons' shape, at a level that slowly comes back.
    pub(super) fn prior(&self, h: usize) -> Vec<f64> {
        let mut prior = vec![0.0; self.width()];
        let share = 1.0 / self.seasons.len().max(1) as f64;
        for (place, season) in self.seasons.iter().enumerate() {
            prior[PER_SEASON * place] = PRIOR_INCREMENT * share;
            prior[PER_SEASON * place + 1] = 0.5 * share * (h as f64 / season.length as f64).min(1.0);
        }
        prior
    }
}

impl Season {
    /// Where the profile says most about `t + h`: whole seasons back until its smoothing lies before `t`.
    fn profiled(&self, t: usize, h: usize) -> usize {
        let cycles = (h + self.reach).div_ceil(self.length);
        t + h - self.length * (cycles - 1)
    }

    /// Newest step up to `t` in the same phase as `t + h`.
    fn earlier(&self, t: usize, h: usize) -> usize {
        t + h - self.length * h.div_ceil(self.length)
    }
}

fn season(z: &[f64], sums: &[f64], length: usize) -> Season {
    let reach = (length / 120).clamp(1, MOST_SMOOTHING);
    let mut profile = vec![0.0; z.len() + length];
    for step in length..profile.len() {
        let earlier = step - length;
        let smooth = mean(sums, earlier.saturating_sub(reach), (earlier + reach + 1).min(z.len()));
        let before = if earlier >= length { profile[earlier] } else { smooth };
        profile[step] = before + CYCLE_RATE * (smooth - before);
    }
    Season { length, reach, profile }
}

fn mean(sums: &[f64], from: usize, to: usize) -> f64 {
    (sums[to] - sums[from]) / (to - from) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_input_looks_past_its_origin() {
        let z: Vec<f64> = (0..100).map(|step| f64::from(step * 7 % 20) / 20.0).collect();
        let mut other = z.clone();
        let (t, mut before, mut after) = (60, Vec::new(), Vec::new());
        other[t + 1..].iter_mut().for_each(|value| *value = 0.9 - *value / 3.0);
        for h in 1..=60 {
            Design::new(&z, &[20]).push_row(t, h, &mut before);
            Design::new(&other, &[20]).push_row(t, h, &mut after);
        }
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-9));
        assert_eq!(before.len(), 60 * Design::new(&z, &[20]).width());
    }
}
