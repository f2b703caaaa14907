//! The log, on standard error: one line an event, JSON in containers, readable on a terminal,
//! times in UTC (RFC 3339).

use std::{
    env,
    io::{self, IsTerminal},
    panic,
    sync::OnceLock,
    thread,
};

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

use super::code::Code;

/// Format and filter of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Levels and targets, as [`filter`] reads them.
    pub filter: String,
}

impl Log {
    /// The same with all that librdkafka logs, unless the filter names it already.
    pub fn with_librdkafka(mut self) -> Log {
        if !self.filter.contains(LIBRDKAFKA) {
            self.filter = format!("{},{LIBRDKAFKA}=trace", self.filter);
        }
        self
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// As `Human` on a terminal, else as `Json`.
    Auto,
    /// One JSON object a line.
    Json,
    /// For reading on a terminal.
    Human,
}

/// What libraries log unless a directive names them.
const LIBRARIES: LevelFilter = LevelFilter::WARN;

/// The variable with the format, for when there is no configuration to ask.
const FORMAT_VARIABLE: &str = "DYFF_WORKFLOWS_SINK__LOG_FORMAT";

/// The target of librdkafka's lines.
const LIBRDKAFKA: &str = "librdkafka";

/// It logs each request that fails as an error; the caller knows whether it is one, and logs it.
const LOGGED_TWICE: &str = "kube_client::client::builder";

/// Sends events to standard error and panics to the log, for the rest of the process.
///
/// # Errors
/// An invalid filter, or a log that was set up before.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let terminal = io::stderr().is_terminal();
    let color = terminal && env::var_os("NO_COLOR").is_none();
    let (subscriber, refilter) = subscriber(log, terminal, color, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber)?;
    let _ = REFILTER.set(refilter);
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Sets the log up without a configuration, to say what is wrong with it, where the environment
/// asks for JSON. `false` where it does not, or the log was set up before.
pub fn init_json_if_set() -> bool {
    let log = Log {
        format: LogFormat::Json,
        filter: "info".to_owned(),
    };
    env::var(FORMAT_VARIABLE).is_ok_and(|format| format == "json") && init(&log).is_ok()
}

/// Logs panics at `debug` from here on. Call it once the job is done: what panics then has lost
/// something to the end of the runtime, as the driver's requests lose their pool.
pub fn demote_panics() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string);
        tracing::debug!(location, "panicked while the runtime ended");
    }));
}

/// The filter that `directives` describes: a level alone is that of this crate, libraries stay at
/// `warn` unless named.
///
/// # Errors
/// The number of the first invalid directive.
pub fn filter(directives: &str) -> Result<Targets, String> {
    let mut filter = Targets::new()
        .with_default(LIBRARIES)
        .with_target(LOGGED_TWICE, LevelFilter::OFF);
    for (n, directive) in (1..).zip(directives.split(',').map(str::trim)) {
        let (target, level) = directive
            .split_once('=')
            .unwrap_or((env!("CARGO_CRATE_NAME"), directive));
        // without a level tracing would log everything
        let level = Some(level).filter(|level| !level.is_empty());
        let level: LevelFilter = level
            .and_then(|level| level.parse().ok())
            // not shown: a URI with a password may stand in the wrong variable
            .ok_or_else(|| format!("directive {n} is neither a level nor target=level"))?;
        filter = filter.with_target(target, level);
    }
    Ok(filter)
}

/// Whether a person reads the log, on a terminal or by setting.
pub fn is_human(log: &Log, terminal: bool) -> bool {
    match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    }
}

/// Puts another filter in the place of the one in use.
type Refilter = Box<dyn Fn(Targets) + Send + Sync>;

/// That of the log that was set up.
static REFILTER: OnceLock<Refilter> = OnceLock::new();

/// Logs by other directives from here on, as [`filter`] reads them.
///
/// # Errors
/// The number of the first invalid directive.
pub fn refilter(directives: &str) -> Result<(), String> {
    let filter = filter(directives)?;
    if let Some(refilter) = REFILTER.get() {
        refilter(filter);
    }
    Ok(())
}

type AnySubscriber = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(
    log: &Log,
    terminal: bool,
    color: bool,
    writer: W,
) -> anyhow::Result<(AnySubscriber, Refilter)>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let human = is_human(log, terminal);
    let filter = filter(&log.filter).map_err(anyhow::Error::msg)?;
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        // it would print the error of a write to the same place, and panic there
        .log_internal_errors(false)
        .with_writer(writer);
    Ok(match human {
        true => {
            let builder = builder.compact().with_ansi(color).with_target(false);
            filtered(builder.finish(), filter)
        }
        false => {
            let builder = builder.json().flatten_event(true).with_span_list(false);
            filtered(builder.finish(), filter)
        }
    })
}

fn filtered<S>(subscriber: S, filter: Targets) -> (AnySubscriber, Refilter)
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    // It fails only once the log is gone.
    let refilter = move |filter| drop(handle.reload(filter));
    (Box::new(subscriber.with(filter)), Box::new(refilter))
}

fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("panic without a message");
    let location = info.location().map(ToString::to_string);
    let task = tokio::task::try_id().map(|id| id.to_string());
    tracing::error!(
        code = %Code::Panicked,
        thread = thread::current().name(),
        task,
        location,
        panic = message,
        "panicked"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, terminal: bool, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = Log {
            format,
            filter: filter.to_owned(),
        };
        let (subscriber, _) = subscriber(&log, terminal, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_container_logs_one_flat_json_object_a_line_with_its_span_and_a_time_in_utc() {
        let text = logged(LogFormat::Auto, "info", false, || {
            let _span = tracing::info_span!("batch", partition = 3).entered();
            tracing::info!(records = 7, "settled");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["message"], "settled");
        assert_eq!(line["records"], 7);
        assert_eq!(line["span"]["partition"], 3);
        let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && time.as_second() > 0);
    }

    #[test]
    fn a_terminal_gets_a_line_for_people() {
        let text = logged(LogFormat::Auto, "info", true, || {
            tracing::info!(records = 7, "settled")
        });
        assert!(
            text.contains("settled records=7") && !text.starts_with('{'),
            "{text}"
        );
    }

    #[test]
    fn libraries_stay_at_warn_unless_they_are_named() {
        let events = || {
            tracing::debug!("own debug");
            tracing::info!("own info");
            tracing::info!(target: "mongodb", "library info");
            tracing::warn!(target: "mongodb", "library warning");
        };
        let text = logged(LogFormat::Human, "info", false, events);
        assert!(!text.contains("own debug") && text.contains("own info"));
        assert!(!text.contains("library info") && text.contains("library warning"));
        let text = logged(LogFormat::Human, "debug,mongodb=info", false, events);
        assert!(text.contains("own debug") && text.contains("library info"));
    }

    #[test]
    fn a_filter_that_means_nothing_is_refused() {
        for bad in [
            "inof",
            "",
            "workflows_sink=loud",
            "workflows_sink=",
            "info,,warn",
        ] {
            assert!(filter(bad).is_err(), "{bad:?}");
        }
    }
}
