//! Medians as bars with their spread, in one SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::figures::{Figure, Figures, short};

const WIDTH: u32 = 900;
const ROW: u32 = 18;
const HEAD: u32 = 40;
const LABEL: i32 = 400;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws what is there of the rates, the costs and the delays.
pub fn draw(path: &Path, figures: &Figures) -> Result<()> {
    let panels = [
        (
            "records a second",
            vec!["drain", "peers", "scale"],
            "records/s",
        ),
        ("CPU a record, µs", vec!["drain", "peers"], "µs"),
        ("freshness, ms", vec!["freshness"], "ms"),
    ];
    let panels: Vec<(&str, Vec<&Figure>)> = panels
        .iter()
        .map(|(title, sections, unit)| (*title, figures.of_unit(sections, unit).collect()))
        .filter(|(_, figures): &(_, Vec<_>)| !figures.is_empty())
        .collect();
    let heights: Vec<u32> = panels
        .iter()
        .map(|(_, figures)| HEAD + ROW * figures.len() as u32)
        .collect();
    let area =
        SVGBackend::new(path, (WIDTH, heights.iter().sum::<u32>().max(1))).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let mut rest = area.clone();
    for ((title, figures), height) in panels.iter().zip(heights) {
        let (panel, below) = rest.split_vertically(height);
        bars(&panel, title, figures)?;
        rest = below;
    }
    area.present().map_err(failed)
}

fn bars(area: &Area<'_>, title: &str, figures: &[&Figure]) -> Result<()> {
    let text = ("sans-serif", 12).into_font();
    let top = figures
        .iter()
        .map(|f| f.spread().1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LABEL + (value / top * f64::from(WIDTH as i32 - LABEL - 70)) as i32;
    area.draw(&Text::new(
        title.to_owned(),
        (10, 14),
        ("sans-serif", 15).into_font(),
    ))
    .map_err(failed)?;
    for (row, figure) in figures.iter().enumerate() {
        let y = HEAD as i32 + ROW as i32 * row as i32;
        let (least, most) = figure.spread();
        let label = format!("{}: {}", figure.case, figure.name);
        area.draw(&Text::new(label, (10, y), text.clone()))
            .map_err(failed)?;
        let colour = if figure.name.starts_with("service") {
            RGBColor(20, 90, 160)
        } else {
            RGBColor(160, 175, 190)
        };
        area.draw(&Rectangle::new(
            [(LABEL, y), (x(figure.median()), y + 11)],
            colour.filled(),
        ))
        .map_err(failed)?;
        area.draw(&PathElement::new(
            [(x(least), y + 5), (x(most), y + 5)],
            BLACK,
        ))
        .map_err(failed)?;
        area.draw(&Text::new(
            short(figure.median()),
            (x(most) + 6, y),
            text.clone(),
        ))
        .map_err(failed)?;
    }
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}
