//! `docs/configuration.md` and `config/example.env`, written from the table; a test says when they
//! are stale.

use std::{fmt::Write as _, fs, path::Path};

use workflows_sink::admin::config::Admin;
use workflows_sink::admin::settings as admin;
use workflows_sink::config::reference::*;
use workflows_sink::config::{Config, owned};

use crate::fresh::{RENEW, is_fresh};

fn configuration_md() -> String {
    let mut out = format!(
        "<!-- Generated from src/config; renew with: {RENEW} -->\n\
        # Configuration\n\n\
        Everything comes from the environment, and is checked before a socket opens. All faults\n\
        are reported at once, each with the variable's name and an example, and the exit code is\n\
        78. A name that begins with `{PREFIX}` and is not listed here is a fault too.\n\
        `config/example.env` is a commented example.\n\n\
        A variable marked *secret* can also be given as `<name>{FILE_SUFFIX}`: the path of a file\n\
        with the value (line ends after it are cut). Setting both is a fault.\n\n\
        | variable | default | meaning |\n|---|---|---|\n"
    );
    rows(&mut out, &SETTINGS);
    let _ = write!(
        out,
        "\n## librdkafka properties\n\n\
        `{KAFKA_PREFIX}<NAME>` is the librdkafka property `<name>` in lower case with `.` for\n\
        `_`: `{KAFKA_PREFIX}SASL_USERNAME` is `sasl.username`. Any property may be set, except\n\
        those that the service owns. Passwords, passphrases, client secrets and private keys\n\
        (`…password`, `…passphrase`, `…secret`, `…key.pem`, `sasl.oauthbearer.config`) are secret:\n\
        `{KAFKA_PREFIX}SASL_PASSWORD{FILE_SUFFIX}` works.\n\n\
        The service's own defaults:\n\n| property | value | why |\n|---|---|---|\n"
    );
    for (property, value, why) in owned::DEFAULTS {
        let _ = writeln!(out, "| `{property}` | `{value}` | {why} |");
    }
    out.push_str(
        "\nOwned by the service; setting one is a fault:\n\n\
        | property | why | instead |\n|---|---|---|\n",
    );
    for owned in owned::OWNED {
        let instead = match owned.instead {
            Some(name) => format!("`{name}`"),
            None => String::new(),
        };
        let _ = writeln!(out, "| `{}` | {} | {instead} |", owned.property, owned.why);
    }
    let _ = write!(
        out,
        "\n## `admin`\n\n\
        `workflows-sink admin` ([admin.md](admin.md)) has an environment of its own: what begins\n\
        with `{}`, and from above\n\
        `{}` and `{}`.\n\n\
        | variable | default | meaning |\n|---|---|---|\n",
        admin::PREFIX,
        LOG_FORMAT.name,
        LOG_FILTER.name
    );
    rows(&mut out, &admin::SETTINGS);
    out
}

fn rows(out: &mut String, settings: &[&Setting]) {
    for setting in settings {
        let default = match setting.default {
            Some(value) => format!("`{value}`"),
            None => String::new(),
        };
        let secret = if setting.secret { " *Secret.*" } else { "" };
        let _ = writeln!(
            out,
            "| `{}` | {default} | {}{secret} Example: `{}` |",
            setting.name, setting.meaning, setting.example
        );
    }
}

fn example_env() -> String {
    let mut out = format!(
        "# Every setting of workflows-sink; docs/configuration.md explains them.\n\
        # Those that are required are not commented out.\n\
        # Generated from src/config; renew with: {RENEW}\n"
    );
    settings(&mut out, &SETTINGS);
    let _ = write!(
        out,
        "\n## Any librdkafka property that the service does not own.\n\
        # {KAFKA_PREFIX}SECURITY_PROTOCOL=sasl_ssl\n\
        # {KAFKA_PREFIX}SASL_MECHANISM=SCRAM-SHA-512\n\
        # {KAFKA_PREFIX}SASL_USERNAME=workflows-sink\n\
        # {KAFKA_PREFIX}SASL_PASSWORD=correct-horse\n"
    );
    out.push_str("\n## What follows is for `workflows-sink admin`.\n");
    settings(&mut out, &admin::SETTINGS);
    out
}

fn settings(out: &mut String, settings: &[&Setting]) {
    for setting in settings {
        let default = match setting.default {
            Some(value) => format!(" Default: {value}"),
            None => String::new(),
        };
        let hidden = if setting.name == CONNECTION_STRING.name {
            ""
        } else {
            "# "
        };
        let file = match setting.secret {
            true => format!("# {}{FILE_SUFFIX}=/run/secrets/value\n", setting.name),
            false => String::new(),
        };
        let meaning = setting.meaning;
        let _ = write!(
            out,
            "\n## {meaning}{default}\n{hidden}{}={}\n{file}",
            setting.name, setting.example
        );
    }
}

#[test]
fn the_reference_says_what_the_code_does() {
    is_fresh("docs/configuration.md", &configuration_md());
    is_fresh("config/example.env", &example_env());
}

/// The variables of the file; with `all`, also those that are commented out, except for files that
/// the test does not have.
fn vars(all: bool) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.env");
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.starts_with("##"))
        .filter_map(|line| match line.strip_prefix("# ") {
            Some(hidden) => all.then_some(hidden),
            None => Some(line),
        })
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| {
            name.starts_with("DYFF_")
                && !name.ends_with("STRING_FILE")
                && !name.ends_with("PASSWORD_FILE")
                && !name.ends_with("USER_FILE")
                && *name != CREDENTIALS_DIR.name
        })
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_example_environment_is_valid_with_every_line_of_it_in_force() {
    let all = vars(true);
    for setting in SETTINGS.iter().chain(&admin::SETTINGS) {
        assert!(
            setting.name == CREDENTIALS_DIR.name
                || all.iter().any(|(name, _)| name == setting.name),
            "{}",
            setting.name
        );
    }
    Config::from_vars(all.clone().into_iter()).unwrap();
    Admin::from_vars(all.into_iter()).unwrap();
}

#[test]
fn the_example_environment_as_it_stands_lacks_only_the_password() {
    let errors = Config::from_vars(vars(false).into_iter()).unwrap_err().0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].variable, PASSWORD.name);
}
