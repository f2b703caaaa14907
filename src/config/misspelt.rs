//! Names that are nearly ours: a variable with a misspelt name would be ignored, and the default
//! used in its place, in silence.

use super::passed;
use super::reference::{self, FILE_SUFFIX, KAFKA_PREFIX, PASSWORD, Setting};

/// How many letters may differ between a name and the one that it is taken for.
const LETTERS_MAX: usize = 2;

/// What each name of ours begins with, and many of other services.
const FAMILY: &str = "DYFF";

/// What names of Kafka's begin with.
const KAFKA: &str = "DYFF_KAFKA";

/// The name of our password without one of its words.
const PASSWORD_WITHOUT_CREDENTIALS: &str = "DYFF_MONGODB_WORKFLOWS_SINK_PASSWORD";

/// What comes behind the prefix of the service's names in those of `admin`.
const ADMIN: &str = "ADMIN";

/// The name of ours that `name`, which is none, was probably meant to be; ours begin with `prefix`,
/// or are those of the former service. `None` for a name of another service, such as the variables
/// that Kubernetes sets for each Service.
pub(super) fn meant(settings: &[&Setting], prefix: &str, name: &str) -> Option<String> {
    let is_foreign = !name.to_uppercase().starts_with(FAMILY) && !name.contains("__");
    if name.starts_with(KAFKA_PREFIX) || is_foreign || is_service_link(name) {
        return None;
    }
    let plain = plain(name);
    let own = plain.strip_prefix(&self::plain(prefix));
    if own.is_some_and(|rest| rest.starts_with('_') && !rest[1..].starts_with(ADMIN)) {
        return Some(reference::nearest(settings, prefix, &name.to_uppercase()).to_owned());
    }
    if let Some(property) = kafka_property(&plain) {
        return Some(format!("{KAFKA_PREFIX}{property}"));
    }
    let secret_files = (settings.iter())
        .filter(|setting| setting.secret)
        .map(|setting| format!("{}{FILE_SUFFIX}", setting.name));
    let names = settings.iter().map(|setting| setting.name.to_owned());
    let known = names.chain(secret_files).filter(|known| known != name);
    let near = known.clone().filter(|known| is_nearly(known, name));
    // Without what it begins with, or without what it ends in; with what no other one has.
    let is_part = |known: &String| {
        let known = self::plain(known);
        known.strip_prefix(FAMILY) == Some(&format!("_{plain}"))
            || known.starts_with(&format!("{plain}_"))
            || plain == format!("{known}{FILE_SUFFIX}")
            || (plain.starts_with(KAFKA) && lacks_words(&plain, &known))
    };
    let is_password = plain == PASSWORD_WITHOUT_CREDENTIALS;
    near.min_by_key(|known| distance(known, name))
        .or_else(|| known.clone().find(is_part))
        .or_else(|| {
            known
                .clone()
                .find(|known| is_password && known == PASSWORD.name)
        })
}

/// Whether `name` is not `known`, and was probably meant to be.
pub fn is_nearly(known: &str, name: &str) -> bool {
    name != known && distance(known, name) <= LETTERS_MAX
}

/// How many letters differ, apart from capitals and repeated underscores.
fn distance(one: &str, other: &str) -> usize {
    strsim::damerau_levenshtein(&plain(one), &plain(other))
}

/// The name in capitals, with one underscore wherever there are several.
fn plain(name: &str) -> String {
    let words = name.split('_').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_uppercase()
}

/// Whether `plain` is `known` without some words that follow each other inside it.
fn lacks_words(plain: &str, known: &str) -> bool {
    let (plain, known): (Vec<&str>, Vec<&str>) =
        (plain.split('_').collect(), known.split('_').collect());
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let begin = plain.iter().zip(&known).take_while(same).count();
    let end = plain
        .iter()
        .rev()
        .zip(known.iter().rev())
        .take_while(same)
        .count();
    plain.len() < known.len() && begin + end >= plain.len()
}

/// What follows the prefix of librdkafka's properties, where the name begins with nearly that, or
/// with a part of it before a property that is set often.
fn kafka_property(plain: &str) -> Option<&str> {
    let of_kafka = plain
        .strip_prefix(KAFKA)
        .and_then(|rest| rest.strip_prefix('_'));
    if let Some(property) = of_kafka.filter(|property| passed::is_common(property)) {
        return Some(property);
    }
    let prefix = self::plain(KAFKA_PREFIX);
    let without_family = prefix.strip_prefix(FAMILY).unwrap_or_default();
    if let Some(property) = plain.strip_prefix(&without_family[1..]) {
        return property.strip_prefix('_');
    }
    let mut words = plain.splitn(4, '_');
    let begins = [words.next()?, words.next()?, words.next()?].join("_");
    let property = words.next()?;
    (strsim::damerau_levenshtein(&begins, &prefix) <= 1).then_some(property)
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
    use super::super::reference::{PREFIX, SETTINGS};
    use super::*;

    #[test]
    fn what_is_nearly_ours_is_told_from_what_is_anothers() {
        for (name, ours) in [
            ("DYFF_WORKFLOWS_SINK_GROUP", "DYFF_WORKFLOWS_SINK__GROUP"),
            (
                "DYFF_KAFKA__BOOTSTRAP_SERVERS",
                "DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS",
            ),
            (
                "DYFF_KAFKA__WORKFLOWS_STATE",
                "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE",
            ),
            (
                "DYFF_MONGODB__WORKFLOWS_SINK__PASSWORD",
                "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
            ),
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
            ("DYF_WORKFLOWS_SINK__GROUP", "DYFF_WORKFLOWS_SINK__GROUP"),
            ("DFFY_WORKFLOWS_SINK__GROUP", "DYFF_WORKFLOWS_SINK__GROUP"),
            (
                "DYFF_WORKFLOWS_SINK_DATABASE",
                "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE",
            ),
            (
                "DYFF_WORKFLOWS_SINK_MODE",
                "DYFF_WORKFLOWS_SINK__WRITE_MODE",
            ),
            (
                "DYFF_WORKFLOWS_SINK_MAPPING",
                "DYFF_WORKFLOWS_SINK__MAPPING_FILE",
            ),
            ("DYFF_KAFKA__TOPICS", "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE"),
            (
                "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE_FILE",
                "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE",
            ),
        ] {
            assert_eq!(
                meant(&SETTINGS, PREFIX, name).as_deref(),
                Some(ours),
                "{name}"
            );
        }
        for name in [
            "DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS",
            "DYFF_KAFKA__CONFIG__CLIENT_ID",
            "DYFF_MONGODB__QUERY_CREDENTIALS__PASSWORD",
            "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__USERNAME",
            "DYFF_MONGODB__WORKFLOWS_SINK_EU_CREDENTIALS__PASSWORD",
            "DYFF_STATE",
            "DYFF_WORKFLOWS_STATE",
            "DYFF_BOOTSTRAP_SERVERS",
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
            assert_eq!(meant(&SETTINGS, PREFIX, name), None, "{name}");
        }
    }
}
