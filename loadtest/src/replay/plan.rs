//! From a recording to requests with times: speed-up, scale, paths.
//!
//! *Speed* presses recorded time together; *scale* is the share of the recorded requests that is sent. So the rate
//! sent is the recorded rate × speed × scale, for a series and for a log alike.
//!
//! A series becomes a Poisson process whose rate is constant from row to row (by change of time: unit exponential
//! gaps on the cumulative rate). A row is worth its own step, at most the usual one: a gap in the recording is
//! silence, not an invented load. A log keeps its times; where it has only whole seconds, the requests of one second
//! are spread over it evenly.

use std::time::Duration;

use http::Method;
use rand::RngExt;
use rand_distr::{Distribution, Exp1};
use rand_pcg::Pcg64Mcg;

use super::access_log::LoggedRequest;
use super::path_template::PathTemplate;
use super::series::SeriesPoint;
use crate::stream;
use crate::traffic::schedule::{PlannedRequest, any_path, default_mix};

/// How much of a recording to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// This share of the recorded requests; above 1 more than were recorded.
    Ratio(f64),
    /// So that the busiest step (for a log: second, as replayed) has this rate per second.
    PeakRate(f64),
}

/// Rate over a piece of replayed time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    /// From the start, seconds.
    from_s: f64,
    /// Length, seconds.
    length_s: f64,
    /// Requests a second, before scaling.
    rate_per_s: f64,
}

/// Pieces of constant rate, sped up.
pub(super) fn pieces(points: &[SeriesPoint], speed: f64) -> Vec<Piece> {
    let Some(first) = points.first() else { return Vec::new() };
    let gap_s = |pair: &[SeriesPoint]| (pair[1].at_us - pair[0].at_us) as f64 / 1e6;
    let mut gaps: Vec<f64> = points.windows(2).map(gap_s).collect();
    gaps.sort_by(f64::total_cmp);
    let usual_s = gaps.get(gaps.len() / 2).copied().unwrap_or(60.0);
    let piece = |(index, point): (usize, &SeriesPoint)| {
        let step_s = points.get(index..index + 2).map_or(usual_s, gap_s).min(usual_s);
        let per_second = if point.per_second { point.load } else { point.load / step_s };
        Piece {
            from_s: (point.at_us - first.at_us) as f64 / 1e6 / speed,
            length_s: step_s / speed,
            rate_per_s: per_second * speed,
        }
    };
    points.iter().enumerate().map(piece).collect()
}

/// The share of a series to send.
pub(super) fn scale_of_pieces(pieces: &[Piece], scale: Scale) -> f64 {
    ratio(scale, pieces.iter().map(|piece| piece.rate_per_s).fold(0.0, f64::max))
}

/// The share of a log to send, at this speed.
pub(super) fn scale_of_log(log: &[LoggedRequest], speed: f64, scale: Scale) -> f64 {
    let second = |request: &LoggedRequest| (request.at_us as f64 / 1e6 / speed) as i64;
    let busiest = log.chunk_by(|a, b| second(a) == second(b)).map(<[_]>::len).max().unwrap_or(0);
    ratio(scale, busiest as f64)
}

fn ratio(scale: Scale, highest: f64) -> f64 {
    match scale {
        Scale::Ratio(ratio) => ratio,
        Scale::PeakRate(peak) if highest > 0.0 => peak / highest,
        Scale::PeakRate(_) => 0.0,
    }
}

/// Arrivals of a series; paths from the templates, or the default mix of the sample producer.
pub(super) fn series_plan(
    pieces: Vec<Piece>,
    scale: f64,
    templates: Vec<PathTemplate>,
    seed: u64,
) -> impl Iterator<Item = PlannedRequest> + Send + 'static {
    let mut arrivals = stream::named(seed, "arrivals");
    let mut mix = stream::named(seed, "mix");
    let mut parameters = stream::named(seed, "parameters");
    let default_mix = default_mix();
    let mut index = 0;
    // Expected requests up to the start of the piece, and up to the next request.
    let (mut behind, mut next) = (0.0, 0.0_f64);
    std::iter::from_fn(move || {
        let gap: f64 = Exp1.sample(&mut arrivals);
        next += gap;
        loop {
            let piece = pieces.get(index)?;
            let rate = piece.rate_per_s * scale;
            let expected = rate * piece.length_s;
            if next < behind + expected {
                let at = Duration::try_from_secs_f64(piece.from_s + (next - behind) / rate).ok()?;
                let path_and_query = match templates.len() {
                    0 => any_path(&default_mix, &mut mix, &mut parameters),
                    count => templates[mix.random_range(0..count)].path(&mut parameters),
                };
                return Some(PlannedRequest {
                    at,
                    method: Method::GET,
                    path_and_query,
                    tenant: String::new(),
                });
            }
            behind += expected;
            index += 1;
        }
    })
}

