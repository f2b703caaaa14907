//! What a check found, each with its remedy. Pure.

use std::io::Write;

use serde_json::json;
use tokio::task::JoinError;

use crate::commands::text::on_terminal;
use crate::commands::{NotHealthy, print_json};
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;

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
    /// What the runbook calls it: every fault has a code, and a warning where a line of the service
    /// would have it.
    pub(super) code: Option<Code>,
    /// What to do.
    pub(super) remedy: Option<String>,
}

/// Everything that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn good(&mut self, part: &'static str, what: impl Into<String>) {
        self.findings.push(Finding {
            mark: Mark::Good,
            part,
            what: what.into(),
            code: None,
            remedy: None,
        });
    }

    pub(super) fn warn(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            mark: Mark::Warning,
            part,
            what: what.into(),
            code: None,
            remedy: Some(remedy.into()),
        });
    }

    /// A warning about what a line of the service has this code for.
    pub(super) fn warn_of(
        &mut self,
        code: Code,
        part: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.warn(part, what, remedy);
        self.findings.last_mut().expect("it was just added").code = Some(code);
    }

    pub(super) fn fault(
        &mut self,
        code: Code,
        part: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            mark: Mark::Fault,
            part,
            what: what.into(),
            code: Some(code),
            remedy: Some(remedy.into()),
        });
    }

    /// What a look at Kafka gave, which blocks and so has a thread of its own; a fault, where it
    /// gave nothing.
    pub(super) fn looked<T>(
        &mut self,
        part: &'static str,
        looked: Result<anyhow::Result<T>, JoinError>,
    ) -> Option<T> {
        match looked {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => {
                let why = told(&error);
                self.fault(Code::KafkaAway, part, why, "see the faults above");
            }
            Err(error) => self.fault(Code::Panicked, part, error.to_string(), "run it again"),
        }
        None
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
            let code = found.code.map(|code| format!(" ({code})"));
            let (what, code) = (on_terminal(&found.what), code.unwrap_or_default());
            writeln!(out, "{sign} {:<12}{what}{code}", found.part)?;
            if let Some(remedy) = &found.remedy {
                writeln!(out, "  {:<12}→ {}", "", on_terminal(remedy))?;
            }
        }
        let (faults, warnings) = (self.count(Mark::Fault), self.count(Mark::Warning));
        let good = self.count(Mark::Good);
        Ok(writeln!(
            out,
            "\n{good} ok, {warnings} warning(s), {faults} fault(s)"
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
                "code": found.code.map(|code| code.to_string()),
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
    use crate::commands::schema::assert_schema;

    fn healthy() -> Report {
        let mut report = Report::default();
        report.good("brokers", "3 of 3 are reached as they advertise");
        report.good("MongoDB", "8.0.4, set rs0, primary mongodb-0:27017");
        report
    }

    fn troubled() -> Report {
        let mut report = healthy();
        report.warn(
            "topic",
            "t: retention.ms: a record that is not applied within 7.0 days is lost",
            "set retention.ms=-1 or cleanup.policy=compact, or watch the age of the lag",
        );
        report.warn_of(
            Code::Rejected,
            "sample",
            "12 would be rejected (unknown_kind, kind \u{1b}[2JNovelty), such as t[3] offset 4711",
            "`docs/operations.md`, Dead letters, says what each reason means",
        );
        report.fault(
            Code::OutsideGroup,
            "group",
            "g has 2 member(s) of the protocol range",
            "stop them first (former on 10.0.0.1): this service joins by cooperative-sticky",
        );
        report
    }

    fn printed(report: &Report, json: bool) -> (bool, String) {
        let mut out = Vec::new();
        let is_healthy = match report.print(json, &mut out) {
            Ok(()) => true,
            Err(error) => !error.is::<NotHealthy>(),
        };
        (is_healthy, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_fault_has_its_code_and_remedy_and_ends_with_1() {
        let (is_healthy, text) = printed(&healthy(), false);
        assert!(is_healthy);
        insta::assert_snapshot!("healthy", text);
        let (is_healthy, text) = printed(&troubled(), false);
        assert!(!is_healthy);
        insta::assert_snapshot!("troubled", text);
        let (_, json) = printed(&troubled(), true);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["healthy"], false);
        let fault = &json["findings"][4];
        assert_eq!(
            (&fault["mark"], &fault["code"]),
            (&json!("fault"), &json!("WS-202"))
        );
        let outputs = [healthy(), troubled()].map(|report| printed(&report, true).1);
        assert_schema("check", &outputs, &[]);
    }
}
