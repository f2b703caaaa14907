//! Ids that a property holds: an entity that others stand below gets its own, or none.

use std::fs;

use crate::bench::Bench;

const GIVEN: &str = "0123456789abcdef0123456789abcdef";

/// The child comes before the entity above it, which comes with this `uid`.
fn bench(uid: &str) -> Bench {
    let bench = Bench::new([]);
    let shipped = include_str!("../../mapping.toml");
    let mapping = shipped.replace("[kinds.Dataset]", "[kinds.Dataset]\nid_from = 'uid'");
    fs::write(bench.path("mapping.toml"), mapping).expect("written");
    let child = r#"{"__key__":"Dataset:1/Report:2","name":"below"}"#;
    let parent = format!(r#"{{"__key__":"Dataset:1","uid":"{uid}"}}"#);
    let orphan = r#"{"__key__":"Dataset:3/Report:4","name":"below what never comes"}"#;
    let lines = [child, &parent, orphan].map(|line| line.to_owned() + "\n");
    fs::write(bench.path("lines.jsonl"), lines.concat()).expect("written");
    bench
}

const IDS: &str = "ids lines.jsonl --mapping mapping.toml --out remap.json --seed dyff";

#[tokio::test]
async fn a_child_that_comes_first_makes_no_id_for_what_has_one_of_its_own() {
    let bench = bench(GIVEN);
    bench.run(IDS).await.with_code(0);
    let remap = bench.json("remap.json");
    assert_eq!(remap["Dataset:1"], GIVEN);
    let paths = remap.as_object().expect("an object").keys();
    // `Dataset:3` is an entity of another export, perhaps.
    let wanted = ["Dataset:1", "Dataset:1/Report:2", "Dataset:3/Report:4"];
    assert_eq!(paths.collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn an_entity_whose_id_cannot_be_read_gets_it_once_that_is_mended() {
    let bench = bench("unreadable");
    let ran = bench.run(IDS).await.with_code(1);
    assert!(ran.out.contains("Dataset.uid"), "{}", ran.out);
    assert!(bench.json("remap.json").get("Dataset:1").is_none());

    let lines = fs::read_to_string(bench.path("lines.jsonl")).expect("a file");
    let mended = lines.replace("unreadable", GIVEN);
    fs::write(bench.path("lines.jsonl"), mended).expect("written");
    bench.run(IDS).await.with_code(0);
    assert_eq!(bench.json("remap.json")["Dataset:1"], GIVEN);
}
