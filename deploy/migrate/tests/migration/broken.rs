//! Exports with something wrong in them: it is named by file, record and reason, and the rest is
//! read.

use std::fs;
use std::io::Write as _;

use datastore_export::{Entity, Value};
use datastore_migrate::example;
use serde_json::Value as Json;
use test_support::scene::{Scene, topics};

use crate::bench::Bench;

/// The one file of entities in an export.
pub fn log(bench: &Bench) -> std::path::PathBuf {
    fn walk(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&bench.path("export"), &mut found);
    let is_log = |path: &std::path::PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("output-"))
    };
    let mut logs: Vec<_> = found.into_iter().filter(is_log).collect();
    // the largest, so that there is something behind what is broken
    logs.sort_by_key(|log| fs::metadata(log).expect("a file").len());
    logs.pop().expect("a log")
}

async fn dry_run(bench: &Bench) -> (u64, Vec<Json>) {
    let dry = "entities export --remap remap.json --dry-run --report dry.json";
    bench.run(dry).await.with_code(1);
    let report = bench.json("dry.json");
    let kinds = report["kinds"].as_object().expect("kinds").values();
    let moved = kinds
        .filter_map(|counts| counts["would be moved"].as_u64())
        .sum();
    (
        moved,
        report["rejected"].as_array().expect("a list").clone(),
    )
}

/// Without those that refer to what is rejected.
fn without_dangling(rejected: &[Json]) -> Vec<Json> {
    let is_dangling = |one: &&Json| {
        let reason = one["reason"].as_str().expect("a reason");
        reason.contains("has an id and is not moved")
    };
    rejected
        .iter()
        .filter(|one| !is_dangling(one))
        .cloned()
        .collect()
}

#[tokio::test]
async fn a_damaged_file_and_a_truncated_one_are_named_and_the_rest_is_read() {
    let bench = Bench::new(example::entities(600)).with_ids().await;
    let log = log(&bench);
    let whole = fs::read(&log).expect("a file");
    let name = log
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();

    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&log, &damaged).expect("written");
    let (moved, all) = dry_run(&bench).await;
    let rejected = without_dangling(&all);
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert!(all.len() > 1, "what refers to the lost ones is told");
    assert!((1..600).contains(&moved) && moved > 300, "{moved}");
    let file = rejected[0]["file"].as_str().expect("a file");
    let reason = rejected[0]["reason"].as_str().expect("a reason");
    assert!(
        file.ends_with(&name) && reason.contains("damaged"),
        "{rejected:?}"
    );
    assert!(rejected[0]["record"].as_u64() > Some(1), "{rejected:?}");

    fs::write(&log, &whole[..whole.len() - 5]).expect("written");
    let (moved, rejected) = dry_run(&bench).await;
    let rejected = without_dangling(&rejected);
    let reason = rejected[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("ends within the record"), "{rejected:?}");
    assert_eq!((moved, rejected.len()), (599, 1));
}

