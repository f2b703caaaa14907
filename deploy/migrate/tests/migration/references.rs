//! A reference resolves by an id, and leads somewhere only if its target is there.

use std::fs;

use bson::{Document, doc};
use datastore_export::{Entity, Value};
use datastore_migrate::example;
use serde_json::Value as Json;
use test_support::scene::Scene;

use crate::bench::{Bench, Ran};

const DATASET: &str = "Account:public/Dataset:5634161670000000";
const EVALUATION: &str = "Account:public/Evaluation:5634161670000003";
const REPORT: &str = "Account:public/Report:5634161670000005";

/// The first six entities, of which the dataset is one that the mapping rejects.
fn with_rejected_dataset() -> Vec<Entity> {
    let mut entities: Vec<Entity> = example::entities(6).collect();
    let odd = ("odd".to_owned(), Value::Double(f64::NAN));
    entities[3].properties.push(odd);
    entities
}

fn without_dataset() -> impl Iterator<Item = Entity> {
    example::entities(6).filter(|entity| entity.key.kind() != "Dataset")
}

/// Path and reason of each dangling reference, which has its file and record.
fn dangling(bench: &Bench, ran: &Ran) -> Vec<(String, String)> {
    let report = bench.json("report.json");
    let text = |value: &Json| value.as_str().expect("a text").to_owned();
    let rejected = report["rejected"].as_array().expect("a list").iter();
    let dangling = rejected.filter(|one| text(&one["reason"]).contains("refers to"));
    let dangling: Vec<(String, String)> = dangling
        .map(|one| {
            assert!(text(&one["file"]).contains("/output-0"), "{one}");
            assert_eq!(one["record"], 1, "{one}");
            (text(&one["path"]), text(&one["reason"]))
        })
        .collect();
    assert_eq!(
        report["dangling"],
        dangling.len(),
        "{}{}",
        ran.out,
        ran.error
    );
    dangling
}

#[tokio::test]
async fn a_reference_to_what_is_rejected_or_not_exported_is_told_before_anything_is_moved() {
    let bench = Bench::new(with_rejected_dataset()).with_ids().await;
    let dry = "entities export --remap remap.json --dry-run --report report.json";
    let ran = bench.run(dry).await.with_code(1);
    let found = dangling(&bench, &ran);
    for (path, (at, reason)) in [EVALUATION, REPORT].into_iter().zip(&found) {
        assert_eq!(path, at);
        let told = format!(
            "dataset refers to {DATASET}, which has an id and is not moved: it was rejected"
        );
        assert!(reason.contains(&told), "{reason}");
    }
    assert_eq!(
        (found.len(), &bench.json("report.json")["rejected_in_all"]),
        (2, &3.into())
    );

    bench.export("part", without_dataset());
    let part = bench
        .run(&dry.replace("export ", "part "))
        .await
        .with_code(1);
    let found = dangling(&bench, &part);
    assert!(
        found[1].1.ends_with("it is in none of these exports"),
        "{found:?}"
    );
    assert_eq!(found.len(), 2);

    let whole: Vec<Entity> = example::entities(6).collect();
    bench.export("whole", whole);
    bench
        .run(&dry.replace("export ", "whole "))
        .await
        .with_code(0);
}

/// `accounts` moves it: among the entities nothing is to be found of it.
#[tokio::test]
async fn a_reference_to_an_account_leads_as_far_as_its_id() {
    let mut entities: Vec<Entity> = example::entities(6).collect();
    let owner = Value::Integer(5_640_000_000_000_001);
    entities[3].properties.push(("owner".to_owned(), owner));
    let bench = Bench::new(entities).with_ids().await;
    let mapping = bench.run("mapping").await.with_code(0).out;
    let (dataset, owned) = (
        "[kinds.Dataset]\n",
        "[kinds.Dataset]\nreferences = { owner = { kind = 'Account', form = 'integer' } }\n",
    );
    fs::write(bench.path("mapping.toml"), mapping.replace(dataset, owned)).expect("written");
    let dry = "entities export --remap remap.json --dry-run --mapping mapping.toml";
    let ran = bench.run(dry).await.with_code(0);
    assert!(!ran.out.contains("look like old ids"), "{}", ran.out);
}

