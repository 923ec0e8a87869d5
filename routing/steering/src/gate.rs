//! How much a prediction counts: as much as it has shown to know, and nothing if it knows nothing.
//!
//! A predictor may be constant, random, or ten times wrong; used as it is, it would be worse than none. So what steers is
//!
//! ```text
//! x = mean + weight · (calibrated − mean)
//! ```
//!
//! - *calibrated*: the mean of what requests with a like prediction really cost, by octave of the prediction, linear
//!   between the octaves' middles. A predictor that is wrong by a factor is set right, a noisy one is shrunk, and for a
//!   random one every octave's mean is the mean of all. New octaves start from the prediction times the bias of all
//!   predictions together, worth eight requests.
//! - *weight*: from the skill of the calibrated prediction against the mean, in gamma deviance `y/p − 1 − ln(y/p)`, each
//!   request judged before it is learned from. That deviance weighs factors, and a heavy request that was not foreseen
//!   counts with its size. Below a skill of 0.05 the weight is 0, from 0.35 on it is 1.
//! - A second watch compares, on the same events, how well the latency foreseen by the score and the latency foreseen from
//!   the number in flight alone (the same score for the mean request: what least-request goes by) fit what was measured.
//!   Where the score does worse, its weight goes too.
//!
//! States: *unknown* (less than 50 requests; the mean is served), *gliding* towards the target, at most a hundredth a
//! request, so that a single heavy request cannot make the weight jump. Memory of all averages: 1,000 requests.
//!
//! What the hot path reads is a [`Calibration`], a plain value made of all this whenever a table is published.
//!
//! Known weakness: a predictor that is right about the rarest requests only shows it when they come.

use crate::calibration::{Calibration, OCTAVES, Piece, middle_us, place};

/// Requests that the averages remember.
const MEMORY: f64 = 1_000.0;
/// Requests of an octave after which half of its calibration is its own.
const PRIOR: f64 = 8.0;
/// Before so many requests nothing is believed.
const ENOUGH: f64 = 50.0;
/// Skill without weight, and skill with full weight.
const SKILLS: (f64, f64) = (0.05, 0.35);
/// The weight moves no faster, per request.
const STEP: f64 = 0.01;
/// Ratios of actual to predicted beyond this count as this: one absurd label must not own the averages.
const MOST_RATIO: f64 = 1_000.0;
/// Nothing counts with less than a thousandth of a microsecond or more than an hour.
const LEAST_WORK_US: f64 = 1e-3;
const MOST_WORK_US: f64 = 3.6e9;
/// A score that fits latencies this much worse than the number in flight has no weight left.
const TOLERATED: f64 = 0.1;

/// A mean that forgets.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    seen: f64,
}

impl Mean {
    fn observe(&mut self, value: f64) {
        self.seen = (self.seen + 1.0).min(MEMORY);
        self.value += (value - self.value) / self.seen;
    }
}

/// The gate of one route.
#[derive(Clone, Debug, Default)]
pub struct SkillGate {
    cells: [Mean; OCTAVES],
    mean: Mean,
    /// Of the predictions as they came.
    raw: Mean,
    /// Gamma deviance of the calibrated prediction, and of the mean.
    deviances: [Mean; 2],
    /// ln(latency / foreseen) by the score and by the number in flight: mean, and mean absolute distance from it.
    biases: [Mean; 2],
    misfits: [Mean; 2],
    weight: f64,
}

/// How many numbers a gate is kept as.
const NUMBERS: usize = 2 * (OCTAVES + 8) + 1;

impl SkillGate {
    /// All of it, for a state file.
    pub fn to_numbers(&self) -> Vec<f64> {
        self.means().flat_map(|mean| [mean.value, mean.seen]).chain([self.weight]).collect()
    }

