//! The forecast on a real web server: requests a minute of the football world cup of 1998.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use foretide_forecast::fit::{ForecastSettings, fit};
use foretide_forecast::series::Series;
use foretide_predictor::time::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: usize = 1_440;
const WEEK: usize = 7 * DAY;
const HORIZON: usize = 15;

/// Forecast origins, spread over two months, and how far they lie apart.
const ORIGINS: usize = 60;
const STRIDE: usize = 1_464;

/// Requests of each minute; `None` where the data set is not at hand.
fn minutes() -> Option<Vec<f64>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/load/wc98_1m.csv.gz");
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{} is missing on CI", path.display());
        return None;
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).expect("data set opens");
    flate2::read::GzDecoder::new(file).read_to_end(&mut text).expect("data set is gzip");
    let mut rows = csv::Reader::from_reader(text.as_slice());
    let load = |row: csv::StringRecord| row[2].parse().unwrap_or(f64::NAN);
    Some(rows.records().map(|row| load(row.expect("data set is CSV"))).collect())
}

#[test]
fn beats_yesterday_and_the_last_value_with_an_honest_interval() {
    let Some(load) = minutes() else {
        eprintln!("skipped: shared/data/load/wc98_1m.csv.gz does not lie beside the checkout");
        return;
    };
    let settings = ForecastSettings { seasons: vec![DAY, WEEK], steps_ahead: HORIZON };
    let (mut ours, mut yesterday, mut last) = (0.0, 0.0, 0.0);
    let (mut covered, mut all) = (0, 0);
    for origin in 0..ORIGINS {
        // A day and 24 minutes further each time: sixty origins go once around the clock.
        let end = 3 * WEEK + origin * STRIDE;
        let from = end - 3 * WEEK;
        let mut series = Series::new(MINUTE, 3 * WEEK);
        for (index, value) in load[from..end].iter().enumerate() {
            series.put(Timestamp::from_us(60_000_000 * (from + index) as u64), *value);
        }
        let forecast = fit(&series, &[], &settings).expect("three weeks are enough");
        for (h, point) in forecast.points.iter().enumerate() {
            let actual = load[end + h];
            if actual.is_finite() && load[end - 1].is_finite() && load[end + h - DAY].is_finite() {
                ours += (point.load.mean() - actual).abs();
                yesterday += (load[end + h - DAY] - actual).abs();
                last += (load[end - 1] - actual).abs();
                covered += usize::from(point.load.covers(actual));
                all += 1;
            }
        }
    }
    let coverage = covered as f64 / all as f64;
    let (by_day, by_step) = (ours / yesterday, ours / last);
    println!("error against yesterday's {by_day:.3}, the last value's {by_step:.3}; coverage {coverage:.3}");
    assert!(by_day < 0.9, "error is {by_day:.3} of yesterday's");
    assert!(by_step < 1.0, "error is {by_step:.3} of the last value's");
    assert!((0.80..=0.97).contains(&coverage), "coverage {coverage:.3} of 0.90");
}
