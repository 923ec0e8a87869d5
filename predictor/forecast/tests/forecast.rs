//! What the forecast promises, on series made here.

use std::time::Duration;

use foretide_forecast::calendar::ScheduledEvent;
use foretide_forecast::fit::{FitError, Forecast, ForecastSettings, fit};
use foretide_forecast::series::Series;
use foretide_predictor::hash;
use foretide_predictor::time::Timestamp;
use proptest::prelude::*;

const STEP: Duration = Duration::from_millis(500);
const DAY: usize = 120;

fn moment(step: usize) -> Timestamp {
    Timestamp::from_us(step as u64 * STEP.as_micros() as u64)
}

fn series(values: impl IntoIterator<Item = f64>) -> Series {
    let mut series = Series::new(STEP, 5_000);
    values.into_iter().enumerate().for_each(|(step, value)| series.put(moment(step), value));
    series
}

fn settings(seasons: &[usize]) -> ForecastSettings {
    ForecastSettings { seasons: seasons.to_vec(), steps_ahead: 60 }
}

/// A day's wave between 20 and 100 with ±5 % of noise, the same on every run.
fn wave(step: usize) -> f64 {
    let noise = (hash::mix(step as u64) >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
    let phase = step as f64 / DAY as f64 * std::f64::consts::TAU;
    (60.0 - 40.0 * phase.cos()) * (1.0 + 0.1 * noise)
}

fn mean_error(forecast: &Forecast, from: usize, truth: impl Fn(usize) -> f64) -> f64 {
    let errors =
        forecast.points.iter().enumerate().map(|(h, point)| (point.load.mean() - truth(from + h)).abs());
    errors.sum::<f64>() / forecast.points.len() as f64
}

#[test]
fn a_season_is_learned_from_two_days_on() {
    for history in [260, 400, 600] {
        let forecast = fit(&series((0..history).map(wave)), &[], &settings(&[DAY])).unwrap();
        let error = mean_error(&forecast, history, wave);
        assert_eq!(forecast.method, "seasonal-ridge");
        assert!(error < 5.0, "{history} steps: mean error {error:.2} on a wave of 20 to 100");
        let covered = (0..60).filter(|&h| forecast.points[h].load.covers(wave(history + h))).count();
        assert!(covered >= 45, "{history} steps: {covered} of 60 covered");
        assert!(forecast.score.unwrap().mase < 1.3, "{:?}", forecast.score);
    }
}

#[test]
fn eight_steps_are_enough_for_an_answer_and_one_is_not() {
    let forecast = fit(&series((0..8).map(|step| 50.0 + step as f64)), &[], &settings(&[DAY])).unwrap();
    assert_eq!((forecast.method.as_str(), forecast.score), ("last-value", None));
    assert_eq!(forecast.points.len(), 60);
    let (first, last) = (forecast.points[0].load, forecast.points[59].load);
    assert!(first.mean() > 55.0 && first.mean() < 65.0);
    assert!(last.high() - last.low() > 2.0 * (first.high() - first.low()));
    assert!(fit(&series([1.0, 2.0]), &[], &settings(&[])).is_ok());
    let FitError::TooShort { have, need } = fit(&series([f64::NAN, 1.0]), &[], &settings(&[])).unwrap_err()
    else {
        panic!("only too little history keeps it from answering");
    };
    assert_eq!((have, need), (1, 2));
}

#[test]
fn an_announced_event_multiplies_the_future_and_is_taken_out_of_the_past() {
    let event = |start: usize, end: usize, ratio| ScheduledEvent {
        name: "campaign".to_owned(),
        start: moment(start),
        end: moment(end),
        ratio,
    };
    let events = [event(430, 460, 3.0), event(500, 520, 3.0)];
    let truth = |step: usize| if (430..460).contains(&step) { 3.0 * wave(step) } else { wave(step) };
    let forecast = fit(&series((0..480).map(truth)), &events, &settings(&[DAY])).unwrap();
    for h in 0..60 {
        let expected = if (20..40).contains(&h) { 3.0 * wave(480 + h) } else { wave(480 + h) };
        let got = forecast.points[h].load.mean();
        assert!((got / expected - 1.0).abs() < 0.35, "step {h}: {got:.1} instead of {expected:.1}");
    }
    let peak = forecast.peak(moment(480), moment(540)).unwrap();
    assert!(peak.at >= moment(500) && peak.at < moment(520));
}

#[test]
fn constants_zeros_spikes_and_gaps() {
    let constant = fit(&series((0..300).map(|_| 40.0)), &[], &settings(&[DAY])).unwrap();
    for point in &constant.points {
        assert!(
            (point.load.mean() - 40.0).abs() < 0.5 && point.load.low() < 40.0 && point.load.high() > 40.0
        );
    }
    let zero = fit(&series((0..300).map(|_| 0.0)), &[], &settings(&[DAY])).unwrap();
    assert!(zero.points.iter().all(|point| point.load.mean() == 0.0 && point.load.high() < 0.01));
    // A backup every day: 10 all day, 500 for two steps.
    let spiky = |step: usize| if step % DAY < 2 { 500.0 } else { 10.0 };
    let forecast = fit(&series((0..570).map(spiky)), &[], &settings(&[DAY])).unwrap();
    let peak = forecast.peak(moment(570), moment(630)).unwrap();
    assert!(peak.at >= moment(599) && peak.at <= moment(602) && peak.load.mean() > 150.0, "{peak:?}");
    // A third of a day without data just before the end.
    let holey = (0..600).map(|step| if (500..540).contains(&step) { f64::NAN } else { wave(step) });
    assert!(mean_error(&fit(&series(holey), &[], &settings(&[DAY])).unwrap(), 600, wave) < 6.0);
}

#[test]
fn a_forecast_is_asked_by_time() {
    let forecast = fit(&series((0..300).map(wave)), &[], &settings(&[DAY])).unwrap();
    assert_eq!(forecast.made_at, moment(300));
    assert_eq!(forecast.at(moment(299)), None);
    assert_eq!(forecast.at(moment(300)), Some(forecast.points[0].load));
    assert_eq!(forecast.at(moment(301).minus(Duration::from_micros(1))), Some(forecast.points[0].load));
    assert_eq!(forecast.at(moment(359)), Some(forecast.points[59].load));
    assert_eq!(forecast.at(moment(360)), None);
    let peak = forecast.peak(moment(310), moment(320)).unwrap();
    assert!((310..=320).all(|step| forecast.at(moment(step)).unwrap().mean() <= peak.load.mean()));
    assert_eq!(forecast.peak(moment(400), moment(500)), None);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..100.0f64,
        1 => Just(0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => any::<f64>(),
        1 => 1e100..1e308f64,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_series_gets_finite_loads_that_are_not_negative(
        values in prop::collection::vec(value(), 0..400),
        seasons in prop::collection::vec(0usize..130, 0..4),
        steps_ahead in 0usize..90,
        ratio in prop_oneof![any::<f64>(), 0.0..5.0f64],
        from in 0usize..400,
    ) {
        let usable = values.iter().filter(|value| value.is_finite()).count();
        let event = ScheduledEvent { name: String::new(), start: moment(from), end: moment(from + 50), ratio };
        match fit(&series(values), &[event], &ForecastSettings { seasons, steps_ahead }) {
            Err(_) => prop_assert!(usable < 2),
            Ok(forecast) => {
                prop_assert!(usable >= 2);
                prop_assert_eq!(forecast.points.len(), steps_ahead);
                for (h, point) in forecast.points.iter().enumerate() {
                    prop_assert_eq!(point.at, forecast.made_at.plus(STEP * h as u32));
                    let (low, mean, high) = (point.load.low(), point.load.mean(), point.load.high());
                    prop_assert!(low >= 0.0 && low <= mean && mean <= high && high.is_finite());
                }
                if let Some(score) = forecast.score {
                    prop_assert!(score.mase.is_finite() && (0.0..=1.0).contains(&score.coverage));
                }
            }
        }
    }
}