#[tokio::test]
async fn what_cannot_be_moved_is_named_and_the_rest_is() {
    let mut entities: Vec<Entity> = example::entities(12).collect();
    let set = |entity: &mut Entity, name: &str, value: Value| {
        entity.properties.retain(|(known, _)| known != name);
        entity.properties.push((name.to_owned(), value));
    };
    // behind the three accounts: datasets, a model, a service, an evaluation, an audit, a report
    let mut mystery = entities[3].clone();
    mystery.key.path[1].kind = "Mystery".to_owned();
    entities.push(mystery);
    set(&mut entities[4], "size", Value::Double(f64::NAN));
    set(
        &mut entities[5],
        "model",
        Value::Text("public/404".to_owned()),
    );
    set(&mut entities[6], "$where", Value::Null);
    set(&mut entities[7], "labels", Value::Integer(1));
    set(
        &mut entities[8],
        "replications",
        Value::Integer(5_634_161_670_000_003),
    );
    let bench = Bench::new(entities);
    let ids = "ids export --out remap.json --seed dyff";
    bench.run(ids).await.with_code(1);
    let (moved, rejected) = dry_run(&bench).await;
    let rejected = without_dangling(&rejected);
    let reason = |path: &str| {
        let of = rejected
            .iter()
            .find(|one| one["path"] == format!("Account:public/{path}"));
        of.unwrap_or_else(|| panic!("{path}: {rejected:?}"))["reason"]
            .as_str()
            .expect("text")
    };
    let id = |index: u64| 5_634_161_670_000_000 + index;
    for (path, why) in [
        (
            format!("Model:{}", id(1)),
            "Model.size is not a number that JSON has",
        ),
        (
            format!("InferenceService:{}", id(2)),
            "InferenceService.model refers to Account:public/Model:404, which has no new id",
        ),
        (
            format!("Evaluation:{}", id(3)),
            "the service would reject it: unsafe_field_name",
        ),
        (
            format!("Audit:{}", id(4)),
            "the service would reject it: malformed_labels",
        ),
    ] {
        assert!(reason(&path).contains(why), "{path}: {}", reason(&path));
    }
    assert_eq!((moved, rejected.len()), (8, 5));
    // Of an unknown kind the name may be a secret.
    let mystery = rejected.iter().find(|one| one.get("path").is_none());
    let mystery = mystery.expect("it is told")["reason"].as_str();
    assert!(
        mystery
            .expect("text")
            .contains("the mapping has no kind Mystery")
    );
    let report = bench.json("dry.json");
    assert_eq!(
        report["left_out"]["Account"],
        "moved by `datastore-migrate accounts`"
    );
}

#[tokio::test]
async fn an_integer_that_looks_like_an_id_is_left_and_told() {
    let mut entities: Vec<Entity> = example::entities(1).collect();
    let value = Value::Integer(5_634_161_670_000_000);
    entities[3].properties.push(("parent".to_owned(), value));
    let bench = Bench::new(entities).with_ids().await;
    let dry = "entities export --remap remap.json --dry-run";
    let dry = bench.run(dry).await.with_code(0);
    assert!(
        dry.out
            .contains("Dataset.parent holds 1 values that look like old ids"),
        "{}",
        dry.out
    );
}

/// A typo in the mapping would be silent otherwise: the property stays as it was.
#[tokio::test]
async fn a_line_of_the_mapping_that_matches_nothing_is_told_with_its_place() {
    let bench = Bench::new(example::entities(6)).with_ids().await;
    let mapping = bench.run("mapping").await.with_code(0).out;
    let (model, typo) = (
        "[kinds.Model]\n",
        "[kinds.Model]\nrename = { crad = 'x' }\n",
    );
    fs::write(bench.path("mapping.toml"), mapping.replace(model, typo)).expect("written");
    let line = mapping
        .lines()
        .position(|line| line == "[kinds.Model]")
        .expect("a line")
        + 2;
    let dry =
        "entities export --remap remap.json --dry-run --report dry.json --mapping mapping.toml";
    let out = bench.run(dry).await.with_code(0).out;
    let told = format!(
        "warning: mapping.toml, line {line}: kinds.Model.rename: no Model has a property `crad`"
    );
    assert!(out.contains(&told), "{out}");
    let unmatched = bench.json("dry.json")["unmatched"].clone();
    assert_eq!(unmatched[0]["line"], line);
    assert_eq!(
        unmatched.as_array().expect("a list").len(),
        1,
        "{unmatched}"
    );
    bench.export("part", example::entities(5));
    let out = bench
        .run("entities part --remap remap.json --dry-run")
        .await
        .with_code(0)
        .out;
    let told = "warning: the mapping that is compiled in, line ";
    assert!(
        out.contains(told) && out.contains("kinds.Report: no entity is of this kind"),
        "{out}"
    );
}

