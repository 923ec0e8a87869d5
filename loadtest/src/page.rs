//! One self-contained HTML page of tables and charts: what a run came to, for people who would rather look than read.

use std::fmt::Write as _;

use plotters::prelude::*;

use crate::plane::{self, Plane};

/// Size of a chart in pixels; it scales with the page.
const CHART: (u32, u32) = (960, 300);

/// A line over time.
#[derive(Clone, Debug)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// (seconds, value), in order of time.
    pub points: Vec<(f64, f64)>,
}

/// A chart over time: lines, an optional band between two values, shaded spans.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// Unit of the vertical axis.
    pub unit: String,
    /// (seconds, low, high), in order of time.
    pub band: Vec<(f64, f64, f64)>,
    /// Lines.
    pub lines: Vec<Line>,
    /// Shaded spans: from, to, seconds.
    pub spans: Vec<(f64, f64)>,
}

/// A page that grows from top to bottom.
#[derive(Clone, Debug)]
pub struct Page {
    body: String,
    title: String,
}

impl Page {
    /// Empty, with a heading.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self { body: format!("<h1>{title}</h1>\n"), title }
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// A table; the first column holds names.
    pub fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) {
        let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            cells.fold(String::new(), |line, cell| format!("{line}<{tag}>{}</{tag}>", escape(cell)))
        };
        let _ = write!(self.body, "<table><tr>{}</tr>", cells("th", &mut heads.iter().copied()));
        for row in rows {
            let _ = write!(self.body, "<tr>{}</tr>", cells("td", &mut row.iter().map(String::as_str)));
        }
        self.body.push_str("</table>\n");
    }

    /// A list.
    pub fn list(&mut self, items: impl Iterator<Item = String>) {
        let items = items.fold(String::new(), |list, item| format!("{list}<li>{}</li>", escape(&item)));
        let _ = writeln!(self.body, "<ul>{items}</ul>");
    }

    /// A chart. One that cannot be drawn leaves a line that says so.
    pub fn chart(&mut self, chart: &Chart) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(&chart.title));
        match draw(chart) {
            Ok(svg) => self.body.push_str(&svg),
            Err(error) => self.paragraph(&format!("(not drawn: {error})")),
        }
    }

    /// A chart of anything over anything. One that cannot be drawn leaves a line that says so.
    pub fn plane(&mut self, plane: &Plane) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(&plane.title));
        match plane::draw(plane) {
            Ok(svg) => self.body.push_str(&svg),
            Err(error) => self.paragraph(&format!("(not drawn: {error})")),
        }
    }

    /// The whole page.
    pub fn finish(self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{}</title>\n<style>{STYLE}</style>\n\
             <main>\n{}</main></html>\n",
            self.title, self.body
        )
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#f6f8fa;margin:0}\
main{max-width:980px;margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.1rem;margin-top:2rem}\
svg{width:100%;height:auto;background:#fff;border:1px solid #d8dee4;border-radius:8px}\
table{border-collapse:collapse;background:#fff;margin:1rem 0}td,th{padding:.35rem .9rem;border:1px solid #d8dee4;\
text-align:right}td:first-child,th:first-child{text-align:left}li{margin:.2rem 0}";

const COLOURS: [RGBColor; 4] =
    [RGBColor(9, 105, 218), RGBColor(191, 57, 137), RGBColor(26, 127, 55), RGBColor(188, 76, 0)];

fn draw(chart: &Chart) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let (until, top) = extent(chart);
        let root = SVGBackend::with_string(&mut svg, CHART).into_drawing_area();
        root.fill(&WHITE)?;
        let mut plot = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..until, 0.0..top)?;
        plot.configure_mesh()
            .light_line_style(RGBColor(240, 242, 245))
            .x_desc("s")
            .y_desc(&chart.unit)
            .draw()?;
        for &(from, to) in &chart.spans {
            let shade = RGBColor(255, 196, 0).mix(0.18).filled();
            plot.draw_series([Rectangle::new([(from, 0.0), (to, top)], shade)])?;
        }
        let upper = chart.band.iter().map(|&(at, _, high)| (at, high));
        let lower = chart.band.iter().rev().map(|&(at, low, _)| (at, low));
        let outline: Vec<_> = upper.chain(lower).collect();
        if !outline.is_empty() {
            plot.draw_series([Polygon::new(outline, COLOURS[0].mix(0.15).filled())])?;
        }
        plane::draw_lines(&mut plot, &chart.lines, &COLOURS)?;
        root.present()?;
    }
    Ok(svg)
}

fn extent(chart: &Chart) -> (f64, f64) {
    let points = chart.lines.iter().flat_map(|line| line.points.iter().copied());
    let band = chart.band.iter().map(|&(at, _, high)| (at, high));
    let (until, top) = points
        .chain(band)
        .filter(|(at, value)| at.is_finite() && value.is_finite())
        .fold((1.0_f64, 0.0_f64), |(until, top), (at, value)| (until.max(at), top.max(value)));
    (until, if top > 0.0 { top * 1.1 } else { 1.0 })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_what_it_was_given_and_nothing_breaks_out_of_it() {
        let mut page = Page::new("a < b");
        page.paragraph("<script>alert(1)</script>");
        page.table(&["policy", "p99"], &[vec!["predictive".into(), "12 ms".into()]]);
        page.chart(&Chart {
            title: "load".into(),
            unit: "cost/s".into(),
            lines: vec![Line {
                name: "actual".into(),
                points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
            }],
            ..Chart::default()
        });
        let html = page.finish();
        assert!(html.contains("a &lt; b") && html.contains("<td>12 ms</td>") && html.contains("<svg"));
        assert!(!html.contains("<script>"));
    }
}
