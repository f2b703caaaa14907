//! A later export beside the first one.

use std::fs;

use datastore_export::{Entity, Value};
use datastore_migrate::example;
use test_support::scene::Scene;

use crate::bench::Bench;

/// Nothing else tells that it should go in the new place as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_in_the_old_place_meanwhile_is_told_until_a_person_accepts_it() {
    let scene = Scene::new("deleted_meanwhile", 1).await;
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    bench.environment = scene.environment();
    let mut later: Vec<Entity> = example::entities(7).collect();
    let deleted = later.remove(8).key.to_string();
    assert_eq!(deleted, "Account:public/Report:5634161670000005");
    bench.export("later", later);
    bench.run("ids later --out remap.json").await.with_code(0);
    let into = "entities export --remap remap.json --into mongodb --if-absent";
    bench.run(into).await.with_code(0);
    bench
        .run(&into.replace("export", "later"))
        .await
        .with_code(0);

    let verify = "verify export later --remap remap.json --report report.json";
    let found = bench.run(verify).await.with_code(1);
    let report = bench.json("report.json");
    assert_eq!(report["rejected_in_all"], 1, "{}", found.out);
    let rejected = &report["rejected"][0];
    assert_eq!(rejected["path"], *deleted);
    let reason = rejected["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("the last of these exports lacks it"),
        "{reason}"
    );
    let file = rejected["file"].as_str().expect("a file");
    assert!(file.starts_with("export/"), "{file}");

    fs::write(bench.path("looked-at"), deleted + "\n").expect("written");
    let accepted = bench.run(&format!("{verify} --accept looked-at")).await;
    let accepted = accepted.with_code(0).out;
    for told in [
        "1 gone from the last export, as accepted",
        "but for 1 that a person has accepted",
    ] {
        assert!(accepted.contains(told), "{told}: {accepted}");
    }
}

/// An entity that was rejected once and has been mended in the old place is one of the last export.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_export_has_of_an_entity_counts_and_counts_once() {
    let scene = Scene::new("mended_meanwhile", 1).await;
    let mut odd: Vec<Entity> = example::entities(12).collect();
    let mark = ("odd".to_owned(), Value::Double(f64::NAN));
    for index in [3, 14] {
        odd[index].properties.push(mark.clone());
    }
    let rejected = odd[14].key.to_string();
    let mut bench = Bench::new(odd).with_ids().await;
    bench.environment = scene.environment();
    let mut later: Vec<Entity> = example::entities(12).collect();
    later[14].properties.push(mark);
    bench.export("later", later);
    let into = "entities later --remap remap.json --into mongodb --if-absent";
    bench.run(into).await.with_code(1);

    let verify = "verify export later --remap remap.json --report report.json";
    bench.run(verify).await.with_code(1);
    let report = bench.json("report.json");
    assert_eq!(report["rejected_in_all"], 1, "{report}");
    assert_eq!(report["kinds"]["Account"]["left out"], 3, "{report}");
    fs::write(bench.path("looked-at"), rejected + "\n").expect("written");
    let accept = format!("{verify} --accept looked-at");
    let said = bench.run(&accept).await.with_code(0).out;
    let yes =
        "YES: 12 entities are there, each with the hash that the export gives it, but for 1 that";
    assert!(said.contains(yes), "{said}");
}
