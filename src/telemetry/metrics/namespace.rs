//! A registry of its own for one process, and how metrics are added to it.

use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder, core::Collector, process_collector::ProcessCollector,
};

use crate::telemetry::version;

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

/// The end of a counter's name, and of no other's.
const TOTAL: &str = "_total";

/// What is known of a metric before it counts anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricDescription {
    /// Its whole name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it says, as a sentence.
    pub help: String,
}

/// Metrics whose names begin alike. Each is registered as it is made, so a name can be used once.
#[derive(Debug)]
pub(crate) struct Namespace {
    prefix: &'static str,
    registry: Registry,
    described: Mutex<Vec<MetricDescription>>,
}

impl Namespace {
    /// With the metrics of the process and `build_info`. `prefix` is what every name begins with,
    /// its last `_` left out.
    pub(crate) fn new(prefix: &'static str) -> Namespace {
        let namespace = Namespace {
            prefix,
            registry: Registry::new(),
            described: Mutex::default(),
        };
        namespace.register(GAUGE, ProcessCollector::for_self());
        namespace
            .gauges(
                "build_info",
                "1, with version and source revision.",
                &["version", "revision"],
            )
            .with_label_values(&[version::VERSION, version::REVISION])
            .set(1);
        namespace
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.made(COUNTER, IntCounter::with_opts(self.opts(name, help)))
    }

    pub(crate) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.made(COUNTER, IntCounterVec::new(self.opts(name, help), labels))
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.made(GAUGE, IntGauge::with_opts(self.opts(name, help)))
    }

    pub(crate) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.made(GAUGE, IntGaugeVec::new(self.opts(name, help), labels))
    }

    /// A gauge that is not whole.
    pub(crate) fn fraction(&self, name: &str, help: &str) -> Gauge {
        self.made(GAUGE, Gauge::with_opts(self.opts(name, help)))
    }

    /// As [`Namespace::fraction`], by label.
    pub(crate) fn fractions(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.made(GAUGE, GaugeVec::new(self.opts(name, help), labels))
    }

    /// `buckets` are the upper ends.
    pub(crate) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.made(HISTOGRAM, Histogram::with_opts(opts))
    }

    /// Every metric, in the text format 0.0.4.
    pub(crate) fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("what was registered can be encoded")
    }

    /// Each metric that was added, by name.
    pub(crate) fn described(&self) -> Vec<MetricDescription> {
        let mut described = self.described.lock().clone();
        described.sort();
        described
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.prefix), help)
    }

    fn made<C: Collector + Clone + 'static>(
        &self,
        kind: &'static str,
        metric: prometheus::Result<C>,
    ) -> C {
        let metric = metric.expect("names and labels are valid constants");
        self.register(kind, metric.clone());
        metric
    }

    fn register(&self, kind: &'static str, metric: impl Collector + 'static) {
        let described = metric.desc().into_iter().map(|desc| MetricDescription {
            name: desc.fq_name.clone(),
            kind: if desc.fq_name.ends_with(TOTAL) {
                COUNTER
            } else {
                kind
            },
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        });
        self.described.lock().extend(described);
        let registered = self.registry.register(Box::new(metric));
        registered.expect("each name is registered once");
    }
}