    /// What [`Self::to_numbers`] made; `None` if no gate can have become like this.
    pub fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let (&weight, means) = numbers.split_last()?;
        let mut gate = Self { weight, ..Self::default() };
        for (mean, &[value, seen]) in gate.means_mut().zip(means.as_chunks().0) {
            *mean = Mean { value, seen };
        }
        let costs = gate.cells.iter().chain([&gate.mean, &gate.raw]).map(|mean| (mean, MOST_WORK_US));
        let scores = gate.deviances.iter().chain(&gate.misfits).map(|mean| (mean, 2.0 * MOST_RATIO));
        let is_sound = costs.chain(scores).all(|(mean, most)| (0.0..=most).contains(&mean.value))
            && gate.biases.iter().all(|mean| mean.value.abs() <= MOST_RATIO.ln())
            && gate.means().all(|mean| (0.0..=MEMORY).contains(&mean.seen))
            && (0.0..=1.0).contains(&weight);
        (numbers.len() == NUMBERS && is_sound).then_some(gate)
    }

    fn means(&self) -> impl Iterator<Item = &Mean> {
        let Self { cells, mean, raw, deviances, biases, misfits, .. } = self;
        cells.iter().chain([mean, raw]).chain(deviances).chain(biases).chain(misfits)
    }

    fn means_mut(&mut self) -> impl Iterator<Item = &mut Mean> {
        let Self { cells, mean, raw, deviances, biases, misfits, .. } = self;
        cells.iter_mut().chain([mean, raw]).chain(deviances).chain(biases).chain(misfits)
    }

    /// What a request of predicted work steers with, microseconds; at least 1. Before anything was learned: the prediction
    /// itself, because there is nothing else.
    pub fn work_us(&self, predicted_us: f64) -> f64 {
        if self.mean.seen == 0.0 {
            return f64::from(Calibration::identity().work_us(predicted_us as f32));
        }
        let (octave, beyond) = place(predicted_us as f32);
        f64::from(self.piece(octave).work_us(beyond))
    }

    /// The same as a plain value.
    pub fn calibration(&self) -> Calibration {
        if self.mean.seen == 0.0 {
            return Calibration::identity();
        }
        Calibration::new(std::array::from_fn(|octave| self.piece(octave)), self.weight as f32)
    }

    /// The work of the average request, microseconds; 0 before the first.
    pub fn mean_us(&self) -> f64 {
        self.mean.value
    }

    /// Weight of the prediction, 0 to 1.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Share of the mean's deviance that the calibrated prediction takes away; `None`: too few requests.
    pub fn skill(&self) -> Option<f64> {
        let [served, mean] = self.deviances;
        (served.seen >= ENOUGH && mean.value > 0.0).then(|| 1.0 - served.value / mean.value)
    }

    /// How much worse the score fits latencies than the number in flight does; negative: it fits better.
    pub fn misfit(&self) -> Option<f64> {
        let [score, count] = self.misfits;
        (score.seen >= ENOUGH && count.value > 0.0).then(|| score.value / count.value - 1.0)
    }

    /// A request that was predicted to take `predicted_us` took `actual_us` of work. What is not finite and positive is
    /// ignored.
    pub fn observe(&mut self, predicted_us: f64, actual_us: f64) {
        if !(actual_us.is_finite() && actual_us > 0.0) {
            return;
        }
        let actual_us = actual_us.clamp(LEAST_WORK_US, MOST_WORK_US);
        if self.mean.seen > 0.0 {
            let guesses = [self.calibrated_us(predicted_us), self.mean.value];
            for (deviance, guess) in self.deviances.iter_mut().zip(guesses) {
                let ratio = (actual_us / guess).clamp(1.0 / MOST_RATIO, MOST_RATIO);
                deviance.observe(ratio - 1.0 - ratio.ln());
            }
        }
        self.mean.observe(actual_us);
        self.raw.observe(if predicted_us > 1.0 { predicted_us.min(MOST_WORK_US) } else { 1.0 });
        self.cells[place(predicted_us as f32).0].observe(actual_us);
        let (none, full) = SKILLS;
        let skill = self.skill().map_or(0.0, |skill| ((skill - none) / (full - none)).clamp(0.0, 1.0));
        let fit = self.misfit().map_or(1.0, |worse| (1.0 - worse / TOLERATED).clamp(0.0, 1.0));
        self.weight += (skill * fit - self.weight).clamp(-STEP, STEP);
    }

    /// A request for which the score foresaw a latency of `foreseen_us`, and the same score for the mean request
    /// `blind_us`, took `latency_us` from its dispatch on. Each is allowed a constant factor.
    pub fn observe_latency(&mut self, latency_us: f64, foreseen_us: f64, blind_us: f64) {
        let logs = [foreseen_us, blind_us].map(|foreseen_us| (latency_us / foreseen_us).ln());
        if logs.iter().any(|log| !log.is_finite()) {
            return;
        }
        for (which, log) in logs.into_iter().enumerate() {
            let log = log.clamp(-MOST_RATIO.ln(), MOST_RATIO.ln());
            self.biases[which].observe(log);
            self.misfits[which].observe((log - self.biases[which].value).abs());
        }
    }

    /// Mean actual work of requests with a like prediction, microseconds: what would steer at full weight.
    pub fn calibrated_us(&self, predicted_us: f64) -> f64 {
        let (octave, beyond) = place(predicted_us as f32);
        let here = self.cell_us(octave);
        let towards = if beyond < 0.0 { self.slope(octave, here, -1) } else { self.slope(octave, here, 1) };
        here + towards * f64::from(beyond)
    }

    /// What steers in an octave.
    fn piece(&self, octave: usize) -> Piece {
        let mean = self.mean.value;
        if self.weight == 0.0 {
            return Piece { middle_us: mean as f32, below: 0.0, above: 0.0 };
        }
        let here = self.cell_us(octave);
        let [below, above] = [-1, 1].map(|step| (self.weight * self.slope(octave, here, step)) as f32);
        Piece { middle_us: (mean + self.weight * (here - mean)) as f32, below, above }
    }

    /// Mean actual work of an octave's requests, shrunk to the prediction times the common bias.
    fn cell_us(&self, octave: usize) -> f64 {
        let Mean { value, seen } = self.cells[octave];
        let bias = self.mean.value / self.raw.value.max(1.0);
        (PRIOR * bias * f64::from(middle_us(octave)) + seen * value) / (PRIOR + seen)
    }

    /// Microseconds more per octave from the octave's middle towards its neighbour below (-1) or above (1).
    fn slope(&self, octave: usize, here_us: f64, step: isize) -> f64 {
        let Some(neighbour) = octave.checked_add_signed(step).filter(|&neighbour| neighbour < OCTAVES) else {
            return 0.0;
        };
        // An empty neighbour is a guess: what was measured here is better.
        let seen = self.cells[neighbour].seen;
        step as f64 * seen / (PRIOR + seen) * (self.cell_us(neighbour) - here_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foretide_predictor::hash::mix;
    use proptest::prelude::*;

    /// 5 % of 100 ms, else 1 ms.
    fn bimodal(number: u64) -> f64 {
        if mix(number).is_multiple_of(20) { 100_000.0 } else { 1_000.0 }
    }

    fn taught(predict: impl Fn(u64, f64) -> f64) -> SkillGate {
        let mut gate = SkillGate::default();
        for number in 0..3_000 {
            let actual = bimodal(number);
            gate.observe(predict(number, actual), actual);
        }
        gate
    }

    #[test]
    fn a_good_predictor_gets_full_weight_and_a_biased_one_is_set_right() {
        for bias in [1.0, 0.1, 7.0] {
            let gate = taught(|_, actual| bias * actual);
            assert!(gate.weight() > 0.99, "{bias}: {gate:?}");
            let [light, heavy] = [1_000.0, 100_000.0].map(|actual| gate.work_us(bias * actual) / actual);
            assert!((0.9..1.6).contains(&light) && (0.8..1.1).contains(&heavy), "{bias}: {light} {heavy}");
        }
    }

    #[test]
    fn garbage_and_constants_become_the_mean() {
        let random = taught(|number, _| (mix(!number) % 100_000) as f64);
        let constant = taught(|_, _| 77.0);
        let nothing = taught(|_, _| f64::NAN);
        for gate in [random, constant, nothing] {
            assert!(gate.weight() < 0.05, "{:?} {}", gate.skill(), gate.weight());
            let served = gate.work_us(100_000.0);
            assert!((served / gate.mean_us() - 1.0).abs() < 0.1, "{served} {}", gate.mean_us());
        }
    }

    #[test]
    fn the_weight_glides() {
        let mut gate = taught(|_, actual| actual);
        for number in 0..2_000 {
            let before = gate.weight();
            gate.observe((mix(number) % 100_000) as f64, bimodal(number));
            assert!((gate.weight() - before).abs() <= STEP + 1e-12);
        }
        assert!(gate.weight() < 0.2, "a predictor that broke has lost its weight: {}", gate.weight());
    }

    #[test]
    fn a_score_that_fits_worse_than_counting_loses_its_weight() {
        let mut gate = taught(|_, actual| actual);
        for number in 0..2_000 {
            let latency = 1_000.0 + (mix(number) % 64) as f64;
            gate.observe_latency(latency, (1 + mix(!number) % 50_000) as f64, 900.0);
            gate.observe(bimodal(number), bimodal(number));
        }
        assert!(gate.misfit().is_some_and(|worse| worse > TOLERATED) && gate.weight() < 0.01, "{gate:?}");
    }

    #[test]
    fn what_is_kept_is_the_same_gate_again() {
        let gate = taught(|number, actual| actual * (1.0 + (mix(number) % 7) as f64));
        let again = SkillGate::from_numbers(&gate.to_numbers()).expect("a gate");
        assert_eq!(again.calibration(), gate.calibration());
        assert_eq!(
            (again.skill(), again.misfit(), again.mean_us()),
            (gate.skill(), gate.misfit(), gate.mean_us())
        );
        assert!(SkillGate::from_numbers(&gate.to_numbers()[1..]).is_none());
    }

    proptest! {
        #[test]
        fn no_numbers_make_a_gate_that_cannot_be_used(at in 0..NUMBERS, number in any::<f64>(), asked: f64) {
            let mut numbers = taught(|_, actual| actual).to_numbers();
            numbers[at] = number;
            if let Some(gate) = SkillGate::from_numbers(&numbers) {
                let served = gate.calibration().work_us(asked as f32);
                prop_assert!(served >= 1.0 && served.is_finite() && gate.work_us(asked).is_finite());
            }
        }

        #[test]
        fn no_input_makes_it_serve_what_cannot_be_used(events in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>()), 0..200), asked: f64) {
            let mut gate = SkillGate::default();
            for (predicted, actual, latency) in events {
                gate.observe(predicted, actual);
                gate.observe_latency(latency, predicted, actual);
                prop_assert!((0.0..=1.0).contains(&gate.weight()));
                prop_assert!(gate.work_us(asked) > 0.0 && !gate.work_us(asked).is_nan());
                let (learned, read) = (gate.work_us(asked), f64::from(gate.calibration().work_us(asked as f32)));
                prop_assert_eq!(learned, read);
            }
        }
    }
}