#[tokio::test]
async fn an_edited_remap_file_is_refused_by_every_step() {
    let bench = Bench::new(example::entities(6)).with_ids().await;
    let text = fs::read_to_string(bench.path("remap.json")).expect("a file");
    fs::write(bench.path("remap.json"), text.replacen('\n', "\n\n", 1)).expect("written");
    for step in [
        "ids export --out remap.json",
        "entities export --remap remap.json",
        "accounts export --remap remap.json",
        "verify export --remap remap.json",
        "objects plan --remap remap.json --from gs://a --to gs://b --listing x",
        "delete-old plan --remap remap.json --project p --from gs://a",
    ] {
        let refused = bench.run(step).await.with_code(1);
        assert!(
            refused.error.contains("has been edited"),
            "{step}: {}",
            refused.error
        );
    }
}

#[tokio::test]
async fn ids_of_another_seed_are_refused() {
    let bench = Bench::new(example::entities(6)).with_ids().await;
    let other = bench
        .run("ids export --out remap.json --seed other")
        .await
        .with_code(1);
    assert!(
        other.error.contains("were made with the seed \"dyff\""),
        "{}",
        other.error
    );
}

#[tokio::test]
async fn the_other_forms_of_an_export_give_the_same_ids() {
    let bench = Bench::new(example::entities(2)).with_ids().await;
    let lines = concat!(
        r#"{"key":{"path":[{"kind":"Account","name":"public"},{"kind":"Dataset","id":"5634161670000000"}]},"properties":{"rows":{"integerValue":"9223372036854775807"}}}"#,
        "\n",
        r#"{"__key__":"Account:public/Model:5634161670000001","size":0.5}"#,
        "\n",
        "not JSON\n",
    );
    let mut file = fs::File::create(bench.path("lines.json")).expect("a file");
    file.write_all(lines.as_bytes()).expect("written");
    let known = bench
        .run("ids lines.json --out remap.json")
        .await
        .with_code(1);
    assert!(
        known.out.contains("1 known") && known.out.contains("0 paths got an id"),
        "{}",
        known.out
    );
    assert!(known.out.contains("lines.json record 3"), "{}", known.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_too_large_for_the_topic_is_named_and_the_rest_is_moved() {
    let small = [
        ("cleanup.policy", "compact"),
        ("max.message.bytes", "20000"),
    ];
    let scene = Scene::with_topic("oversize", 1, &small).await;
    let mut entities: Vec<Entity> = example::entities(60).collect();
    let mut random = local_stack::random::Random::new(1);
    let large = Value::Text(random.hex(200_000));
    // what refers to it comes behind it
    entities[3].properties.push(("large".to_owned(), large));
    let mut bench = Bench::new(entities).with_ids().await;
    bench.environment = scene.environment();
    let import = format!("entities export --remap remap.json --topic {}", scene.topic);
    let moved = bench
        .run(&format!("{import} --report moved.json"))
        .await
        .with_code(1);
    let report = bench.json("moved.json");
    // the evaluation and the report refer to it
    let counts = [&report["rejected_in_all"], &report["dangling"]];
    assert_eq!(counts, [3, 2], "{}{}", moved.out, moved.error);
    let datasets = serde_json::json!({ "sent": 9, "not taken": 1 });
    assert_eq!(report["kinds"]["Dataset"], datasets);
    let kinds = report["kinds"].as_object().expect("kinds").values();
    let sent: u64 = kinds.filter_map(|counts| counts["sent"].as_u64()).sum();
    assert_eq!(sent, 59);
    let rejected = &report["rejected"][0];
    assert_eq!(rejected["path"], "Account:public/Dataset:5634161670000000");
    assert!(
        rejected["reason"]
            .as_str()
            .expect("text")
            .contains("max.message.bytes")
    );
    let topics = topics().await;
    assert_eq!(
        topics.watermarks(&scene.topic, 0).await.expect("an answer"),
        (0, 59)
    );

    let nowhere = "entities export --remap remap.json --topic no.such.topic";
    let nowhere = bench.run(nowhere).await.with_code(1);
    assert!(
        nowhere.error.contains("there is no topic no.such.topic"),
        "{}",
        nowhere.error
    );
}

#[tokio::test]
async fn references_to_nothing_are_told_as_soon_as_ids_are_given() {
    let entities = example::entities(6).filter(|entity| entity.key.kind() != "Dataset");
    let bench = Bench::new(entities);
    let ids = bench
        .run("ids export --out remap.json --seed dyff")
        .await
        .with_code(1);
    assert!(
        ids.out.contains("Evaluation.dataset refers to"),
        "{}",
        ids.out
    );
}

#[tokio::test]
async fn another_namespace_or_project_is_refused_since_paths_have_none() {
    let mut entities: Vec<Entity> = example::entities(2).collect();
    entities[3].key.namespace = "eu".to_owned();
    entities[4].key.project = "other".to_owned();
    let bench = Bench::new(entities);
    let ids = bench
        .run("ids export --out remap.json --seed dyff")
        .await
        .with_code(1);
    for told in ["lies in the namespace eu", "is of the project other"] {
        assert!(ids.out.contains(told), "{told}: {}", ids.out);
    }
    // Their paths have ids, of entities of the first namespace and project.
    let bench = Bench::new(example::entities(2)).with_ids().await;
    let mut entities: Vec<Entity> = example::entities(2).collect();
    entities
        .iter_mut()
        .for_each(|entity| entity.key.namespace = "eu".to_owned());
    bench.export("elsewhere", entities);
    for step in ["entities", "accounts"] {
        let run = format!("{step} elsewhere --remap remap.json --dry-run");
        let ran = bench.run(&run).await.with_code(1);
        assert!(ran.out.contains("lies in the namespace eu"), "{}", ran.out);
        assert!(!ran.out.contains("would be"), "{}", ran.out);
    }
}

#[tokio::test]
async fn a_file_that_was_cut_between_two_entities_is_told_by_the_exports_metadata() {
    let bench = Bench::new(example::entities(600)).with_ids().await;
    let log = log(&bench);
    let whole = fs::read(&log).expect("a file");
    // The last block is cut off at the header of its first record.
    for len in [0, (whole.len() - 1) / 32_768 * 32_768] {
        fs::write(&log, &whole[..len]).expect("written");
        for step in [
            "ids export --out remap.json",
            "entities export --remap remap.json --dry-run",
        ] {
            let out = bench.run(step).await.with_code(1).out;
            let told = out
                .lines()
                .find(|line| line.contains("by the export's metadata"));
            let told = told.unwrap_or_else(|| panic!("{len}: {out}"));
            assert!(
                told.starts_with("warning: ") && told.contains("may be cut"),
                "{told}"
            );
        }
    }
    fs::write(&log, &whole).expect("written");
    let whole = bench
        .run("ids export --out remap.json")
        .await
        .with_code(0)
        .out;
    assert!(!whole.contains("warning: "), "{whole}");
}

#[tokio::test]
async fn a_file_that_cannot_be_unpacked_is_named_and_the_rest_is_read() {
    let bench = Bench::new(example::entities(2)).with_ids().await;
    // The beginning of a frame of zstd, and no block.
    let cut = [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x41];
    fs::write(bench.path("cut.zst"), cut).expect("written");
    let run = "entities cut.zst export --remap remap.json --dry-run";
    let ran = bench.run(run).await.with_code(1);
    assert!(ran.out.contains("cut.zst record 1"), "{}", ran.out);
    assert!(ran.out.contains("would be moved"), "{}", ran.out);
}

#[tokio::test]
async fn an_entity_that_comes_twice_is_told_by_a_dry_run_too() {
    let bench = Bench::new(example::entities(2)).with_ids().await;
    let mut entities: Vec<Entity> = example::entities(2).collect();
    let last = entities.last_mut().expect("one");
    last.properties.push(("more".to_owned(), Value::Integer(1)));
    bench.export("later", entities);
    let run = "entities export later --remap remap.json --dry-run";
    let ran = bench.run(run).await.with_code(1);
    assert_eq!(
        ran.out.matches("another state of it").count(),
        1,
        "{}",
        ran.out
    );
}
