//! `show`: letters in full, as they came. Pure.

use std::io::{self, Write};

use bson::{Bson, Document};

use super::super::{or_dash, print_json};
use crate::commands::text::{bson_json, document_json, on_terminal, one_line, plain};

/// Prints letters. A value that is text is printed as it came, byte for byte; on a terminal,
/// without what would control it.
pub(super) fn print(
    letters: &[Document],
    json: bool,
    is_terminal: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        let letters = letters.iter().map(document_json).collect();
        return Ok(print_json(out, &letters)?);
    }
    for (index, letter) in letters.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        if !letter.contains_key("state") {
            print_line("state", "open", out)?;
        }
        for (name, value) in letter.iter().filter(|(name, _)| *name != "value") {
            print_field(name, value, out)?;
        }
        let value = or_dash(letter.get("value").map(plain));
        let value = if is_terminal {
            on_terminal(&value)
        } else {
            value
        };
        writeln!(out, "value\n{value}")?;
    }
    Ok(())
}

fn print_line(name: &str, text: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{name:<15} {}", one_line(text))
}

fn print_field(name: &str, value: &Bson, out: &mut impl Write) -> io::Result<()> {
    match (name, value) {
        ("_id", Bson::Document(parts)) => {
            for (name, value) in parts {
                print_line(name, &plain(value), out)?;
            }
        }
        ("error" | "detail" | "closed", Bson::Document(parts)) => {
            for (part, value) in parts {
                print_line(&format!("{name}.{part}"), &plain(value), out)?;
            }
        }
        ("headers", Bson::Array(headers)) => {
            for header in headers.iter().filter_map(Bson::as_document) {
                let part = |name: &str| or_dash(header.get(name).map(plain));
                let text = format!("{} = {}", part("key"), part("value"));
                print_line("header", &text, out)?;
            }
        }
        ("cut", cut) => {
            let whole = bson_json(cut);
            let text = format!("only its beginning was kept; the whole: {whole}");
            print_line(name, &text, out)?;
        }
        _ => print_line(name, &plain(value), out)?,
    }
    Ok(())
}
