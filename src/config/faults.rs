//! The faults of a configuration, and the readers that collect them.

use std::{
    fmt::{self, Display},
    fs,
};

use secrecy::SecretString;

use super::reference::{FILE_SUFFIX, Setting};
use super::value;

/// One fault of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub variable: String,
    /// Why it is invalid; never a secret.
    pub fault: String,
    /// A valid value.
    pub example: Option<&'static str>,
}

/// Every fault of the configuration, each once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the configuration has {} fault(s):", self.0.len())?;
        for error in &self.0 {
            write!(out, "\n  {}: {}", error.variable, error.fault)?;
            if let Some(example) = error.example {
                write!(out, " (example: {}={example})", error.variable)?;
            }
        }
        Ok(())
    }
}

/// The faults so far, and the readers that add to them.
pub(crate) struct Faults {
    settings: &'static [&'static Setting],
    pub(super) found: Vec<ConfigError>,
}

impl Faults {
    /// No faults yet. `settings` has the examples.
    pub(crate) fn of(settings: &'static [&'static Setting]) -> Faults {
        let found = Vec::new();
        Faults { settings, found }
    }

    /// What was read, if there was no fault.
    ///
    /// # Errors
    /// Every fault.
    pub(crate) fn unless_any<T>(self, read: Option<T>) -> Result<T, ConfigErrors> {
        match read {
            Some(read) if self.found.is_empty() => Ok(read),
            _ => Err(ConfigErrors(self.found)),
        }
    }

    pub(crate) fn add(&mut self, variable: &str, fault: impl Into<String>) {
        let mut settings = self.settings.iter();
        let example = settings
            .find(|setting| setting.name == variable)
            .map(|setting| setting.example);
        self.push(variable, fault.into(), example);
    }

    /// The same where the fault itself says what is valid.
    pub(crate) fn add_without_example(&mut self, variable: &str, fault: impl Into<String>) {
        self.push(variable, fault.into(), None);
    }

    fn push(&mut self, variable: &str, fault: String, example: Option<&'static str>) {
        self.found.push(ConfigError {
            variable: variable.to_owned(),
            fault,
            example,
        });
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether there already is one about a variable or its `_FILE`.
    pub(crate) fn about(&self, variable: &str) -> bool {
        self.found
            .iter()
            .any(|error| error.variable.starts_with(variable))
    }

    /// The value of a setting, or its default. `None`, and a fault, where it is missing or `parse`
    /// refuses it.
    pub(crate) fn read<T>(
        &mut self,
        setting: &Setting,
        value: Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match value.as_deref().or(setting.default) {
            None => Err("is missing".to_owned()),
            Some("") => Err("is empty: give it a value or leave it out".to_owned()),
            Some(value) => parse(value),
        };
        parsed.map_err(|fault| self.add(setting.name, fault)).ok()
    }

    /// A secret, from its variable or from the file that its `_FILE` variable names. Leaving it out
    /// is no fault.
    pub(crate) fn secret(
        &mut self,
        setting: &Setting,
        value: Option<String>,
        file: Option<String>,
    ) -> Option<SecretString> {
        self.secret_named(setting.name, value, file)
            .map(SecretString::from)
    }

    pub(crate) fn secret_named(
        &mut self,
        name: &str,
        value: Option<String>,
        file: Option<String>,
    ) -> Option<String> {
        let file_name = format!("{name}{FILE_SUFFIX}");
        let (from, text) = match (value, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                self.add(
                    name,
                    format!("{file_name} is set too: leave one of them out"),
                );
                return None;
            }
            (Some(value), None) => (name, value),
            (None, Some(path)) => match fs::read_to_string(&path) {
                Ok(text) => (file_name.as_str(), text),
                Err(error) => {
                    self.add(
                        &file_name,
                        format!("{} cannot be read: {error}", value::shown_path(&path)),
                    );
                    return None;
                }
            },
        };
        let text = value::without_line_end(&text);
        if text.is_empty() {
            self.add(from, "is empty: give it a value or leave it out");
            return None;
        }
        Some(text.to_owned())
    }
}
