//! The shipped dashboard: its panels, and what a Prometheus answers to them.

use anyhow::Result;
use serde_json::Value;

use crate::prometheus::{Labels, Prometheus};

const DASHBOARD: &str = include_str!("../../kubernetes/components/observability/dashboard.json");

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// Column, row, width and height, on a board of 24 columns.
    pub place: [u32; 4],
    /// Grafana's name of the unit.
    pub unit: String,
    /// Whether it shows what is now, and not what was.
    pub is_number: bool,
    /// What it asks.
    pub queries: Vec<Query>,
}

/// One question of a panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// What names a series of it, with labels in double braces.
    pub legend: String,
    /// The expression, with Grafana's variables.
    expression: String,
}

impl Query {
    /// The expression, over rates of `window`, such as `30s`, and every namespace.
    pub fn expression(&self, window: &str) -> String {
        let expression = self.expression.replace("$__rate_interval", window);
        expression.replace("$namespace", ".*")
    }

    /// What a series is called.
    pub fn name(&self, labels: &Labels) -> String {
        let mut name = self.legend.clone();
        for (label, value) in labels {
            name = name.replace(&format!("{{{{{label}}}}}"), value);
        }
        name
    }
}

impl Panel {
    /// What it shows now: the name and the value of each series.
    pub fn figures(&self, prometheus: &Prometheus, window: &str) -> Result<Vec<(String, f64)>> {
        let mut figures = Vec::new();
        for query in &self.queries {
            let found = prometheus.query(&query.expression(window))?;
            figures.extend(
                found
                    .iter()
                    .map(|(labels, value)| (query.name(labels), *value)),
            );
        }
        Ok(figures)
    }

    /// A value as a person reads it.
    pub fn shown(&self, value: f64) -> String {
        match self.unit.as_str() {
            "s" if value != 0.0 && value < 1.0 => format!("{:.1} ms", value * 1e3),
            "s" if value >= 172_800.0 => format!("{:.0} d", value / 86_400.0),
            "s" => format!("{value:.1} s"),
            "bytes" if value >= 1_048_576.0 => format!("{:.1} MiB", value / 1_048_576.0),
            "bytes" if value >= 1024.0 => format!("{:.1} KiB", value / 1024.0),
            "bytes" => format!("{value:.0} B"),
            "percentunit" => format!("{:.2} %", value * 100.0),
            "cps" if value > 0.0 && value < 1.0 => format!("{value:.2}/s"),
            "cps" => format!("{value:.1}/s"),
            _ if value.fract() == 0.0 => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        }
    }
}

/// Every panel, from the top left.
pub fn panels() -> Vec<Panel> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let panels = panels.map(|panel| {
        let queries = panel["targets"].as_array().expect("queries").iter();
        let queries = queries.map(|query| Query {
            legend: query["legendFormat"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            expression: text(&query["expr"]),
        });
        Panel {
            title: text(&panel["title"]),
            place: ["x", "y", "w", "h"].map(|name| {
                let number = panel["gridPos"][name].as_u64().expect("a place");
                u32::try_from(number).expect("a small one")
            }),
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
            is_number: panel["type"] == "stat",
            queries: queries.collect(),
        }
    });
    panels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_people_read_them() {
        let panel = |unit: &str| Panel {
            title: String::new(),
            place: [0; 4],
            unit: unit.to_owned(),
            is_number: true,
            queries: vec![],
        };
        assert_eq!(panel("s").shown(0.0042), "4.2 ms");
        assert_eq!(panel("s").shown(0.0), "0.0 s");
        assert_eq!(panel("bytes").shown(3.0 * 1_048_576.0), "3.0 MiB");
        assert_eq!(panel("percentunit").shown(0.001), "0.10 %");
        assert_eq!(panel("cps").shown(12.34), "12.3/s");
        assert_eq!(panel("short").shown(12.0), "12");
    }

    #[test]
    fn a_series_is_called_by_its_labels() {
        let query = Query {
            legend: "{{topic}}/{{partition}}".to_owned(),
            expression: String::new(),
        };
        let labels = [("topic", "t"), ("partition", "0")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query.name(&labels.into()), "t/0");
        assert!(panels().len() > 20);
    }
}
