//! Whatever the environment holds, it is a configuration or a list of faults, each of which names
//! its variable; and no secret in it is ever shown.

use std::sync::LazyLock;

use workflows_sink::config::Config;
use workflows_sink::config::reference::{
    CONNECTION_STRING, FILE_SUFFIX, KAFKA_PREFIX, PREFIX, SETTINGS,
};

/// Part of every secret.
const MARK: &str = "s3cr3tMARK";
/// Where the fuzzer may put [`MARK`] in a secret.
const MARK_HERE: char = '\u{1}';
const PROPERTIES: [&str; 14] = [
    "BOOTSTRAP_SERVERS",
    "SECURITY_PROTOCOL",
    "SASL_MECHANISM",
    "SASL_USERNAME",
    "SASL_PASSWORD",
    "SSL_KEY_PASSWORD",
    "SSL_KEYSTORE_PASSWORD",
    "SSL_KEY_PEM",
    "SASL_OAUTHBEARER_CLIENT_SECRET",
    "SESSION_TIMEOUT_MS",
    "MAX_POLL_INTERVAL_MS",
    "ENABLE_AUTO_COMMIT",
    "AUTO_OFFSET_RESET",
    "PARTITION_ASSIGNMENT_STRATEGY",
];

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let settings = SETTINGS.iter().map(|setting| setting.name.to_owned());
    let files = SETTINGS.iter().filter(|setting| setting.secret);
    let files = files.map(|setting| format!("{}{FILE_SUFFIX}", setting.name));
    let properties = PROPERTIES
        .iter()
        .map(|name| format!("{KAFKA_PREFIX}{name}"));
    settings.chain(files).chain(properties).collect()
});

/// Variables, one a line: a character that picks the name (`~`: what stands before the `=`, `*`: of
/// librdkafka, `+`: of the service), then the value.
pub fn holds(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let vars: Vec<(String, String)> = text.lines().filter_map(variable).collect();
    let shown = match Config::from_vars(vars.clone().into_iter()) {
        Ok(config) => {
            assert!(config.limits.budget_bytes_max >= config.limits.budget_bytes_min());
            assert!(!config.kafka.topics.is_empty() && !config.kafka.group.is_empty());
            format!("{config:?}")
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for error in &errors.0 {
                let named = |name: &str| error.variable == name;
                let known = vars.iter().any(|(name, _)| named(name))
                    || NAMES.iter().any(|name| named(name))
                    || named(PREFIX)
                    // One that is missing beside others.
                    || error.variable.starts_with(KAFKA_PREFIX);
                assert!(known, "{error:?} names no variable");
                assert!(!error.fault.trim().is_empty());
            }
            format!("{errors} {errors:?}")
        }
    };
    assert!(!shown.contains(MARK), "a secret is shown: {shown}");
}

fn variable(line: &str) -> Option<(String, String)> {
    let mut characters = line.chars();
    let first = characters.next()?;
    let rest = characters.as_str();
    let free = |prefix: &str| {
        let (name, value) = rest.split_once('=')?;
        Some((format!("{prefix}{name}"), value.to_owned()))
    };
    let (name, value) = match first {
        '~' => free("")?,
        '*' => free(KAFKA_PREFIX)?,
        '+' => free(PREFIX)?,
        _ => {
            let index = (first as usize).checked_sub('0' as usize)?;
            (NAMES.get(index)?.clone(), rest.to_owned())
        }
    };
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return None;
    }
    // Files that exist are the tests' own concern; a fuzzer would read devices.
    if name.ends_with(FILE_SUFFIX) || name.contains("LOCATION") || name.contains("PATHS") {
        return Some((name, "/nonexistent/file".to_owned()));
    }
    let value = match name == CONNECTION_STRING.name {
        true => with_password(&value),
        false if is_secret(&name) => marked(&value),
        false => value,
    };
    Some((name, value))
}

fn is_secret(name: &str) -> bool {
    match name.strip_prefix(KAFKA_PREFIX) {
        Some(property) => {
            workflows_sink::config::kafka::is_secret(&property.to_lowercase().replace('_', "."))
        }
        None => SETTINGS
            .iter()
            .any(|setting| setting.secret && setting.name == name),
    }
}

/// A URI in which [`MARK`] stands only where a password may: before an `@`, or where there is none
/// behind the `:` of what would be a host.
fn with_password(uri: &str) -> String {
    let Some((before, behind)) = uri.split_once(MARK_HERE) else {
        return uri.to_owned();
    };
    let behind = behind.replace(MARK_HERE, "");
    match behind.contains('@') || !before.contains(['@', '?']) {
        true => format!("{before}:{MARK}{behind}"),
        false => uri.replace(MARK_HERE, ""),
    }
}

fn marked(secret: &str) -> String {
    match secret.contains(MARK_HERE) {
        true => secret.replace(MARK_HERE, MARK),
        false => format!("{secret}{MARK}"),
    }
}
