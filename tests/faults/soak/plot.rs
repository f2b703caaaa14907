//! A small picture for each series, in one SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 210;
const COLUMNS: usize = 2;

/// Draws series of (minutes, value), with vertical lines where a fault began.
pub fn draw(path: &Path, series: &[(&str, Vec<(f64, f64)>)], faults: &[f64]) -> Result<()> {
    let rows = series.len().div_ceil(COLUMNS);
    let size = (WIDTH, HEIGHT * rows as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw: {error}");
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    for (area, (name, points)) in area.split_evenly((rows, COLUMNS)).iter().zip(series) {
        let end = points.last().map_or(1.0, |(at, _)| *at).max(0.1);
        let top = points.iter().map(|(_, value)| *value).fold(1.0, f64::max) * 1.15;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .caption(name, ("sans-serif", 14))
            .x_label_area_size(18)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..end, 0.0..top)
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_labels(7)
            .y_labels(5)
            .draw()
            .map_err(|error| failed(&error))?;
        let grey = RGBColor(205, 205, 205);
        let lines = faults
            .iter()
            .map(|at| PathElement::new([(*at, 0.0), (*at, top)], grey));
        chart.draw_series(lines).map_err(|error| failed(&error))?;
        chart
            .draw_series(LineSeries::new(
                points.iter().copied(),
                RGBColor(20, 90, 160),
            ))
            .map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))?;
    Ok(())
}
