//! The settings in effect, and where each comes from: for a person who looks.

use std::collections::BTreeMap;
use std::path::Path;

use super::kafka::is_secret;
use super::owned::OWNED;
use super::passed::property_of;
use super::reference::{self, FILE_SUFFIX, KAFKA_PREFIX, SETTINGS, Setting};
use super::{Config, ConfigErrors, Environment, OF_THE_SERVICE, value};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The variable of this name.
    Environment,
    /// A file: the one that `…_FILE` names, or one of the directory of credentials.
    File(String),
    /// Nothing is set.
    Default,
    /// Nothing is set, and there is no default.
    Unset,
}

/// One setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The variable.
    pub name: String,
    /// Its value; `None` for a secret, and where there is none.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Each setting of this process's environment, in the order of the reference; then the properties
/// of the Kafka client.
///
/// # Errors
/// Every fault of the configuration.
pub fn of_process() -> Result<Vec<Effective>, ConfigErrors> {
    let env = Environment::of_process(&OF_THE_SERVICE);
    let vars = env.vars.clone();
    let config = Config::read(env)?;
    let directory = vars.get(reference::CREDENTIALS_DIR.name).map(Path::new);
    let settings = SETTINGS
        .iter()
        .filter(|setting| !setting.name.starts_with(KAFKA_PREFIX))
        .map(|setting| of_setting(setting, &vars, directory));
    let passed = config.kafka.properties.iter();
    let passed = passed.filter(|(property, _)| OWNED.iter().all(|own| own.property != *property));
    let properties = passed.map(|(property, value)| of_property(property, value, &vars));
    Ok(settings.chain(properties).collect())
}

fn of_setting(
    setting: &Setting,
    vars: &BTreeMap<String, String>,
    directory: Option<&Path>,
) -> Effective {
    let file = directory.map(|directory| directory.join(setting.name));
    let in_directory = file.filter(|file| file.exists());
    // The files of the directory are read in place of the variables.
    let origin = match (in_directory, origin(setting.name, vars), setting.default) {
        (Some(file), _, _) => Origin::File(file.display().to_string()),
        (None, Some(origin), _) => origin,
        (None, None, Some(_)) => Origin::Default,
        (None, None, None) => Origin::Unset,
    };
    let value = match &origin {
        _ if setting.secret => None,
        Origin::Environment => vars.get(setting.name).cloned(),
        Origin::File(path) => {
            let text = std::fs::read_to_string(path).ok();
            text.map(|text| value::without_line_end(&text).to_owned())
        }
        Origin::Default | Origin::Unset => setting.default.map(str::to_owned),
    };
    Effective {
        name: setting.name.to_owned(),
        value,
        origin,
    }
}

fn of_property(property: &str, value: &str, vars: &BTreeMap<String, String>) -> Effective {
    let name = property.replace('.', "_").to_uppercase();
    let name = format!("{KAFKA_PREFIX}{name}");
    let is_another_name =
        |name: &String| name.starts_with(KAFKA_PREFIX) && property_of(name) == property;
    let origin = origin(&name, vars).unwrap_or(match vars.keys().any(is_another_name) {
        true => Origin::Environment,
        false => Origin::Default,
    });
    let value = (!is_secret(property)).then(|| value.to_owned());
    Effective {
        name,
        value,
        origin,
    }
}

fn origin(name: &str, vars: &BTreeMap<String, String>) -> Option<Origin> {
    let file = vars.get(&format!("{name}{FILE_SUFFIX}"));
    match vars.contains_key(name) {
        true => Some(Origin::Environment),
        false => file.map(|file| Origin::File(file.clone())),
    }
}
