//! How a run ends: its exit code, whoever reads what it prints.

use std::fs;

use datastore_export::{Entity, Value};
use datastore_migrate::example;

use crate::bench::Bench;

const MAPPING_FILE: &str = "DYFF_WORKFLOWS_SINK__MAPPING_FILE";

/// `verify … | head` says NO, and its report is there.
#[tokio::test]
async fn a_verdict_stays_and_its_report_is_written_though_nobody_reads_to_the_end() {
    let mut entities: Vec<Entity> = example::entities(6).collect();
    let odd = ("odd".to_owned(), Value::Double(f64::NAN));
    entities[8].properties.push(odd);
    let bench = Bench::new(entities).with_ids().await;
    let dry = "entities export --remap remap.json --dry-run --report dry.json";
    bench.run_unread(dry).await.with_code(1);
    assert_eq!(bench.json("dry.json")["rejected_in_all"], 1);
    bench.run_unread("mapping").await.with_code(0);

    fs::write(
        bench.path("old.json"),
        r#"[{"name":"public/404/x","size":1}]"#,
    )
    .expect("written");
    fs::write(bench.path("new.json"), "[]").expect("written");
    let verify = "objects verify --remap remap.json --bucket gs://old --from old.json --to new.json \
                  --report objects.json";
    bench.run_unread(verify).await.with_code(1);
    assert_eq!(bench.json("objects.json")["of_nobody"]["count"], 1);
}

#[tokio::test]
async fn a_mapping_that_cannot_be_used_is_a_wrong_configuration() {
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    fs::write(bench.path("no.toml"), "this is no TOML").expect("written");
    let dry = "entities export --remap remap.json --dry-run";
    for file in ["missing.toml", "no.toml"] {
        let run = format!("{dry} --mapping {file}");
        let error = bench.run(&run).await.with_code(78).error;
        assert!(error.contains(file), "{error}");
        let ids = format!("ids export --out remap.json --mapping {file}");
        bench.run(&ids).await.with_code(78);
    }
    for file in ["missing.toml", "no.toml", ""] {
        bench
            .environment
            .insert(MAPPING_FILE.to_owned(), file.to_owned());
        let error = bench.run(dry).await.with_code(78).error;
        assert!(error.contains(MAPPING_FILE), "{error}");
    }
    bench.environment.clear();
    bench.run(dry).await.with_code(0);
}

/// The built-in topic would be taken in its place.
#[tokio::test]
async fn a_misspelt_name_of_the_events_topic_is_a_wrong_configuration() {
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    for (name, value) in [
        ("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("DYFF_KAFKA__TOPICS__WORKFLOW_EVENTS", "others"),
    ] {
        bench.environment.insert(name.to_owned(), value.to_owned());
    }
    let onto = "entities export --remap remap.json";
    let error = bench.run(onto).await.with_code(78).error;
    assert!(
        error.contains("did you mean DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS?"),
        "{error}"
    );
}
