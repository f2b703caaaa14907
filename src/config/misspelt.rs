//! Names that are nearly ours: a variable with a misspelt name would be ignored, and the default
//! used in its place, in silence.

use super::reference::{FILE_SUFFIX, KAFKA_PREFIX, Setting};

/// How many letters may differ between a name and the one that it is taken for.
const LETTERS_MAX: usize = 2;

/// What each name of ours begins with, and many of other services.
const FAMILY: &str = "DYFF";

/// The name of ours that `name`, which is none, was probably meant to be. `None` for a name of
/// another service, such as the variables that Kubernetes sets for each Service.
pub(super) fn meant(settings: &[&Setting], name: &str) -> Option<String> {
    let is_foreign = !name.to_uppercase().starts_with(FAMILY) && !name.contains("__");
    if name.starts_with(KAFKA_PREFIX) || is_foreign || is_service_link(name) {
        return None;
    }
    let plain = plain(name);
    let with_family = match plain.starts_with(FAMILY) {
        true => plain,
        false => format!("{FAMILY}_{plain}"),
    };
    // A short name is near to anything.
    let may_differ = if name.starts_with(FAMILY) {
        LETTERS_MAX
    } else {
        0
    };
    if let Some(property) = kafka_property(&with_family, may_differ) {
        return Some(format!("{KAFKA_PREFIX}{property}"));
    }
    let secret_files = (settings.iter())
        .filter(|setting| setting.secret)
        .map(|setting| format!("{}{FILE_SUFFIX}", setting.name));
    let names = settings.iter().map(|setting| setting.name.to_owned());
    let distance = |known: &String| strsim::damerau_levenshtein(&self::plain(known), &with_family);
    names
        .chain(secret_files)
        .filter(|known| known != name && distance(known) <= may_differ)
        .min_by_key(distance)
}

/// The name in capitals, with one underscore wherever there are several.
fn plain(name: &str) -> String {
    let words = name.split('_').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_uppercase()
}

/// What follows the prefix of librdkafka's properties, where the name begins with nearly that.
fn kafka_property(plain: &str, may_differ: usize) -> Option<&str> {
    let mut words = plain.splitn(4, '_');
    let begins = [words.next()?, words.next()?, words.next()?].join("_");
    let property = words.next()?;
    let distance = strsim::damerau_levenshtein(&begins, &self::plain(KAFKA_PREFIX));
    (distance <= may_differ.min(1)).then_some(property)
}

/// Whether Kubernetes sets it, of a Service that is named like a setting.
fn is_service_link(name: &str) -> bool {
    let is_port = |rest: &str| {
        let number = rest.split('_').next().unwrap_or_default();
        number.parse::<u16>().is_ok()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name
            .rsplit_once("_PORT_")
            .is_some_and(|(_, rest)| is_port(rest))
}

#[cfg(test)]
mod tests {
    use super::super::reference::SETTINGS;
    use super::*;

    #[test]
    fn what_is_nearly_ours_is_told_from_what_is_anothers() {
        for (name, ours) in [
            ("DYFF_WORKFLOWS_SINK_GROUP", "DYFF_WORKFLOWS_SINK__GROUP"),
            ("dyff_workflows_sink__group", "DYFF_WORKFLOWS_SINK__GROUP"),
            ("WORKFLOWS_SINK__GROUP", "DYFF_WORKFLOWS_SINK__GROUP"),
            ("DYFF__WORKFLOWS_SINK__GROUP", "DYFF_WORKFLOWS_SINK__GROUP"),
            ("DYFF_WORKFLOW_SINK__GROUP", "DYFF_WORKFLOWS_SINK__GROUP"),
            (
                "DYFF_KAFKA__TOPIC__WORKFLOWS_STATE",
                "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE",
            ),
            (
                "DYFF_KAFKA__TOPICS_WORKFLOWS_STATE",
                "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE",
            ),
            (
                "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIAL__PASSWORD",
                "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
            ),
            (
                "DYFF_MONGODB_WORKFLOWS_SINK_CREDENTIALS_PASSWORD_FILE",
                "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_FILE",
            ),
            (
                "DYFF_KAFKA_CONFIG__SASL_USERNAME",
                "DYFF_KAFKA__CONFIG__SASL_USERNAME",
            ),
            (
                "DYFF_KAFKA__CONFIGS__BOOTSTRAP_SERVERS",
                "DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS",
            ),
        ] {
            assert_eq!(meant(&SETTINGS, name).as_deref(), Some(ours), "{name}");
        }
        for name in [
            "DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS",
            "DYFF_KAFKA__CONFIG__CLIENT_ID",
            "DYFF_MONGODB__QUERY_CREDENTIALS__PASSWORD",
            "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__USERNAME",
            "DYFF_WORKFLOWS_SINK_SERVICE_HOST",
            "DYFF_WORKFLOWS_SINK_SERVICE_PORT_METRICS",
            "DYFF_WORKFLOWS_SINK_PORT",
            "DYFF_WORKFLOWS_SINK_PORT_9090_TCP_ADDR",
            "DYFF_WORKFLOWS_SINK_ADMIN__NAMESPACE",
            "DYFF_WORKFLOWS_SINK_ADMIN__LISTEN_ADDRESS",
            "DYFF_API__AUTH__SECRET",
            "GROUP",
            "PATH",
            "KAFKA_CONFIG_X",
        ] {
            assert_eq!(meant(&SETTINGS, name), None, "{name}");
        }
    }
}
