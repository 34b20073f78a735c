//! Charts as SVG. Colours are named stand-ins that the style sheet of [`super::report`] replaces, so that one drawing serves a
//! light and a dark page. Knows nothing of HTML.

use std::fmt;

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::IntoDrawingArea;
use plotters::series::{AreaSeries, LineSeries};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle};

use super::latency::DistributionPoint;
use super::progress::Rate;

/// Stands for the colour of lines and areas.
pub const ACCENT: RGBColor = RGBColor(1, 2, 3);
/// Stands for the colour of the grid.
pub const GRID: RGBColor = RGBColor(1, 2, 4);
/// Stands for the colour of axes and text.
pub const INK: RGBColor = RGBColor(1, 2, 5);

/// Width and height of a chart, in the units of its own drawing.
const SIZE: (u32, u32) = (920, 320);

/// A drawing failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChartError(String);

impl fmt::Display for ChartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the chart cannot be drawn: {}", self.0)
    }
}

fn failed(error: impl fmt::Display) -> ChartError {
    ChartError(error.to_string())
}

/// How a number stands at an axis that goes up to another.
type Label = fn(f64, f64) -> String;

/// Axes from zero: what they are of, how far they go, how numbers are written.
#[derive(Clone, Copy, Debug)]
struct Axes<'a> {
    x: (&'a str, f64, Label),
    y: (&'a str, f64, Label),
    x_labels: usize,
}

/// Throughput over time, in MB/s.
///
/// # Errors
/// Where the drawing library fails.
pub fn throughput_over_time(rates: &[Rate]) -> Result<String, ChartError> {
    let end = rates.last().map_or(1.0, |rate| rate.at_seconds).max(0.001);
    let top = rates.iter().map(|rate| rate.mb_per_second).fold(1.0, f64::max) * 1.1;
    let axes = Axes { x: ("seconds", end, trimmed), y: ("MB/s", top, trimmed), x_labels: 10 };
    // Each stands at the middle of its interval. The first held from the beginning: so one alone is a line too.
    let begin = rates.first().map(|first| (0.0, first.mb_per_second));
    let points = begin.into_iter().chain(rates.iter().map(|rate| (rate.at_seconds, rate.mb_per_second)));
    draw(axes, &points.collect::<Vec<_>>())
}

/// Latency by percentile. The horizontal axis stretches the slow end: each step adds a nine.
///
/// # Errors
/// Where the drawing library fails.
pub fn latency_distribution(points: &[DistributionPoint]) -> Result<String, ChartError> {
    let nines = |quantile: f64| -(1.0 - quantile).log10();
    let end = points.last().map_or(1.0, |point| nines(point.quantile)).max(2.0);
    let top = points.last().map_or(1.0, |point| point.millis) * 1.1;
    let axes = Axes {
        x: ("percentile", end, |nines, _| percentile_label(nines)),
        y: ("ms", top, trimmed),
        x_labels: end.ceil() as usize + 1,
    };
    draw(axes, &points.iter().map(|point| (nines(point.quantile), point.millis)).collect::<Vec<_>>())
}

/// `0` → 0 %, `1` → 90 %, `2` → 99 %, `3` → 99.9 %, …
fn percentile_label(nines: f64) -> String {
    let digits = (nines.round() as usize).saturating_sub(2);
    format!("{:.digits$}%", 100.0 * (1.0 - 10f64.powf(-nines)))
}

/// A number at an axis up to `end`, as exactly as tells it from its neighbours there, without zeros that say nothing.
fn trimmed(value: f64, end: f64) -> String {
    if value >= 100.0 {
        return crate::byte_size::display_count(value.round() as u64);
    }
    let digits = (2.0 - end.log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_string() }
}

fn draw(axes: Axes<'_>, points: &[(f64, f64)]) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(36)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..axes.x.1, 0.0..axes.y.1)
            .map_err(failed)?;
        let hair = |color: RGBColor| ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: 1 };
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(hair(GRID))
            .axis_style(hair(INK))
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .axis_desc_style(("sans-serif", 13).into_font().color(&INK))
            .x_labels(axes.x_labels)
            .y_labels(6)
            .x_label_formatter(&|value| (axes.x.2)(*value, axes.x.1))
            .y_label_formatter(&|value| (axes.y.2)(*value, axes.y.1))
            .x_desc(axes.x.0)
            .y_desc(axes.y.0)
            .draw()
            .map_err(failed)?;
        chart.draw_series(AreaSeries::new(points.iter().copied(), 0.0, ACCENT.mix(0.14))).map_err(failed)?;
        chart.draw_series(LineSeries::new(points.iter().copied(), ACCENT.stroke_width(2))).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::summary;

    #[test]
    fn both_charts_draw_their_data() {
        let (_, measured) = summary::example();
        let rates: Vec<_> = measured.timeline.rates().collect();
        let throughput = throughput_over_time(&rates).unwrap();
        let distribution = latency_distribution(&measured.latencies.distribution()).unwrap();
        for (svg, axis) in [(&throughput, "MB/s"), (&distribution, "99.9%")] {
            assert!(svg.starts_with("<svg") && svg.contains("<polyline") && svg.contains(axis), "{axis}");
        }
    }

    #[test]
    fn a_run_too_short_for_data_draws_empty_axes() {
        assert!(throughput_over_time(&[]).unwrap().starts_with("<svg"));
        assert!(latency_distribution(&[]).unwrap().starts_with("<svg"));
    }

    #[test]
    fn a_run_of_one_interval_has_its_line() {
        let rate = Rate { at_seconds: 0.02, records_per_second: 1e6, mb_per_second: 100.0 };
        let svg = throughput_over_time(&[rate]).unwrap();
        let points =
            svg.split_once("<polyline").unwrap().1.split_once("points=\"").unwrap().1.split_once('"').unwrap().0;
        assert_eq!(points.split_whitespace().count(), 2, "{points}");
    }

    #[test]
    fn numbers_at_an_axis_differ_from_their_neighbours() {
        for end in [1e-4, 0.0225, 0.3, 1.0, 7.9, 25.0, 99.0, 110.0, 1_234.0, 98_765.4] {
            // No axis has more.
            let labels: Vec<_> = (0..=20).map(|n| trimmed(f64::from(n) * end / 20.0, end)).collect();
            assert!(labels.windows(2).all(|pair| pair[0] != pair[1]), "{end}: {labels:?}");
        }
        assert_eq!([0.002, 0.02].map(|seconds| trimmed(seconds, 0.0225)), ["0.002", "0.02"]);
        assert_eq!([0.0, 20.0, 120.0].map(|seconds| trimmed(seconds, 130.0)), ["0", "20", "120"]);
        assert_eq!(trimmed(12_000.0, 12_500.0), "12,000");
    }

    #[test]
    fn percentiles_gain_a_nine_with_each_step() {
        let labels: Vec<_> = (0..6).map(|nines| percentile_label(f64::from(nines))).collect();
        assert_eq!(labels, ["0%", "90%", "99%", "99.9%", "99.99%", "99.999%"]);
    }
}
