//! Objects: what is to be copied, whether it was, and what can go then.

use std::fs;

use datastore_export::Entity;
use datastore_migrate::example;
use serde_json::{Value, json};
use test_support::scene::Scene;
use test_support::wait::until;
use test_support::worker::Worker;

use crate::bench::Bench;
use crate::story::service;

const DATASET: &str = "Account:public/Dataset:5634161670000000";
const OTHER: &str = "Account:5640000000000001/Dataset:5634161670000006";

#[tokio::test]
async fn a_plan_has_a_line_for_each_entity_that_has_objects() {
    let mut entities: Vec<Entity> = example::entities(12).collect();
    let mut twin = entities[3].clone();
    twin.key.path[1].kind = "Model".to_owned();
    let bench = Bench::new(entities.clone()).with_ids().await;
    let id = bench.json("remap.json")[OTHER]
        .as_str()
        .expect("an id")
        .to_owned();
    let other = object("5640000000000001/5634161670000006/a/b", 1, "AAAAAA==");
    let write = |listing: Value| fs::write(bench.path("old.json"), listing.to_string());
    write(json!([other])).expect("written");
    let plan = "objects plan --remap remap.json --listing old.json";
    let gcloud = format!("{plan} --from gs://old --to gs://new/");
    assert_eq!(
        bench.run(&gcloud).await.with_code(0).out,
        format!(
            "gcloud storage rsync --recursive gs://old/5640000000000001/5634161670000006 \
             gs://new/{id}\n"
        )
    );
    let rclone = format!("{plan} --from o:b --to n:b --with rclone");
    let rclone = bench.run(&rclone).await.with_code(0).out;
    assert!(
        rclone.starts_with("rclone copy --checksum o:b/"),
        "{rclone}"
    );
    let wrong = format!("{plan} --from old --to gs://new");
    let wrong = bench.run(&wrong).await.with_code(1).error;
    assert!(wrong.contains("gs://BUCKET"), "{wrong}");

    entities.push(twin);
    bench.export("twins", entities);
    bench.run("ids twins --out remap.json").await.with_code(0);
    write(json!([object("public/5634161670000000/x", 1, "AAAAAA==")])).expect("written");
    let both = bench.run(&gcloud).await.with_code(1).error;
    assert!(
        both.contains("entities of several kinds have the folder public/"),
        "{both}"
    );
}

fn object(name: &str, size: u64, crc: &str) -> Value {
    json!({ "name": name, "size": size.to_string(), "crc32c_hash": crc })
}