/// Standard input is read once: then the targets are told.
#[tokio::test]
async fn a_reference_of_standard_input_is_told_by_its_target() {
    let bench = Bench::new(example::entities(6)).with_ids().await;
    let line = format!(r#"{{"__key__":"{EVALUATION}","dataset":"public/5634161670000000"}}"#);
    fs::write(bench.path("lines"), line + "\n").expect("written");
    let dry = "entities - --remap remap.json --dry-run";
    let ran = bench.run_fed(dry, "lines").await.with_code(1);
    let told = format!("- record 0, {DATASET}: entities refer to it, and it is not moved");
    assert!(ran.out.contains(&told), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_no_while_a_reference_leads_to_no_document() {
    let scene = Scene::new("references", 1).await;
    let mut bench = Bench::new(with_rejected_dataset()).with_ids().await;
    bench.environment = scene.environment();
    let into = "entities export --remap remap.json --into mongodb --if-absent --report report.json";
    let moved = bench.run(into).await.with_code(1);
    assert_eq!(dangling(&bench, &moved).len(), 2, "{}", moved.out);

    let id = bench.json("remap.json")[DATASET]
        .as_str()
        .expect("an id")
        .to_owned();
    let verify = "verify export --remap remap.json --report report.json";
    let rejected = bench.run(verify).await.with_code(1);
    let found = dangling(&bench, &rejected);
    for (path, (at, reason)) in [EVALUATION, REPORT].into_iter().zip(&found) {
        assert_eq!(path, at);
        let told = format!("refers to {DATASET}, and datasets lacks the document of that, {id}");
        assert!(reason.contains(&told), "{reason}");
    }
    let says =
        "NO: 5 entities are as the exports have them, 1 are not, 1 were not compared, 2 references";
    assert!(rejected.out.contains(says), "{}", rejected.out);

    // Corrected at its source and moved: yes. Then it is deleted: what refers to it is told as well.
    bench.export("export", example::entities(6));
    bench.run(into).await.with_code(0);
    bench.run(verify).await.with_code(0);
    let datasets = scene.database.collection::<Document>("datasets");
    datasets
        .delete_one(doc! { "_id": &id })
        .await
        .expect("deleted");
    let deleted = bench.run(verify).await.with_code(1);
    assert_eq!(dangling(&bench, &deleted).len(), 2, "{}", deleted.out);
    assert!(
        deleted.out.contains("datasets lacks its document"),
        "{}",
        deleted.out
    );

    // It is there and only not compared: then its references do lead somewhere.
    bench.run(into).await.with_code(0);
    bench.export("part", without_dataset());
    let part = bench
        .run(&verify.replace("export ", "part "))
        .await
        .with_code(1);
    assert_eq!(dangling(&bench, &part), [], "{}", part.out);
}

/// With what the mapping says of the dataset's reference in an evaluation and in a report.
fn with_dangling(bench: &Bench, dangling: &str) {
    let shipped = include_str!("../../mapping.toml");
    let (line, form) = (
        r#"dataset = { kind = "Dataset", form = "account/id""#,
        "account/id",
    );
    assert!(line.contains(form) && shipped.matches(line).count() == 2);
    let mapping = shipped.replace(line, &format!("{line}, dangling = \"{dangling}\""));
    fs::write(bench.path("mapping.toml"), mapping).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_names_nothing_is_rejected_kept_or_null_as_the_mapping_says() {
    let scene = Scene::new("dangling", 1).await;
    let mut entities: Vec<Entity> = without_dataset().collect();
    let report = entities.last_mut().expect("a report");
    let dataset = report
        .properties
        .iter_mut()
        .find(|(name, _)| name == "dataset");
    dataset.expect("a reference").1 = Value::Text(String::new());
    let mut bench = Bench::new(entities);
    bench.environment = scene.environment();
    let ids = "ids export --out remap.json --seed dyff --mapping mapping.toml";
    let into = "entities export --remap remap.json --into mongodb --if-absent --new-mapping \
                --mapping mapping.toml";
    with_dangling(&bench, "reject");
    let ran = bench.run(ids).await.with_code(1).out;
    for told in [
        "Report.dataset is an empty text and names nothing",
        "Evaluation.dataset refers to Account:public/Dataset:5634161670000000, which has no new id",
    ] {
        assert!(ran.contains(told), "{told}: {ran}");
    }
    let evaluations = scene.database.collection::<Document>("evaluations");
    let reports = scene.database.collection::<Document>("reports");
    for (dangling, of_evaluation, of_report) in [
        ("null", bson::Bson::Null, bson::Bson::Null),
        ("keep", "public/5634161670000000".into(), "".into()),
    ] {
        with_dangling(&bench, dangling);
        bench.run(ids).await.with_code(0);
        let moved = bench.run(into).await.with_code(0).out;
        let what = if dangling == "null" { "null" } else { "kept" };
        for kind in ["Evaluation", "Report"] {
            let told =
                format!("{kind}.dataset names nothing: {what}, 1 times, as the mapping says");
            assert!(moved.contains(&told), "{told}: {moved}");
        }
        for (collection, value) in [(&evaluations, of_evaluation), (&reports, of_report)] {
            let found = collection.find_one(doc! {}).await.expect("an answer");
            assert_eq!(found.expect("a document").get("dataset"), Some(&value));
            collection.delete_many(doc! {}).await.expect("deleted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_is_rejected_is_told_from_one_in_no_export_and_can_be_accepted() {
    let scene = Scene::new("accepted_rejection", 1).await;
    let mut bench = Bench::new(with_rejected_dataset()).with_ids().await;
    bench.environment = scene.environment();
    let into = "entities export --remap remap.json --into mongodb --if-absent";
    bench.run(into).await.with_code(1);
    let verify = "verify export --remap remap.json --report report.json";
    let said = bench.run(verify).await.with_code(1).out;
    assert!(
        said.contains("1 paths have an id and were rejected"),
        "{said}"
    );
    assert!(!said.contains("are in none of these exports"), "{said}");
    assert!(said.contains("accounts not run"), "{said}");
    let report = bench.json("report.json");
    assert_eq!(
        (&report["not_compared"], &report["not_compared_rejected"]),
        (&1.into(), &1.into())
    );

    fs::write(bench.path("looked-at"), format!("{DATASET}\n")).expect("written");
    let accept = format!("{verify} --accept looked-at");
    let said = bench.run(&accept).await.with_code(0).out;
    for told in [
        "1 rejected, as accepted",
        &format!("accepted {DATASET}"),
        "mapping  sha256 ",
        "but for 1 that a person has accepted",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let host = bench.json("report.json")["hosts"][0]
        .as_str()
        .expect("a host")
        .to_owned();
    let set = bench.json("report.json")["replica_set"]
        .as_str()
        .expect("a name")
        .to_owned();
    assert!(
        said.contains(&format!(" on {host}")) && said.contains(&format!("(replica set {set})")),
        "{said}"
    );
    let state = bench.json("remap.migration.json");
    assert_eq!(
        state["entities_verified"]["held"]["accepted"],
        serde_json::json!([DATASET])
    );
}
