//! What was measured: each figure with the value of every round.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};

/// One figure of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured, such as `drain`.
    pub section: String,
    /// In which case, such as `12 partitions, empty`.
    pub case: String,
    /// Which figure of it, such as `service`.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Its value in each round.
    pub rounds: Vec<f64>,
}

impl Figure {
    /// The median over the rounds.
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// The least and the greatest.
    pub fn spread(&self) -> (f64, f64) {
        let rounds = self.rounds.iter().copied();
        (
            rounds.clone().fold(f64::INFINITY, f64::min),
            rounds.fold(f64::NEG_INFINITY, f64::max),
        )
    }
}

/// All figures of a run, in the order in which they were first taken.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The source's revision.
    revision: String,
    /// How many processors the machine has.
    processors: usize,
    figures: Vec<Figure>,
}

impl Figures {
    /// Notes the value of one round.
    pub fn add(&mut self, section: &str, case: &str, name: &str, unit: &str, value: f64) {
        println!("   {case}: {name} {} {unit}", short(value));
        let known = self
            .figures
            .iter_mut()
            .find(|f| f.section == section && f.case == case && f.name == name);
        match known {
            Some(figure) => figure.rounds.push(value),
            None => self.figures.push(Figure {
                section: section.to_owned(),
                case: case.to_owned(),
                name: name.to_owned(),
                unit: unit.to_owned(),
                rounds: vec![value],
            }),
        }
    }

    /// One figure.
    pub fn get(&self, section: &str, case: &str, name: &str) -> Option<&Figure> {
        self.figures
            .iter()
            .find(|f| f.section == section && f.case == case && f.name == name)
    }

    /// The figures of one unit in some sections.
    pub fn of_unit<'f>(
        &'f self,
        sections: &'f [&str],
        unit: &'f str,
    ) -> impl Iterator<Item = &'f Figure> {
        self.figures
            .iter()
            .filter(move |f| sections.contains(&f.section.as_str()) && f.unit == unit)
    }

    /// Reads what [`Figures::write`] wrote.
    pub fn read(path: &Path) -> Result<Figures> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} holds no figures", path.display()))
    }

    /// Writes all figures as JSON.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        self.revision = workflows_sink::telemetry::version::REVISION.to_owned();
        self.processors = std::thread::available_parallelism()?.get();
        Ok(fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }

    /// A table of medians and spreads, and of the change against another run.
    pub fn table(&self, against: Option<&Figures>) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["", "case", "figure", "median", "spread", "unit", "change"]);
        for figure in &self.figures {
            let (least, most) = figure.spread();
            let before = against.and_then(|a| a.get(&figure.section, &figure.case, &figure.name));
            table.add_row([
                figure.section.clone(),
                figure.case.clone(),
                figure.name.clone(),
                short(figure.median()),
                format!("{} – {}", short(least), short(most)),
                figure.unit.clone(),
                before.map_or_else(String::new, |before| {
                    format!(
                        "{:+.1} %",
                        100.0 * (figure.median() / before.median() - 1.0)
                    )
                }),
            ]);
        }
        table
    }
}

/// Three digits that say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The middle one, or the mean of the two in the middle; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

/// The value below which a share `q` lies; NaN of none.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (q * sorted.len() as f64).ceil() as usize;
    sorted
        .get(index.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles_are_of_the_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan() && quantile(&[], 0.5).is_nan());
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.5), 50.0);
        assert_eq!(quantile(&hundred, 0.99), 99.0);
        assert_eq!(quantile(&hundred, 0.999), 100.0);
        assert_eq!(quantile(&hundred, 0.0), 1.0);
    }

    #[test]
    fn rounds_gather_under_one_figure_and_come_back_from_a_file() {
        let mut figures = Figures::default();
        for value in [2.0, 4.0, 3.0] {
            figures.add("drain", "empty", "service", "records/s", value);
        }
        figures.add("drain", "empty", "ceiling", "records/s", 5.0);
        let directory = std::env::temp_dir().join(format!("figures-{}", std::process::id()));
        figures.write(&directory).unwrap();
        let read = Figures::read(&directory).unwrap();
        fs::remove_file(&directory).unwrap();
        let figure = read.get("drain", "empty", "service").unwrap();
        assert_eq!((figure.median(), figure.spread()), (3.0, (2.0, 4.0)));
        assert_eq!(read.of_unit(&["drain"], "records/s").count(), 2);
        assert!(figures.table(Some(&read)).to_string().contains("+0.0 %"));
    }
}
