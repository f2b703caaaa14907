//! `config` and `mapping`: the settings in effect, the reference, and the mapping in use. Neither
//! asks a server.

use std::collections::BTreeMap;
use std::io::Write;
use std::{env, fs};

use serde_json::{Value, json};

use super::check;
use super::{print_json, printable};
use crate::cli::{ConfigCommand, MappingCommand};
use crate::config::effective::{Effective, Origin};
use crate::config::reference::{MAPPING_FILE, SETTINGS, Setting};
use crate::config::startup::StartupError;
use crate::config::{Config, value};
use crate::record::mapping::{BUILTIN, Mapping};

/// Shows the configuration of this process's environment, or what can be set.
///
/// # Errors
/// Every fault of the configuration, where it is to be shown.
pub fn show(command: ConfigCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show { json } => {
            let config = Config::from_env()?;
            let text = |text: std::ffi::OsString| text.into_string().ok();
            let vars: BTreeMap<String, String> = env::vars_os()
                .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
                .collect();
            print_effective(&config.effective(&vars), json, out)
        }
        ConfigCommand::Reference { json } => print_reference(json, out),
    }
}

fn print_effective(settings: &[Effective], json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let from = |origin: &Origin| match origin {
        Origin::Environment => "environment".to_owned(),
        Origin::File(path) => format!("file {path}"),
        Origin::Default => "default".to_owned(),
        Origin::Unset => "not set".to_owned(),
    };
    if json {
        let value = |setting: &Effective| {
            json!({
                "name": setting.name,
                "value": setting.value,
                "from": from(&setting.origin),
            })
        };
        let settings: Value = settings.iter().map(value).collect();
        return Ok(print_json(out, &settings)?);
    }
    for setting in settings {
        let value = match (&setting.value, &setting.origin) {
            (Some(value), _) => printable(value).to_string(),
            (None, Origin::Unset | Origin::Default) => String::new(),
            (None, _) => "(secret)".to_owned(),
        };
        writeln!(
            out,
            "{}={value}  # {}",
            setting.name,
            printable(&from(&setting.origin))
        )?;
    }
    Ok(())
}

fn print_reference(json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        let value = |setting: &&Setting| {
            json!({
                "name": setting.name,
                "default": setting.default,
                "example": setting.example,
                "meaning": setting.meaning,
                "secret": setting.secret,
            })
        };
        let settings: Value = SETTINGS.iter().map(value).collect();
        return Ok(print_json(out, &settings)?);
    }
    for setting in SETTINGS {
        let secret = if setting.secret { " Secret." } else { "" };
        writeln!(out, "{}\n    {}{secret}", setting.name, setting.meaning)?;
        if let Some(default) = setting.default {
            writeln!(out, "    Default: {default}")?;
        }
        writeln!(out, "    Example: {}\n", setting.example)?;
    }
    Ok(writeln!(
        out,
        "DYFF_KAFKA__CONFIG__…\n    Any property of librdkafka, in upper case with _ for its dots."
    )?)
}

/// Prints the mapping in use, or checks another one.
///
/// # Errors
/// [`StartupError`], where a mapping cannot be read or used.
pub fn mapping(command: MappingCommand, out: &mut impl Write) -> anyhow::Result<()> {
    let named = env::var(MAPPING_FILE.name).ok();
    let read = |path: &str| {
        fs::read_to_string(path).map_err(|error| {
            let path = value::shown(path);
            StartupError::configuration(format!("{path} cannot be read: {error}"))
        })
    };
    let parsed = |path: &str, text: &str| {
        Mapping::parse(text).map_err(|fault| {
            StartupError::configuration(format!("{}: {fault}", value::shown(path)))
        })
    };
    let in_use = match &named {
        Some(path) => read(path)?,
        None => BUILTIN.to_owned(),
    };
    match command {
        MappingCommand::Print => Ok(out.write_all(in_use.as_bytes())?),
        MappingCommand::Check { file, json } => {
            let path = file.display().to_string();
            let other = parsed(&path, &read(&path)?)?;
            let in_use = parsed(named.as_deref().unwrap_or("the built-in mapping"), &in_use)?;
            check::mappings(&in_use, &other, json, out)
        }
    }
}
