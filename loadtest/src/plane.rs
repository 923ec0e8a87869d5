//! A chart of anything over anything: points, lines, plain or logarithmic axes. [`crate::page::Chart`] is for time.

use plotters::coord::ranged1d::AsRangedCoord;
use plotters::prelude::*;

use crate::page::Line;

const SIZE: (u32, u32) = (960, 420);
/// Thousands of points of one colour are told apart by being half transparent.
const POINT: RGBAColor = RGBAColor(9, 105, 218, 0.25);
const COLOURS: [RGBColor; 4] =
    [RGBColor(191, 57, 137), RGBColor(26, 127, 55), RGBColor(188, 76, 0), RGBColor(100, 100, 110)];

/// What to draw; values that are not finite, or not positive on logarithmic axes, are left out.
#[derive(Clone, Debug, Default)]
pub struct Plane {
    /// Heading.
    pub title: String,
    /// Name of the horizontal axis.
    pub across: String,
    /// Name of the vertical axis.
    pub up: String,
    /// Both axes are logarithmic.
    pub logarithmic: bool,
    /// Single points.
    pub points: Vec<(f64, f64)>,
    /// Lines, each with a name for the legend.
    pub lines: Vec<Line>,
}

type Failed = Box<dyn std::error::Error>;

/// The chart as SVG.
pub(crate) fn draw(plane: &Plane) -> Result<String, Failed> {
    let shown =
        |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!plane.logarithmic || (x > 0.0 && y > 0.0));
    let points: Vec<(f64, f64)> = plane.points.iter().copied().filter(shown).collect();
    let lines: Vec<Line> = plane
        .lines
        .iter()
        .map(|line| Line { points: line.points.iter().copied().filter(shown).collect(), ..line.clone() })
        .collect();
    let all = || points.iter().chain(lines.iter().flat_map(|line| &line.points)).copied();
    let across = range(all().map(|point| point.0), plane.logarithmic);
    let up = range(all().map(|point| point.1), plane.logarithmic);
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    if plane.logarithmic {
        draw_in(&root, plane, (across.log_scale(), up.log_scale()), (&points, &lines))?;
    } else {
        draw_in::<std::ops::Range<f64>>(&root, plane, (across, up), (&points, &lines))?;
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

fn draw_in<R>(
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    plane: &Plane,
    (across, up): (R, R),
    (points, lines): (&[(f64, f64)], &[Line]),
) -> Result<(), Failed>
where
    R: AsRangedCoord<Value = f64>,
    R::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let mut plot = ChartBuilder::on(root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(72)
        .build_cartesian_2d(across, up)?;
    plot.configure_mesh()
        .light_line_style(RGBColor(246, 248, 250))
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .x_desc(&plane.across)
        .y_desc(&plane.up)
        .draw()?;
    plot.draw_series(points.iter().map(|&point| Circle::new(point, 2, POINT.filled())))?;
    draw_lines(&mut plot, lines, &COLOURS)?;
    Ok(())
}

/// Lines in these colours, in turn, and their legend.
pub(crate) fn draw_lines<'a, X, Y>(
    plot: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    lines: &[Line],
    colours: &[RGBColor],
) -> Result<(), Failed>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (line, &colour) in lines.iter().zip(colours.iter().cycle()) {
        plot.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    plot.configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// From the least to the largest value, with a little air; something sensible for no value at all.
fn range(values: impl Iterator<Item = f64>, logarithmic: bool) -> std::ops::Range<f64> {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return if logarithmic { 1.0..10.0 } else { 0.0..1.0 };
    }
    if logarithmic {
        return low / 1.2..high * 1.2;
    }
    let air = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-9);
    low - air..high + air
}

fn tick(value: &f64) -> String {
    match value.abs() {
        size if size >= 1e6 || (size > 0.0 && size < 1e-3) => format!("{value:.0e}"),
        size if size >= 10.0 || size.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_one_point_and_nonsense_can_all_be_drawn() {
        for logarithmic in [false, true] {
            for points in [vec![], vec![(5.0, 5.0)], vec![(0.0, -1.0), (f64::NAN, 1.0), (2.0, 1e9)]] {
                let lines = vec![Line { name: "line".into(), points: points.clone() }];
                let plane = Plane { logarithmic, points, lines, ..Plane::default() };
                assert!(draw(&plane).unwrap().starts_with("<svg"));
            }
        }
    }
}
