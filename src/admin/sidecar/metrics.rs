//! The sidecar's metrics, with a registry of their own.

use prometheus::{IntCounterVec, IntGaugeVec};

use crate::admin::Failure;
use crate::admin::plan::Step;
use crate::admin::reconcile::Outcome;
use crate::admin::table::User;
use crate::telemetry::metrics::{MetricDescription, Namespace};

/// What the sidecar counts, by user.
#[derive(Debug)]
pub struct Metrics {
    namespace: Namespace,
    steps: IntCounterVec,
    rotations: IntCounterVec,
    errors: IntCounterVec,
    publications: IntCounterVec,
    drift: IntGaugeVec,
    last_success: IntGaugeVec,
    password_changed: IntGaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let namespace = Namespace::new("workflows_sink_admin");
        Metrics {
            steps: namespace.counters(
                "steps_total",
                "Changes of users and Secrets, by step.",
                &["user", "step"],
            ),
            rotations: namespace.counters(
                "rotations_total",
                "Passwords replaced by this process.",
                &["user"],
            ),
            errors: namespace.counters(
                "errors_total",
                "Failed looks: away passes by itself, wrong needs a person.",
                &["user", "kind"],
            ),
            publications: namespace.counters(
                "publications_total",
                "Changes of the published directory.",
                &["user"],
            ),
            drift: namespace.gauges(
                "drift",
                "1 while something differs from the table and cannot be repaired.",
                &["user"],
            ),
            last_success: namespace.gauges(
                "last_success_timestamp_seconds",
                "When user and Secret last matched the table, and a login proved it.",
                &["user"],
            ),
            password_changed: namespace.gauges(
                "password_changed_timestamp_seconds",
                "When the password was last changed, as far as that is known; its age is `time()` minus this.",
                &["user"],
            ),
            namespace,
        }
    }
}

impl Metrics {
    /// Starts a user's series at 0, so that a first increase is seen.
    pub fn expect(&self, user: &User) {
        let name = [user.name.as_str()];
        self.rotations.with_label_values(&name);
        self.publications.with_label_values(&name);
        self.drift.with_label_values(&name).set(0);
        self.last_success.with_label_values(&name).set(0);
        for step in Step::EACH {
            self.steps.with_label_values(&[name[0], step.name()]);
        }
        for kind in ["away", "wrong"] {
            self.errors.with_label_values(&[name[0], kind]);
        }
    }

    /// Counts the steps of a look, and how it ended.
    pub fn looked(&self, user: &User, outcome: &Outcome, now_seconds: i64) {
        let name = [user.name.as_str()];
        for step in &outcome.steps {
            self.steps.with_label_values(&[name[0], step.name()]).inc();
            if *step == Step::PromotePassword {
                self.rotations.with_label_values(&name).inc();
            }
        }
        let drift = self.drift.with_label_values(&name);
        match &outcome.ended {
            Ok(proven) => {
                drift.set(i64::from(!proven.extra_roles.is_empty()));
                self.last_success.with_label_values(&name).set(now_seconds);
                if let Some(since) = proven.held.password_since() {
                    let changed = self.password_changed.with_label_values(&name);
                    changed.set(since.as_second());
                }
            }
            Err(failure) => {
                let labels = [name[0], failure.kind()];
                self.errors.with_label_values(&labels).inc();
                if matches!(failure, Failure::Permanent(_)) {
                    drift.set(1);
                }
            }
        }
    }

    /// Counts a change of the published directory.
    pub fn published(&self, user: &User) {
        self.publications.with_label_values(&[&user.name]).inc();
    }

    /// What each metric is, for docs/metrics.md.
    pub fn described(&self) -> Vec<MetricDescription> {
        self.namespace.described()
    }

    /// Every metric, in the text format 0.0.4.
    pub fn render(&self) -> String {
        self.namespace.render()
    }
}
