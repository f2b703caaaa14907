//! How one value is read; each fault is a phrase that follows the variable's name.

use std::{collections::BTreeSet, net::SocketAddr, ops::RangeInclusive};

/// The most of a faulty value that an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// The value as an error may repeat it: quoted and cut; not at all where it may be a URI with a
/// password.
pub(crate) fn shown(value: &str) -> String {
    if value.contains('@') && value.contains("://") {
        return "the value (not shown: it looks like a URI with a password)".to_owned();
    }
    let cut: String = value.chars().take(SHOWN_CHARS_MAX).collect();
    let dots = if cut.len() < value.len() { "…" } else { "" };
    format!("{cut:?}{dots}")
}

/// The path of a secret's file as an error may show it: not at all where it may be the secret.
pub(crate) fn shown_path(path: &str) -> String {
    match path.starts_with(['/', '.']) {
        true => shown(path),
        false => "the file (not shown: it may be the secret itself, and not its path)".to_owned(),
    }
}

/// A secret without the line ends behind it, which editors and `echo` add: they are part of none,
/// wherever it is read from.
pub(crate) fn without_line_end(secret: &str) -> &str {
    secret.trim_end_matches(['\r', '\n'])
}

pub(crate) fn text(value: &str) -> Result<String, String> {
    if value.trim() == value && !value.contains(char::is_control) {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "{} has control characters or blanks at an end",
            shown(value)
        ))
    }
}

/// A name by Kafka's rule for topics, which `group.instance.id` shares.
///
/// # Errors
/// Why it is none.
pub fn kafka_name(value: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_legal = (1..=249).contains(&value.len()) && value.chars().all(legal);
    if !is_legal || value == "." || value == ".." {
        return Err(format!(
            "{} is not a name that Kafka takes: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-'",
            shown(value)
        ));
    }
    Ok(value.to_owned())
}

pub(crate) fn topics(value: &str) -> Result<Vec<String>, String> {
    let topics: Vec<String> = value
        .split(',')
        .map(|topic| kafka_name(topic.trim()))
        .collect::<Result<_, _>>()?;
    let distinct: BTreeSet<&String> = topics.iter().collect();
    if distinct.len() < topics.len() {
        return Err(format!("{} names a topic twice", shown(value)));
    }
    Ok(topics)
}

pub(crate) fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |value| {
        let found = choices.iter().find(|(name, _)| *name == value);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("{} is not one of {}", shown(value), names.join(", "))
        })
    }
}

pub(crate) fn address(value: &str) -> Result<SocketAddr, String> {
    value
        .parse()
        .map_err(|_| format!("{} is not an address with a port", shown(value)))
}

pub(crate) fn whole(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> {
    move |value| {
        let number = value.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!(
                "{} is not a whole number from {} to {}",
                shown(value),
                range.start(),
                range.end()
            )
        })
    }
}

/// Bytes, as a whole number alone or followed by `KiB`, `MiB` or `GiB`.
pub(crate) fn bytes(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    move |value| {
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((value.strip_suffix(suffix)?.trim_end(), *unit)))
            .unwrap_or((value, 1));
        let number = digits.parse::<usize>().ok();
        number
            .and_then(|number| number.checked_mul(unit))
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!(
                    "{} is not a number of bytes from {} to {} (KiB, MiB and GiB may follow it)",
                    shown(value),
                    range.start(),
                    range.end()
                )
            })
    }
}
