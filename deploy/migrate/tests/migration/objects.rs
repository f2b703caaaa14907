//! Objects: what is to be copied, whether it was, and what can go then.

use std::fs;

use bson::{Document, doc};
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
    let bench = Bench::new(example::entities(12)).with_ids().await;
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
            "gcloud storage rsync --recursive --no-clobber \
             gs://old/5640000000000001/5634161670000006 gs://new/{id}\n"
        )
    );
    let rclone = format!("{plan} --from o:b --to n:b --with rclone");
    let rclone = bench.run(&rclone).await.with_code(0).out;
    assert!(
        rclone.starts_with("rclone copy --checksum --ignore-existing o:b/"),
        "{rclone}"
    );
    let wrong = format!("{plan} --from old --to gs://new");
    let wrong = bench.run(&wrong).await.with_code(1).error;
    assert!(wrong.contains("gs://BUCKET"), "{wrong}");
    let mixed = format!("{plan} --from gs://old --to n:b");
    let mixed = bench.run(&mixed).await.with_code(1).error;
    assert!(mixed.contains("it takes gs://BUCKET"), "{mixed}");

    // A listing of another bucket, and one of versions.
    let names = [
        "public/404/x",
        "other",
        "5640000000000001/5634161670000006/a",
    ];
    let objects = names.map(|name| object(name, 1, "AAAAAA=="));
    write(json!(objects[..2])).expect("written");
    let nothing = bench.run(&gcloud).await.with_code(1);
    assert!(nothing.out.is_empty(), "{}", nothing.out);
    assert!(
        nothing.error.contains("2 objects are nobody's"),
        "{}",
        nothing.error
    );
    let twice = format!("[{0},\n{0}]", objects[2]);
    fs::write(bench.path("old.json"), twice).expect("written");
    let twice = bench.run(&gcloud).await.with_code(1).error;
    let told = format!("{:?} is there twice", names[2]);
    assert!(twice.contains(&told) && twice.contains("line 2"), "{twice}");
}

