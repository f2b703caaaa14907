//! `config` and `mapping`: the settings in effect, the reference, and the mapping in use. Neither
//! asks a server.

use std::env;
use std::io::Write;

use serde_json::{Value, json};

use super::check;
use super::print_json;
use super::text::on_terminal;
use crate::admin;
use crate::cli::{ConfigCommand, MappingCommand};
use crate::config::effective::{self, Effective, Origin};
use crate::config::reference::{MAPPING_FILE, SETTINGS, Setting};
use crate::config::startup::StartupError;
use crate::config::{self, mapping_of, mapping_text};
use crate::record::mapping::{BUILTIN, Mapping};

/// Shows the configuration of this process's environment, or what can be set.
///
/// # Errors
/// Every fault of the configuration, where it is to be shown.
pub fn show(command: ConfigCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show { json } => print_effective(&effective::of_process()?, json, out),
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
            (Some(value), _) => on_terminal(value),
            (None, Origin::Unset | Origin::Default) => String::new(),
            (None, _) => "(secret)".to_owned(),
        };
        writeln!(
            out,
            "{}={value}  # {}",
            setting.name,
            on_terminal(&from(&setting.origin))
        )?;
    }
    Ok(())
}

fn print_reference(json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let all = SETTINGS.into_iter().chain(admin::settings::SETTINGS);
    if json {
        let value = |setting: &Setting| {
            json!({
                "name": setting.name,
                "default": setting.default,
                "example": setting.example,
                "meaning": setting.meaning,
                "secret": setting.secret,
            })
        };
        let settings: Value = all.map(value).collect();
        return Ok(print_json(out, &settings)?);
    }
    for setting in all {
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
    let named = |why| StartupError::configuration(format!("{}: {why}", MAPPING_FILE.name));
    let (text, in_use) = match env::var(MAPPING_FILE.name) {
        Ok(path) => {
            let text = mapping_text(&path).map_err(named)?;
            let in_use = mapping_of(&path, &text).map_err(named)?;
            (text, in_use)
        }
        Err(_) => (BUILTIN.to_owned(), Mapping::builtin()),
    };
    match command {
        MappingCommand::Print => Ok(out.write_all(text.as_bytes())?),
        MappingCommand::Check { file, json } => {
            let other = config::mapping(&file.display().to_string());
            let other = other.map_err(StartupError::configuration)?;
            check::mappings(&in_use, &other, json, out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::schema::assert_schema;

    #[test]
    fn settings_are_shown_without_secrets() {
        let setting = |value: Option<&str>, origin: Origin| Effective {
            name: "NAME".to_owned(),
            value: value.map(str::to_owned),
            origin,
        };
        let settings = [
            setting(Some("1"), Origin::Environment),
            setting(None, Origin::File("/run/secret".to_owned())),
            setting(Some("a\u{1b}[2J"), Origin::File("/run/config".to_owned())),
            setting(Some("8"), Origin::Default),
            setting(None, Origin::Unset),
        ];
        let text = |print: &dyn Fn(&mut Vec<u8>) -> anyhow::Result<()>| {
            let mut out = Vec::new();
            print(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let shown = |json| text(&|out| print_effective(&settings, json, out));
        insta::assert_snapshot!("show", shown(false));
        assert_schema("config show", &[shown(true)], &[]);
        let reference = |json| text(&|out| print_reference(json, out));
        insta::assert_snapshot!("reference", reference(false));
        assert_schema("config reference", &[reference(true)], &[]);
    }
}
