//! What the JSON of each command looks like, without its values: pinned, since scripts read it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory as _;
use serde_json::{Map, Value};

use crate::cli::Cli;

/// Fails where the JSON of a command, of which these are outputs, has another schema than before.
/// `command`: its words, such as `offsets show`, and what tells one form of its output from
/// another.
pub(super) fn assert_schema<T: AsRef<[u8]>>(command: &str, outputs: &[T], maps: &[&str]) {
    let name = file_name(command);
    insta::assert_snapshot!(name, schema(outputs, maps));
}

fn file_name(command: &str) -> String {
    let words = command.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("_")
}

/// Each path in these outputs of a command, with the types that stand there: the elements of a list
/// are `[]`, and a field that some of the objects lack ends in `?`. `maps`: the paths of objects
/// whose names are data; theirs are `*`, and what stands within their values is data too.
fn schema<T: AsRef<[u8]>>(outputs: &[T], maps: &[&str]) -> String {
    let mut seen = Schema::default();
    for output in outputs {
        let value = serde_json::from_slice(output.as_ref()).expect("a command prints JSON");
        seen.take_in("", &value, maps);
    }
    let lines = seen.types.iter().map(|(path, types)| {
        let types: Vec<&str> = types.iter().copied().collect();
        let mark = if seen.is_always_there(path) { "" } else { "?" };
        let path = if path.is_empty() { "." } else { path };
        format!("{path}{mark}: {}\n", types.join(" | "))
    });
    lines.collect()
}

#[derive(Default)]
struct Schema {
    types: BTreeMap<String, BTreeSet<&'static str>>,
    /// How often a field was met.
    fields: BTreeMap<String, usize>,
    /// How many objects were met at a path.
    objects: BTreeMap<String, usize>,
}

impl Schema {
    fn take_in(&mut self, path: &str, value: &Value, maps: &[&str]) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "text",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        };
        self.types.entry(path.to_owned()).or_default().insert(kind);
        match value {
            Value::Array(values) => {
                for value in values {
                    self.take_in(&format!("{path}[]"), value, maps);
                }
            }
            Value::Object(fields) => {
                *self.objects.entry(path.to_owned()).or_default() += 1;
                for (name, value) in fields {
                    let name = if maps.contains(&path) { "*" } else { name };
                    let path = format!("{path}.{name}");
                    *self.fields.entry(path.clone()).or_default() += 1;
                    match name {
                        "*" => self.take_in(&path, &without_content(value), maps),
                        _ => self.take_in(&path, value, maps),
                    }
                }
            }
            _ => {}
        }
    }

    fn is_always_there(&self, path: &str) -> bool {
        let Some(met) = self.fields.get(path) else {
            return true;
        };
        let (object, name) = path.rsplit_once('.').expect("a field has an object");
        name == "*" || *met >= self.objects[object]
    }
}

/// A value of the same type, in which there is nothing.
fn without_content(value: &Value) -> Value {
    match value {
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(_) => Value::Object(Map::new()),
        other => other.clone(),
    }
}

#[test]
fn a_schema_has_every_path_with_its_types() {
    let outputs = [
        r#"{"a":[{"b":1,"c":null},{"b":1.5}],"by":{"x":1,"y":2}}"#,
        r#"{"a":[],"by":{"z":{"z":1}}}"#,
    ];
    let expected = ".: object\n.a: list\n.a[]: object\n.a[].b: integer | number\n.a[].c?: null\n\
                    .by: object\n.by.*: integer | object\n";
    assert_eq!(schema(&outputs, &[".by"]), expected);
}

/// The words of each command with `--json`.
fn with_json(command: &clap::Command, words: &str) -> Vec<String> {
    let has_json = command.get_arguments().any(|it| it.get_id() == "json");
    let own = has_json.then(|| words.to_owned());
    let inner = command.get_subcommands();
    let inner = inner.flat_map(|it| with_json(it, format!("{words} {}", it.get_name()).trim()));
    own.into_iter().chain(inner).collect()
}

#[test]
fn every_command_with_json_has_its_schema_pinned() {
    let commands = with_json(&Cli::command(), "");
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let name = file_name(&command);
        let file = format!("src/commands/snapshots/workflows_sink__commands__schema__{name}.snap");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        assert!(
            path.exists(),
            "no schema of `{command}`: {}",
            path.display()
        );
    }
}
