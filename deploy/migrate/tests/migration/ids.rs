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

/// The kind of keys may be misspelt in the mapping, and then a key's name would be in the remap file.
#[tokio::test]
async fn a_kind_that_the_mapping_lacks_gets_ids_once_another_mapping_knows_it() {
    let bench = Bench::new([]);
    let lines = concat!(
        r#"{"__key__":"Account:public/Token:SECRET","secret":"x"}"#,
        "\n",
        r#"{"__key__":"Account:public/APIKey:SECRET","secret":"x"}"#,
        "\n",
        r#"{"__key__":"Account:public/Run:SECRET/Report:7","name":"below an unknown one"}"#,
        "\n",
        r#"{"__key__":"Account:public/Report:8","name":"below none"}"#,
        "\n",
    );
    fs::write(bench.path("lines.jsonl"), lines).expect("written");
    let ids = "ids lines.jsonl --out remap.json --seed dyff";
    let ran = bench.run(ids).await.with_code(0);
    for told in [
        "Token                1 without an id: the mapping has no such kind",
        "1 without an id: it lies below what gets none",
    ] {
        assert!(ran.out.contains(told), "{}", ran.out);
    }
    let paths = |bench: &Bench| {
        let remap = bench.json("remap.json");
        let paths = remap.as_object().expect("an object").keys().cloned();
        paths.collect::<Vec<String>>()
    };
    assert_eq!(paths(&bench), ["Account:public", "Account:public/Report:8"]);
    let shipped = include_str!("../../mapping.toml");
    let misspelt = shipped.replace("# key_kind = \"APIKey\"", "key_kind = \"ApiKey\"");
    fs::write(bench.path("misspelt.toml"), misspelt).expect("written");
    bench
        .run(&format!("{ids} --mapping misspelt.toml"))
        .await
        .with_code(0);
    assert!(!bench.json("remap.json").to_string().contains("SECRET"));
    let dry = "entities lines.jsonl --remap remap.json --dry-run --report dry.json";
    let ran = bench.run(dry).await.with_code(1);
    let report = bench.json("dry.json").to_string();
    assert!(report.contains("the mapping has no kind Token"), "{report}");
    assert!(
        !format!("{ran:?}{report}").contains("SECRET"),
        "{ran:?}{report}"
    );

    assert!(
        report.contains("it lies below an entity of a kind that gets no id"),
        "{report}"
    );

    let mapping = shipped.replace("[accounts]", "[kinds.Token]\n[accounts]");
    fs::write(bench.path("mapping.toml"), mapping).expect("written");
    bench
        .run(&format!("{ids} --mapping mapping.toml"))
        .await
        .with_code(0);
    assert!(paths(&bench).contains(&"Account:public/Token:SECRET".to_owned()));
}

#[tokio::test]
async fn a_remap_file_with_a_path_that_is_written_otherwise_is_refused() {
    let bench = Bench::new([]);
    let line = r#"{"__key__":"Account:public/Dataset:my data"}"#;
    fs::write(bench.path("lines.jsonl"), line).expect("written");
    let theirs = format!(r#"{{"Account:public/Dataset:my%20data":"{GIVEN}"}}"#);
    fs::write(bench.path("remap.json"), &theirs).expect("written");
    let ids = "ids lines.jsonl --out remap.json --seed dyff";
    let refused = bench.run(ids).await.with_code(1).error;
    let told = r#""Account:public/Dataset:my%20data" is not as a path is written here, which is "Account:public/Dataset:my data""#;
    assert!(refused.contains(told), "{refused}");
    let mended = theirs.replace("%20", " ");
    fs::write(bench.path("remap.json"), mended).expect("written");
    bench.run(ids).await.with_code(0);
    assert_eq!(
        bench.json("remap.json")["Account:public/Dataset:my data"],
        GIVEN
    );
}

#[tokio::test]
async fn ids_of_an_export_without_an_entity_write_nothing_and_say_so() {
    let bench = Bench::new([]);
    fs::write(bench.path("lines.jsonl"), "").expect("written");
    let ids = "ids lines.jsonl --out remap.json --seed dyff";
    let ran = bench.run(ids).await.with_code(1).out;
    let told = "nothing was done: there is no entity in these exports";
    assert!(
        ran.contains(told) && ran.contains("0 paths got an id"),
        "{ran}"
    );
    let remap = ["remap.json", "remap.json.sha256", "remap.json.partial"];
    assert!(!remap.iter().any(|name| bench.path(name).exists()));

    // Those of another database are some.
    let line = r#"{"key":{"partitionId":{"databaseId":"other"},"path":[{"kind":"Report","id":"1"}]},"properties":{}}"#;
    fs::write(bench.path("lines.jsonl"), line).expect("written");
    let ran = bench.run(ids).await.with_code(1).out;
    assert!(!ran.contains("there is no entity"), "{ran}");
    assert!(ran.contains("is of the database other"), "{ran}");
}