#[tokio::test]
async fn every_way_in_which_listings_differ_is_named() {
    let bench = Bench::new(example::entities(12)).with_ids().await;
    let ids = bench.json("remap.json");
    let (dataset, other) = (
        ids[DATASET].as_str().expect("an id"),
        ids[OTHER].as_str().expect("an id"),
    );
    let old = |name: &str| format!("public/5634161670000000/{name}");
    let verify =
        "objects verify --remap remap.json --bucket gs://old --from old.json --to new.json";
    let write = |name: &str, listing: Value| {
        fs::write(bench.path(name), listing.to_string()).expect("written");
    };
    write(
        "old.json",
        json!([
            object(&old("same"), 3, "AAAAAA=="),
            object(&old("a/missing"), 3, "AAAAAA=="),
            object(&old("size"), 3, "AAAAAA=="),
            object(&old("sum"), 3, "AAAAAA=="),
            { "name": old("unchecked"), "size": 3 },
            object("public/404/x", 3, "AAAAAA=="),
            object("5640000000000001/5634161670000006/same", 3, "AAAAAA=="),
        ]),
    );
    write(
        "new.json",
        json!([
            object(&format!("{dataset}/same"), 3, "AAAAAA=="),
            object(&format!("{dataset}/size"), 4, "AAAAAA=="),
            object(&format!("{dataset}/sum"), 3, "BBBBBB=="),
            object(&format!("{dataset}/unchecked"), 3, "AAAAAA=="),
            object(&format!("{dataset}/left"), 3, "AAAAAA=="),
            object(&format!("{other}/same"), 3, "AAAAAA=="),
        ]),
    );
    let found = bench
        .run(&format!("{verify} --report objects.json"))
        .await
        .with_code(1)
        .out;
    for told in [
        "2 objects are there",
        "/a/missing: missing",
        "/size: different",
        "/sum: different",
        "/unchecked: unchecked",
        "public/404/x: of nobody",
        "/left: left over",
        "NO:",
    ] {
        assert!(found.contains(told), "{told}: {found}");
    }
    assert_eq!(bench.json("objects.json")["different"]["count"], 2);

    // As rclone lists.
    let md5 = |path: String| json!({ "Path": path, "Size": 3, "IsDir": false, "Hashes": { "md5": "00" } });
    write(
        "old.json",
        json!([md5(old("x")), { "Path": "public", "Size": -1, "IsDir": true }]),
    );
    write("new.json", json!([md5(format!("{dataset}/x"))]));
    let yes = bench.run(verify).await.with_code(0).out;
    assert!(
        yes.contains("1 objects are there") && yes.contains("YES"),
        "{yes}"
    );
    write("old.json", json!([]));
    let nothing = bench.run(verify).await.with_code(1).error;
    assert!(nothing.contains("lists no object"), "{nothing}");
    write("old.json", json!([md5(old("x"))]));
    write("new.json", json!({ "not": "a list" }));
    let wrong = bench.run(verify).await.with_code(1).error;
    assert!(wrong.contains("is no listing"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_go_is_told_only_after_both_have_said_yes_with_this_remap_file() {
    let scene = Scene::new("delete_old", 1).await;
    let mut bench = Bench::new(example::entities(12)).with_ids().await;
    bench.environment = scene.environment();
    let plan = "delete-old plan --remap remap.json --project dyff --from gs://old";
    let import = format!("entities export --remap remap.json --topic {}", scene.topic);
    bench.run(&import).await.with_code(0);
    let mut worker = Worker::start_by([service().into(), "run".into()], scene.environment());
    until("it is verified", || async {
        bench.run("verify export --remap remap.json").await.code == Some(0)
    })
    .await;
    worker.stop().await;
    let refused = bench.run(plan).await.with_code(1).error;
    assert!(refused.contains("objects verify"), "{refused}");
    let id = bench.json("remap.json")[DATASET]
        .as_str()
        .expect("an id")
        .to_owned();
    let listing = |name: &str, object: Value| {
        fs::write(bench.path(name), json!([object]).to_string()).expect("written");
    };
    listing(
        "old.json",
        object("public/5634161670000000/x", 1, "AAAAAA=="),
    );
    listing("new.json", object(&format!("{id}/x"), 1, "AAAAAA=="));
    let objects =
        "objects verify --remap remap.json --bucket gs://old --from old.json --to new.json";
    bench.run(objects).await.with_code(0);
    let other = bench
        .run(&plan.replace("gs://old", "gs://other"))
        .await
        .with_code(1)
        .error;
    assert!(
        other.contains("those of gs://old, not of gs://other"),
        "{other}"
    );
    let elsewhere = plan.replace("gs://old", "remote:old");
    let elsewhere = bench.run(&elsewhere).await.with_code(1).error;
    assert!(elsewhere.contains("is no bucket of gcloud"), "{elsewhere}");
    let told = bench.run(plan).await.with_code(0).out;
    for line in [
        "# 12 entities were verified",
        "gcloud firestore bulk-delete --project dyff --namespace-ids '(default)' --collection-ids Evaluation",
        "gs://old/public/**",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("Account"), "{told}");
    // Another mapping has verified nothing.
    let mapping = bench.run("mapping").await.with_code(0).out;
    fs::write(bench.path("other.toml"), format!("{mapping}\n# changed\n")).expect("written");
    let other = bench
        .run(&format!("{plan} --mapping other.toml"))
        .await
        .with_code(1)
        .error;
    assert!(other.contains("another mapping"), "{other}");
    bench.export("more", example::entities(13));
    bench.run("ids more --out remap.json").await.with_code(0);
    let refused = bench.run(plan).await.with_code(1).error;
    assert!(
        refused.contains("another state of the remap file"),
        "{refused}"
    );
    bench
        .run("verify more --remap remap.json")
        .await
        .with_code(1);
    let refused = bench.run(plan).await.with_code(1).error;
    assert!(refused.contains("has not said yes yet"), "{refused}");
}
