//! What a check found, each with its remedy. Pure.

use std::io::Write;

use serde_json::json;

use crate::commands::{NotHealthy, print_json, printable};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// As it should be.
    Good,
    /// The service works, and somebody should know.
    Warning,
    /// The service does not work, or not for long.
    Fault,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) mark: Mark,
    /// What was looked at: `brokers`, `topic`, ….
    pub(super) part: &'static str,
    pub(super) what: String,
    /// What to do.
    pub(super) remedy: Option<String>,
}

/// Everything that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
}

impl Report {
    fn add(
        &mut self,
        mark: Mark,
        part: &'static str,
        what: impl Into<String>,
        remedy: Option<String>,
    ) {
        self.findings.push(Finding {
            mark,
            part,
            what: what.into(),
            remedy,
        });
    }

    pub(super) fn good(&mut self, part: &'static str, what: impl Into<String>) {
        self.add(Mark::Good, part, what, None);
    }

    pub(super) fn warn(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Mark::Warning, part, what, Some(remedy.into()));
    }

    pub(super) fn fault(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Mark::Fault, part, what, Some(remedy.into()));
    }

    fn count(&self, mark: Mark) -> usize {
        self.findings
            .iter()
            .filter(|found| found.mark == mark)
            .count()
    }

    /// Prints the findings, and how many of each kind there are.
    ///
    /// # Errors
    /// [`NotHealthy`], where there is a fault.
    pub(super) fn print(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        match json {
            true => self.print_json(out)?,
            false => self.print_lines(out)?,
        }
        match self.count(Mark::Fault) {
            0 => Ok(()),
            _ => Err(NotHealthy.into()),
        }
    }

    fn print_lines(&self, out: &mut impl Write) -> anyhow::Result<()> {
        for found in &self.findings {
            let sign = match found.mark {
                Mark::Good => '✓',
                Mark::Warning => '!',
                Mark::Fault => '✗',
            };
            writeln!(out, "{sign} {:<12}{}", found.part, printable(&found.what))?;
            if let Some(remedy) = &found.remedy {
                writeln!(out, "  {:<12}→ {}", "", printable(remedy))?;
            }
        }
        let (faults, warnings) = (self.count(Mark::Fault), self.count(Mark::Warning));
        let good = self.count(Mark::Good);
        Ok(writeln!(
            out,
            "\n{good} good, {warnings} to know, {faults} to mend"
        )?)
    }

    fn print_json(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let found = |found: &Finding| {
            json!({
                "mark": match found.mark {
                    Mark::Good => "good",
                    Mark::Warning => "warning",
                    Mark::Fault => "fault",
                },
                "part": found.part,
                "what": found.what,
                "remedy": found.remedy,
            })
        };
        let value = json!({
            "healthy": self.count(Mark::Fault) == 0,
            "findings": self.findings.iter().map(found).collect::<Vec<_>>(),
        });
        Ok(print_json(out, &value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_its_remedy_and_ends_with_1() {
        let mut report = Report::default();
        report.good("brokers", "3 brokers answer");
        report.warn(
            "topic",
            "records are deleted after 7 days",
            "set retention.ms=-1",
        );
        let mut out = Vec::new();
        report.print(false, &mut out).unwrap();
        report.fault(
            "group",
            "2 members of another protocol",
            "stop the former service",
        );
        assert!(
            report
                .print(false, &mut out)
                .unwrap_err()
                .is::<NotHealthy>()
        );
        let text = String::from_utf8(out).unwrap();
        for line in [
            "✓ brokers     3 brokers answer",
            "! topic       records are deleted after 7 days",
            "              → set retention.ms=-1",
            "✗ group       2 members of another protocol",
            "1 good, 1 to know, 1 to mend",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let mut json = Vec::new();
        assert!(report.print(true, &mut json).is_err());
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["healthy"], false);
        assert_eq!(json["findings"][1]["mark"], "warning");
        assert_eq!(json["findings"][2]["remedy"], "stop the former service");
    }
}
