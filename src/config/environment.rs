//! The variables of an environment, read one by one through the table of settings.

use std::{collections::BTreeMap, env};

use secrecy::SecretString;

use super::faults::Faults;
use super::reference::{self, FILE_SUFFIX, Setting};
use super::{ConfigErrors, misspelt, value};
use crate::telemetry::logging::{Log, LogFormat, filter};

/// A table of settings, and what the names of those begin with that nothing else may begin with.
pub(crate) struct Settings {
    pub(crate) table: &'static [&'static Setting],
    pub(crate) prefix: &'static str,
}

/// Variables by name, and the faults found in them so far.
pub(crate) struct Environment {
    pub(super) vars: BTreeMap<String, String>,
    /// The known ones with the prefix, by what follows it in lower case.
    own: BTreeMap<String, String>,
    prefix: &'static str,
    pub(crate) faults: Faults,
}

impl Environment {
    /// The environment of this process. A variable of ours that is not UTF-8 is a fault.
    pub(crate) fn of_process(settings: &Settings) -> Environment {
        let (mut vars, mut faults) = (BTreeMap::new(), Faults::of(settings.table));
        for (name, value) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => drop(vars.insert(name, value)),
                Err(_) if name.starts_with("DYFF_") => faults.add(&name, "is not UTF-8"),
                Err(_) => {}
            }
        }
        Environment::new(settings, vars, faults)
    }

    /// An environment of these variables.
    pub(crate) fn of(
        settings: &Settings,
        vars: impl Iterator<Item = (String, String)>,
    ) -> Environment {
        Environment::new(settings, vars.collect(), Faults::of(settings.table))
    }

    /// Each name that begins with the prefix and is not in the table is a fault.
    fn new(settings: &Settings, vars: BTreeMap<String, String>, mut faults: Faults) -> Environment {
        let &Settings { table, prefix } = settings;
        let (known, unknown): (Vec<_>, Vec<_>) = (vars.iter())
            .filter(|(name, _)| name.starts_with(prefix))
            .partition(|(name, _)| reference::is_known(table, name));
        let others = vars.keys().filter(|name| !name.starts_with(prefix));
        for name in others.filter(|name| !reference::is_known(table, name)) {
            if let Some(meant) = misspelt::meant(table, prefix, name) {
                faults.add(name, format!("is ignored; did you mean {meant}?"));
            }
        }
        for (name, _) in unknown {
            let nearest = reference::nearest(table, prefix, name);
            let fault = format!("there is no such setting; did you mean {nearest}?");
            faults.add(name, fault);
        }
        let known = known.into_iter();
        let known = known.map(|(name, value)| (name.clone(), value.clone()));
        let own = envy::prefixed(prefix).from_iter(known);
        Environment {
            vars,
            own: own.expect("any text is a value, unread"),
            prefix,
            faults,
        }
    }

    /// The value of a variable, unread.
    pub(crate) fn get(&self, setting: &Setting) -> Option<String> {
        let value = match setting.name.strip_prefix(self.prefix) {
            Some(own) => self.own.get(&own.to_lowercase()),
            None => self.vars.get(setting.name),
        };
        value.cloned()
    }

    /// The file that the `_FILE` variable of a secret names.
    pub(crate) fn file_of(&self, setting: &Setting) -> Option<String> {
        let name = format!("{}{FILE_SUFFIX}", setting.name);
        self.vars.get(&name).cloned()
    }

    /// The value of a setting, or its default. `None`, and a fault, where it is missing or invalid.
    pub(crate) fn read<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(setting);
        self.faults.read(setting, value, parse)
    }

    /// The value of a setting that may be left out. A fault where it is invalid.
    pub(crate) fn read_if_set<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(setting)?;
        self.faults.read(setting, Some(value), parse)
    }

    /// A secret, from its variable or its file. Leaving it out is no fault.
    pub(crate) fn secret(&mut self, setting: &Setting) -> Option<SecretString> {
        let (value, file) = (self.get(setting), self.file_of(setting));
        self.faults.secret(setting, value, file)
    }

    /// Format and filter of the log.
    pub(crate) fn log(&mut self) -> Option<Log> {
        let format = self.read(
            &reference::LOG_FORMAT,
            value::choice(&[
                ("auto", LogFormat::Auto),
                ("json", LogFormat::Json),
                ("human", LogFormat::Human),
            ]),
        );
        let filter = self.read(&reference::LOG_FILTER, |text| match filter(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("is not a log filter: {error}")),
        });
        Some(Log {
            format: format?,
            filter: filter?,
        })
    }

    /// What was read, if there was no fault.
    ///
    /// # Errors
    /// Every fault.
    pub(crate) fn unless_any_fault<T>(self, read: Option<T>) -> Result<T, ConfigErrors> {
        self.faults.unless_any(read)
    }
}