/// Nobody can say to which of them an object belongs: a person copies it, and says so.
#[tokio::test]
async fn a_folder_of_several_entities_is_left_out_of_the_plan_and_accepted_once_it_is_copied() {
    let mut entities: Vec<Entity> = example::entities(12).collect();
    for twin in [3, 4] {
        let mut twin = entities[twin].clone();
        twin.key.path[1].kind = "Evaluation".to_owned();
        entities.push(twin);
    }
    let bench = Bench::new(entities).with_ids().await;
    let ids = bench.json("remap.json");
    let id = |path: &str| ids[path].as_str().expect("an id").to_owned();
    let write = |name: &str, listing: Value| {
        fs::write(bench.path(name), listing.to_string()).expect("written");
    };
    let several = ["public/5634161670000000/x", "public/5634161670000001/y"];
    let single = "5640000000000001/5634161670000006/a";
    let old = [several[0], several[1], single].map(|name| object(name, 1, "AAAAAA=="));
    write("old.json", json!(old));
    let plan = "objects plan --remap remap.json --listing old.json --from gs://old --to gs://new";
    let planned = bench.run(plan).await.with_code(1);
    let lines: Vec<&str> = planned.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", planned.out);
    for (line, folder) in lines.iter().zip(["5634161670000000", "5634161670000001"]) {
        let begins = format!("# \"public/{folder}\" is left out: entities of several kinds");
        assert!(line.starts_with(&begins), "{line}");
    }
    let twin = id("Account:public/Evaluation:5634161670000000");
    let both = format!("to gs://new/{} and gs://new/{twin}, ", id(DATASET));
    assert!(lines[0].contains(&both), "{}", lines[0]);
    assert!(lines[2].starts_with("gcloud storage rsync"), "{}", lines[2]);
    assert!(planned.error.contains("1 entities"), "{}", planned.error);

    write(
        "new.json",
        json!([object(&format!("{}/a", id(OTHER)), 1, "AAAAAA==")]),
    );
    let verify =
        "objects verify --remap remap.json --bucket gs://old --from old.json --to new.json";
    let found = bench.run(verify).await.with_code(1).out;
    assert!(found.contains("/x: of several"), "{found}");
    // A folder, and an object by itself.
    let looked_at = format!("public/5634161670000000\n{}\n", several[1]);
    fs::write(bench.path("looked-at"), looked_at).expect("written");
    let accept = format!("{verify} --accept looked-at --report objects.json");
    let found = bench.run(&accept).await.with_code(0).out;
    let yes = "YES: nothing is missing and nothing differs, but for 2 that a person has accepted.";
    assert!(found.contains(yes), "{found}");
    assert_eq!(bench.json("objects.json")["accepted"], 2);
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
            object(&format!("{dataset}/sum"), 3, "BBBBBA=="),
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
    // What is newer in the new bucket stays, and what was deleted there: a person has looked at it.
    let names = ["a/missing", "size", "sum", "unchecked"].map(|name| old(name) + "\n");
    fs::write(bench.path("looked-at"), names.concat() + "public/404\n").expect("written");
    let accept = format!("{verify} --accept looked-at");
    let accepted = bench.run(&accept).await.with_code(0).out;
    let but_for = "but for 5 that a person has accepted";
    assert!(accepted.contains(but_for), "{accepted}");

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
    // gcloud has listed the one in base64, and rclone the other in hex digits.
    let sums = [
        ("1B2M2Y8AsgTpgAmY7PhCfg==", 0),
        ("AAAAAAAAAAAAAAAAAAAAAA==", 1),
    ];
    for (of_gcloud, code) in sums {
        let hashes = json!({ "md5": "d41d8cd98f00b204e9800998ecf8427e" });
        let of_rclone = json!({ "Path": format!("{dataset}/x"), "Size": 0, "Hashes": hashes });
        write(
            "old.json",
            json!([{ "name": old("x"), "size": 0, "md5_hash": of_gcloud }]),
        );
        write("new.json", json!([of_rclone]));
        let found = bench.run(verify).await.with_code(code).out;
        assert_eq!(found.contains("/x: different"), code == 1, "{found}");
    }
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
        "# The entities are in the database ",
        &scene.environment()["DYFF_WORKFLOWS_SINK__MONGODB__DATABASE"],
        "gcloud firestore bulk-delete --project dyff --namespace-ids '(default)' --collection-ids Evaluation",
        "gs://old/public/**",
        "# 0. List both buckets once more",
        "objects verify --remap remap.json --bucket gs://old --from OLD.json --to NEW.json",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("Account"), "{told}");
    what_was_accepted_is_named_before_it_goes(&scene, &bench, plan).await;
    // What was written since then is in no copy.
    let file = bench.path("remap.migration.json");
    let known = fs::read(&file).expect("a file");
    for (of, days, code) in [
        ("objects_verified", 6, 0),
        ("objects_verified", 8, 1),
        ("entities_verified", 6, 0),
        ("entities_verified", 8, 1),
    ] {
        let ago = jiff::SignedDuration::from_hours(days * 24);
        let at = jiff::Timestamp::now() - ago;
        let mut state: Value = serde_json::from_slice(&known).expect("JSON");
        state[of]["at"] = at.to_string().into();
        fs::write(&file, state.to_string()).expect("written");
        let ran = bench.run(plan).await.with_code(code);
        let is_refused = ran.error.contains("more than 7 days ago");
        assert_eq!(is_refused, code == 1, "{}", ran.error);
    }
    fs::write(&file, known).expect("written");
    // The line to type names the mapping's file; another mapping has verified nothing.
    let mapping = bench.run("mapping").await.with_code(0).out;
    fs::write(bench.path("same.toml"), &mapping).expect("written");
    let same = format!("{plan} --mapping same.toml");
    let same = bench.run(&same).await.with_code(0).out;
    let line = "objects verify --remap remap.json --mapping same.toml --bucket gs://old";
    assert!(same.contains(line), "{same}");
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

/// Of what was never moved the old place has the only copy.
async fn what_was_accepted_is_named_before_it_goes(scene: &Scene, bench: &Bench, plan: &str) {
    let id = bench.json("remap.json")[DATASET].clone();
    let id = id.as_str().expect("an id");
    let datasets = scene.database.collection::<Document>("datasets");
    let document = datasets.find_one_and_delete(doc! { "_id": id }).await;
    let document = document.expect("an answer").expect("a document");
    let mut changed = example::entities(12).map(|entity| entity.key.to_string());
    let changed = changed.nth(5).expect("a path");
    let file = bench.path("remap.migration.json");
    let known = fs::read(&file).expect("a file");
    let evaluations = scene.database.collection::<Document>("inferenceservices");
    let set = doc! { "$set": { "status": "Newer" } };
    let other = doc! { "_id": bench.json("remap.json")[&changed].as_str() };
    evaluations.update_one(other, set).await.expect("changed");
    let looked_at = format!("{DATASET}\n{changed}\n");
    fs::write(bench.path("looked-at"), looked_at).expect("written");
    let verify = "verify export --remap remap.json --accept looked-at";
    bench.run(verify).await.with_code(0);
    let told = bench.run(plan).await.with_code(0).out;
    let absent = format!("may be lost:\n#   {DATASET}\n\n# 2.");
    for line in [
        "# 10 entities were verified",
        "# Besides, 2 entities",
        &absent,
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains(&changed), "{told}");
    datasets.insert_one(document).await.expect("inserted");
    fs::write(file, known).expect("written");
}
