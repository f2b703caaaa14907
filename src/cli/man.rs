//! The manual page: one for the command and all of its subcommands, since no other is installed.

use std::io::{self, Write};

use clap::CommandFactory as _;
use clap_mangen::{Man, roff::Roff, roff::bold, roff::roman};

use super::Cli;
use crate::admin::settings as admin;
use crate::config::reference::{FILE_SUFFIX, KAFKA_PREFIX, SETTINGS, Setting};

/// What the exit status says. `run` ends with 130 at a second signal.
pub(super) const EXIT_STATUS: [(&str, &str); 5] = [
    ("0", "done; also a `run` that was stopped by a signal"),
    ("1", "something failed, or is not as it should be"),
    ("2", "the command line is invalid"),
    (
        "78",
        "the configuration is invalid; standard error has every fault",
    ),
    ("130", "a second signal ended `run` at once"),
];

/// Prints the manual page: the command, then each of its subcommands.
pub fn man(out: &mut impl Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let (page, mut head) = (Man::new(command.clone()), Vec::new());
    page.render_title(&mut head)?;
    page.render_name_section(&mut head)?;
    page.render_synopsis_section(&mut head)?;
    page.render_description_section(&mut head)?;
    page.render_options_section(&mut head)?;
    out.write_all(text(head).as_bytes())?;
    describe(&command, out)?;
    environment().to_writer(out)?;
    exit_status().to_writer(out)?;
    page.render_version_section(out)
}

fn describe(command: &clap::Command, out: &mut impl Write) -> io::Result<()> {
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        let name = sub
            .get_bin_name()
            .expect("a built command has its full name");
        writeln!(out, ".SH \"{}\"", name.to_uppercase())?;
        let (page, mut section) = (Man::new(sub.clone()), Vec::new());
        page.render_description_section(&mut section)?;
        page.render_options_section(&mut section)?;
        if sub.get_after_help().is_some() {
            page.render_extra_section(&mut section)?;
        }
        // sections of its own page become parts of a section
        let section = text(section)
            .replace(".SH DESCRIPTION\n", "")
            .replace(".SH EXTRA\n", ".PP\n")
            .replace(".SH ", ".SS ");
        out.write_all(section.as_bytes())?;
        describe(sub, out)?;
    }
    Ok(())
}

/// Every setting, from the tables that docs/configuration.md is written from.
fn environment() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["ENVIRONMENT"]);
    let of_kafka = format!(
        "{KAFKA_PREFIX}NAME is the librdkafka property `name`, in lower case with `.` for `_`. A \
         variable that is marked as secret can be given as NAME{FILE_SUFFIX} too: the path of a \
         file with the value."
    );
    roff.text([roman(of_kafka)]);
    settings(&mut roff, &SETTINGS);
    roff.control("SS", ["ENVIRONMENT OF WORKFLOWS-SINK ADMIN"]);
    settings(&mut roff, &admin::SETTINGS);
    roff
}

fn settings(roff: &mut Roff, settings: &[&Setting]) {
    for setting in settings {
        let secret = if setting.secret { " Secret." } else { "" };
        let default =
            (setting.default).map_or_else(String::new, |value| format!(" Default: {value}."));
        entry(
            roff,
            setting.name,
            format!("{}{secret}{default}", setting.meaning),
        );
    }
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUS {
        entry(&mut roff, status, meaning.to_owned());
    }
    roff
}

fn entry(roff: &mut Roff, name: &str, meaning: String) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(meaning)]);
}

fn text(page: Vec<u8>) -> String {
    String::from_utf8(page).expect("help is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_setting_and_exit_status_and_names_no_page_that_is_not_there() {
        let mut page = Vec::new();
        man(&mut page).unwrap();
        let page = text(page).replace("\\-", "-");
        for setting in SETTINGS.iter().chain(&admin::SETTINGS) {
            assert!(
                page.contains(&format!("\\fB{}\\fR", setting.name)),
                "{}",
                setting.name
            );
        }
        let (_, statuses) = page.split_once(".SH \"EXIT STATUS\"").unwrap();
        for (status, meaning) in EXIT_STATUS {
            assert!(
                statuses.contains(&format!("\\fB{status}\\fR\n{meaning}")),
                "{statuses}"
            );
        }
        assert!(!page.contains("(1)"), "{page}");
    }
}
