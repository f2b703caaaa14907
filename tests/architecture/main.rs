//! The rules of the layout, held over the lines of `src/`: docs/architecture.md says why they are.

mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::sources;

/// The rooms by floor, from the top: a room imports only from floors below its own.
const FLOORS: [&[&str]; 10] = [
    &["main", "lib"],
    &["service"],
    &["commands", "lane"],
    &["kafka"],
    &["cli", "writer"],
    &["admin", "checkpoint"],
    &["database"],
    &["config"],
    &["telemetry"],
    &["record", "backoff", "signals"],
];

/// Where `admin` is run from; nothing else of the sink knows it.
const OF_ADMIN: [&str; 4] = ["admin", "cli", "commands", "main"];

fn floor(room: &str) -> usize {
    let from_the_top = FLOORS.iter().position(|rooms| rooms.contains(&room));
    let from_the_top = from_the_top.unwrap_or_else(|| panic!("src/{room} has no floor"));
    FLOORS.len() - from_the_top
}

/// What `lines` say is wrong, all of it in one message.
fn none_of(rule: &str, lines: Vec<String>) {
    assert!(lines.is_empty(), "{rule}:\n{}", lines.join("\n"));
}

#[test]
fn every_room_stands_on_a_floor_and_no_floor_is_empty() {
    let found: BTreeSet<String> = sources().into_iter().map(|source| source.room).collect();
    let planned: BTreeSet<String> = FLOORS.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(found, planned);
}

#[test]
fn a_folder_of_code_has_a_mod() {
    let sources = sources();
    let files: BTreeSet<&str> = sources.iter().map(|source| &*source.path).collect();
    let folders: BTreeSet<&str> = sources.iter().map(|source| source.folder()).collect();
    let without = folders
        .into_iter()
        .filter(|folder| *folder != "src" && !files.contains(&*format!("{folder}/mod.rs")));
    let without = without.map(str::to_owned).collect();
    none_of(
        "beside `x.rs` there is `x/tests.rs` and no other code; a folder has a `mod.rs`",
        without,
    );
}

#[test]
fn nothing_imports_upwards() {
    let mut seen = 0;
    let mut upwards = Vec::new();
    for source in sources() {
        for (line, room) in source.rooms_used() {
            seen += 1;
            if room != source.room && floor(&room) >= floor(&source.room) {
                upwards.push(format!("{}:{line} imports {room}", source.path));
            }
        }
    }
    assert!(
        seen > 150,
        "only {seen} imports were found: is the reader blind?"
    );
    none_of("a room imports only from floors below its own", upwards);
}

#[test]
fn rooms_are_named_from_the_root_of_the_crate() {
    let mut odd = Vec::new();
    for source in sources() {
        for (line, text) in source.code() {
            let grouped = text.contains("use crate::{");
            let is_root = source.path.matches('/').count() == 2 && source.path.ends_with("/mod.rs");
            if grouped || (is_root && text.starts_with("use super::")) {
                odd.push(format!("{}:{line} {text}", source.path));
            }
        }
    }
    none_of(
        "one `use crate::room::…` a module, or this test is blind",
        odd,
    );
}

#[test]
fn record_is_pure() {
    let foreign = ["rdkafka", "mongodb", "tokio", "crate::config"];
    let mut impure = Vec::new();
    for source in sources().iter().filter(|source| source.room == "record") {
        for (line, text) in source.code() {
            if foreign
                .iter()
                .any(|name| text.contains(&format!("{name}::")))
            {
                impure.push(format!("{}:{line} {text}", source.path));
            }
        }
    }
    none_of(
        "record/ knows no client, no runtime and no configuration",
        impure,
    );
}

#[test]
fn only_the_writer_makes_what_is_settled() {
    let mut makers = BTreeSet::new();
    for source in sources() {
        for (_, text) in source.code() {
            let made = text.contains("Settled {") || text.contains("Settled::");
            if made && !text.contains("struct") && !text.contains("impl") {
                makers.insert(source.room.clone());
            }
        }
    }
    assert_eq!(makers, BTreeSet::from(["writer".to_owned()]));
}

#[test]
fn nothing_of_the_sink_knows_admin() {
    let mut known = Vec::new();
    for source in sources() {
        if OF_ADMIN.contains(&source.room.as_str()) {
            continue;
        }
        for (line, room) in source.rooms_used() {
            if room == "admin" && source.room != "lib" {
                known.push(format!("{}:{line}", source.path));
            }
        }
    }
    none_of("the sink runs without admin/", known);
}

#[test]
fn a_type_name_means_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| source.room != "admin") {
        for (line, text) in source.code() {
            let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            let is_public = text.trim_start().starts_with("pub");
            let is_type = |word: &str| ["struct", "enum", "trait", "type"].contains(&word);
            if is_public && words.any(is_type) {
                let name = words.next().unwrap_or_default().to_owned();
                let place = format!("{}:{line}", source.path);
                places.entry(name).or_default().push(place);
            }
        }
    }
    assert!(places.len() > 60, "only {} types were found", places.len());
    places.retain(|_, places| places.len() > 1);
    let twice = places
        .into_iter()
        .map(|(name, places)| format!("{name}: {}", places.join(", ")));
    none_of(
        "outside admin/ no public type name stands twice",
        twice.collect(),
    );
}

#[test]
fn no_comment_is_wider_than_100_columns() {
    let mut wide = Vec::new();
    for source in sources() {
        for (line, text) in source.lines() {
            if text.trim_start().starts_with("//") && text.chars().count() > 100 {
                wide.push(format!("{}:{line}", source.path));
            }
        }
    }
    none_of("a comment is at most 100 columns wide", wide);
}

#[test]
fn files_import_in_circles_only_inside_one_folder() {
    let sources = sources();
    let imports: Vec<Vec<usize>> = (sources.iter())
        .map(|source| source.files_used(&sources))
        .collect();
    let reached: Vec<BTreeSet<usize>> = (0..sources.len())
        .map(|file| reached_from(file, &imports))
        .collect();
    let mut circles = Vec::new();
    for (one, far) in reached.iter().enumerate() {
        for other in far.iter().filter(|other| reached[**other].contains(&one)) {
            if sources[one].folder() != sources[*other].folder() {
                circles.push(format!(
                    "{} and {}",
                    sources[one].path, sources[*other].path
                ));
            }
        }
    }
    none_of("files of two folders import each other", circles);
}

fn reached_from(file: usize, imports: &[Vec<usize>]) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = imports[file].clone();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(&imports[file]);
        }
    }
    reached
}
