//! The sidecar's metrics, with a registry of their own.

use prometheus::{
    IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
    process_collector::ProcessCollector,
};

use crate::admin::plan::Step;
use crate::admin::reconcile::Outcome;
use crate::admin::table::User;
use crate::telemetry::version;

/// What the sidecar counts, by user.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
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
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let opts = Opts::new(format!("workflows_sink_admin_{name}"), help);
            let metric = IntCounterVec::new(opts, labels).expect("a valid name");
            register(&registry, metric.clone());
            metric
        };
        let gauge = |name: &str, help: &str| {
            let opts = Opts::new(format!("workflows_sink_admin_{name}"), help);
            let metric = IntGaugeVec::new(opts, &["user"]).expect("a valid name");
            register(&registry, metric.clone());
            metric
        };
        let metrics = Metrics {
            steps: counter(
                "steps_total",
                "Changes of users and Secrets, by what was done.",
                &["user", "step"],
            ),
            rotations: counter(
                "rotations_total",
                "Passwords replaced by new ones.",
                &["user"],
            ),
            errors: counter(
                "errors_total",
                "Looks that failed: away passes by itself, wrong needs a person.",
                &["user", "kind"],
            ),
            publications: counter(
                "publications_total",
                "Times that the published directory changed.",
                &["user"],
            ),
            drift: gauge(
                "drift",
                "1 while something is not as the table says and cannot be mended.",
            ),
            last_success: gauge(
                "last_success_timestamp_seconds",
                "When user and Secret were last seen to be as the table says, and the login proven.",
            ),
            password_changed: gauge(
                "password_changed_timestamp_seconds",
                "When the password was last changed, as far as that is known.",
            ),
            registry,
        };
        let info = Opts::new("workflows_sink_admin_build_info", "The build.")
            .const_label("version", version::VERSION)
            .const_label("revision", version::REVISION);
        let info = prometheus::IntGauge::with_opts(info).expect("a valid name");
        info.set(1);
        register(&metrics.registry, info);
        register(&metrics.registry, ProcessCollector::for_self());
        metrics
    }
}

fn register(registry: &Registry, metric: impl Collector + 'static) {
    registry.register(Box::new(metric)).expect("each name once");
}

impl Metrics {
    /// Starts a user's series at 0, so that a first increase is seen.
    pub fn expect(&self, user: &User) {
        let name = [user.name.as_str()];
        self.rotations.with_label_values(&name);
        self.publications.with_label_values(&name);
        self.drift.with_label_values(&name).set(0);
        self.last_success.with_label_values(&name).set(0);
        for kind in ["away", "wrong"] {
            self.errors.with_label_values(&[name[0], kind]);
        }
    }

    /// Counts what a look did and how it ended.
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
                    self.password_changed
                        .with_label_values(&name)
                        .set(since.as_second());
                }
            }
            Err(failure) => {
                let kind = failure.kind();
                self.errors.with_label_values(&[name[0], kind]).inc();
                if kind == "wrong" {
                    drift.set(1);
                }
            }
        }
    }

    /// The published directory changed.
    pub fn published(&self, user: &User) {
        self.publications.with_label_values(&[&user.name]).inc();
    }

    /// Everything, in the text format 0.0.4.
    pub fn render(&self) -> String {
        let encoded = TextEncoder::new().encode_to_string(&self.registry.gather());
        encoded.unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be encoded");
            String::new()
        })
    }
}