/// Requests of a log, in order of time.
pub(super) fn log_plan(
    mut log: Vec<LoggedRequest>,
    speed: f64,
    scale: f64,
    seed: u64,
) -> impl Iterator<Item = PlannedRequest> + Send + 'static {
    log.sort_by_key(|request| request.at_us);
    spread_whole_seconds(&mut log);
    let start_us = log.first().map_or(0, |request| request.at_us);
    let mut copies_rng = stream::named(seed, "copies");
    log.into_iter().flat_map(move |request| {
        let planned = PlannedRequest {
            at: Duration::from_secs_f64((request.at_us - start_us) as f64 / 1e6 / speed),
            method: request.method,
            path_and_query: request.path_and_query,
            tenant: request.consumer,
        };
        std::iter::repeat_n(planned, copies(scale, &mut copies_rng))
    })
}

/// How often to send a request so that `scale` copies are sent on average.
fn copies(scale: f64, rng: &mut Pcg64Mcg) -> usize {
    let more = rng.random::<f64>() < scale.fract();
    scale as usize + usize::from(more)
}

fn spread_whole_seconds(log: &mut [LoggedRequest]) {
    if log.iter().any(|request| request.at_us % 1_000_000 != 0) {
        return;
    }
    for second in log.chunk_by_mut(|a, b| a.at_us == b.at_us) {
        let count = second.len() as i64;
        for (index, request) in second.iter_mut().enumerate() {
            request.at_us += 1_000_000 * index as i64 / count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(loads: &[(i64, f64)]) -> Vec<SeriesPoint> {
        loads
            .iter()
            .map(|&(at_s, load)| SeriesPoint { at_us: at_s * 1_000_000, load, per_second: false })
            .collect()
    }

    fn logged(at_us: i64, path: &str) -> LoggedRequest {
        LoggedRequest { at_us, method: Method::GET, path_and_query: path.into(), consumer: "c".into() }
    }

    #[test]
    fn speed_and_scale_keep_the_shape() {
        // Two busy minutes around a quiet one, then a gap of an hour.
        let pieces = pieces(&points(&[(0, 6_000.0), (60, 0.0), (120, 3_000.0), (3_720, 600.0)]), 60.0);
        assert_eq!(
            pieces.iter().map(|p| (p.from_s, p.length_s)).collect::<Vec<_>>(),
            [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (62.0, 1.0)]
        );
        let plan: Vec<_> = series_plan(pieces, 0.1, Vec::new(), 5).collect();
        let between =
            |from, until| plan.iter().filter(|r| (from..until).contains(&r.at.as_secs_f64())).count();
        // 600, 0, 300, silence and 60 expected; bounds are four standard deviations wide.
        assert!((500..700).contains(&between(0.0, 1.0)), "{}", between(0.0, 1.0));
        assert_eq!(between(1.0, 2.0) + between(3.0, 62.0), 0);
        assert!((230..370).contains(&between(2.0, 3.0)), "{}", between(2.0, 3.0));
        assert!((29..91).contains(&between(62.0, 63.0)), "{}", between(62.0, 63.0));
        assert!(plan.is_sorted_by_key(|request| request.at));
    }

    #[test]
    fn peak_rate_scales_the_busiest_step() {
        let pieces = pieces(&points(&[(0, 600.0), (60, 6_000.0)]), 60.0);
        assert_eq!(scale_of_pieces(&pieces, Scale::PeakRate(50.0)), 50.0 / 6_000.0);
        assert_eq!(scale_of_pieces(&[], Scale::PeakRate(50.0)), 0.0);
        let log: Vec<_> = (0..40).map(|i| logged(i * 250_000, "/")).collect();
        assert_eq!(scale_of_log(&log, 2.0, Scale::PeakRate(4.0)), 0.5, "8 a second as replayed");
    }

    #[test]
    fn a_log_of_whole_seconds_is_spread_and_keeps_its_order() {
        let log = vec![logged(2_000_000, "/c"), logged(1_000_000, "/a"), logged(1_000_000, "/b")];
        let plan: Vec<_> = log_plan(log, 2.0, 1.0, 1).map(|r| (r.at.as_millis(), r.path_and_query)).collect();
        assert_eq!(plan, [(0, "/a".into()), (250, "/b".into()), (500, "/c".into())]);
    }

    #[test]
    fn a_log_is_thinned_and_multiplied() {
        let log: Vec<_> = (0..2_000).map(|i| logged(i * 1_500, "/")).collect();
        let third = log_plan(log.clone(), 1.0, 1.0 / 3.0, 9).count();
        assert!((580..750).contains(&third), "{third}");
        assert_eq!(log_plan(log, 1.0, 2.0, 9).count(), 4_000);
    }
}
