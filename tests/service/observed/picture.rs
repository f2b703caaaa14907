//! The dashboard as a picture, drawn from what a Prometheus answers.

use std::fmt::Write as _;
use std::time::Duration;

use local_stack::Prometheus;
use local_stack::board::{Panel, panels};
use local_stack::prometheus::Points;

/// A column and a row of the board, in the picture's units.
const COLUMN: f64 = 46.0;
const ROW: f64 = 24.0;
const MARGIN: f64 = 4.0;

/// Below the title and beside the axis.
const HEAD: f64 = 24.0;
const AXIS: f64 = 52.0;
const FOOT: f64 = 22.0;

/// A line of text, and how wide a character is.
const LINE: f64 = 18.0;
const CHAR: f64 = 6.2;

const BACKGROUND: &str = "#111217";
const PANEL: &str = "#181b1f";
const TEXT: &str = "#ccccdc";
const DIM: &str = "#8e8e9e";
const GRID: &str = "#2c3036";
const COLOURS: [&str; 6] = [
    "#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9",
];

/// Series with a name.
type Series = Vec<(String, Points)>;

/// The picture of the `last` time, with rates over `window`.
pub fn draw(prometheus: &Prometheus, last: Duration, window: &str) -> String {
    let panels = panels();
    let below = panels.iter().map(|panel| panel.place[1] + panel.place[3]);
    let height = f64::from(below.max().expect("panels")) * ROW;
    let width = 24.0 * COLUMN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
        font-family=\"system-ui,sans-serif\" font-size=\"11\">\n\
        <title>The dashboard of workflows-sink</title>\n\
        <rect width=\"{width}\" height=\"{height}\" fill=\"{BACKGROUND}\"/>\n"
    );
    for panel in &panels {
        let [x, y, w, h] = panel.place.map(f64::from);
        let (x, y) = (x * COLUMN + MARGIN / 2.0, y * ROW + MARGIN / 2.0);
        let (w, h) = (w * COLUMN - MARGIN, h * ROW - MARGIN);
        let title = escaped(&panel.title);
        let _ = writeln!(
            out,
            "<g transform=\"translate({x} {y})\"><rect width=\"{w}\" height=\"{h}\" rx=\"3\" \
            fill=\"{PANEL}\"/><text x=\"8\" y=\"16\" fill=\"{TEXT}\" font-weight=\"600\">{title}</text>"
        );
        match panel.is_number {
            true => numbers(&mut out, panel, prometheus, window),
            false => lines(
                &mut out,
                panel,
                &series(panel, prometheus, last, window),
                (w, h),
            ),
        }
        out.push_str("</g>\n");
    }
    out + "</svg>\n"
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}

fn numbers(out: &mut String, panel: &Panel, prometheus: &Prometheus, window: &str) {
    let mut figures = panel.figures(prometheus, window).expect("an answer");
    if figures.is_empty() {
        // The test names the panels of which this is so.
        figures.push(("no sidecar runs in this test".to_owned(), f64::NAN));
    }
    let not_zero = |(_, value): &(String, f64)| *value != 0.0;
    if figures.iter().any(not_zero) {
        figures.retain(not_zero);
    } else {
        figures = vec![(String::new(), 0.0)];
    }
    for (row, (name, value)) in figures.iter().take(4).enumerate() {
        let y = HEAD + 20.0 + row as f64 * LINE;
        let shown = match value.is_nan() {
            true => String::new(),
            false => panel.shown(*value),
        };
        let (size, colour) = (if figures.len() == 1 { 20 } else { 14 }, COLOURS[0]);
        let _ = write!(
            out,
            "<text x=\"8\" y=\"{y:.0}\" fill=\"{DIM}\">{name}</text><text x=\"172\" y=\"{y:.0}\" \
            text-anchor=\"end\" font-size=\"{size}\" fill=\"{colour}\">{shown}</text>",
            name = escaped(name),
        );
    }
}

fn series(panel: &Panel, prometheus: &Prometheus, last: Duration, window: &str) -> Series {
    let mut all = Series::new();
    for query in &panel.queries {
        let found = prometheus.query_range(&query.expression(window), last);
        let found = found.expect("an answer").into_iter();
        all.extend(found.map(|(labels, points)| (query.name(&labels), points)));
    }
    for (_, points) in &mut all {
        points.retain(|(_, value)| value.is_finite());
    }
    let largest =
        |(_, points): &(String, Points)| points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    // Those that stay at 0 would only fill the legend.
    if all.iter().any(|one| largest(one) > 0.0) {
        all.retain(|one| largest(one) > 0.0);
    }
    all.sort_by(|one, other| largest(other).total_cmp(&largest(one)));
    all
}

fn lines(out: &mut String, panel: &Panel, all: &Series, (w, h): (f64, f64)) {
    let points = || all.iter().flat_map(|(_, points)| points);
    let times = || points().map(|(at, _)| *at);
    let (begin, end) = (
        times().fold(f64::MAX, f64::min),
        times().fold(0.0, f64::max),
    );
    let top = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.1 } else { 1.0 };
    let (base, left, right) = (h - FOOT, AXIS, w - 8.0);
    for part in [0.0, 0.5, 1.0] {
        let y = base - part * (base - HEAD - 6.0);
        let label = panel.shown((top * part * 1e4).round() / 1e4);
        let _ = write!(
            out,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"{GRID}\"/><text x=\"{x}\" y=\"{ty:.1}\" \
            text-anchor=\"end\" font-size=\"9\" fill=\"{DIM}\">{label}</text>",
            x = left - 4.0,
            ty = y + 3.0,
        );
    }
    let place = |at: f64, value: f64| {
        let x = left + (at - begin) / (end - begin).max(1.0) * (right - left);
        (x, base - value / top * (base - HEAD - 6.0))
    };
    for ((_, points), colour) in all.iter().zip(COLOURS) {
        let path = points.iter().map(|(at, value)| {
            let (x, y) = place(*at, *value);
            format!("{x:.1},{y:.1}")
        });
        let path = path.collect::<Vec<_>>().join(" ");
        let _ = write!(
            out,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>"
        );
    }
    legend(out, all, h, right);
}

fn legend(out: &mut String, all: &Series, h: f64, right: f64) {
    let mut x = 8.0;
    for ((name, _), colour) in all.iter().zip(COLOURS) {
        let width = name.chars().count() as f64 * CHAR + 12.0;
        if x + width > right {
            break;
        }
        let y = h - 6.0;
        let _ = write!(
            out,
            "<text x=\"{x:.0}\" y=\"{y}\" fill=\"{colour}\" font-size=\"10\">{}</text>",
            escaped(name)
        );
        x += width;
    }
}
