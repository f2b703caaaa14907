//! What the writer writes, the reader reads.

use std::fs;
use std::path::{Path, PathBuf};

use datastore_export::write::{ExportWriter, LogWriter, encode};
use datastore_export::{Entity, read_log, sources};
use proptest::prelude::*;

mod support;

/// Bytes of a block, and of a fragment's header.
const BLOCK_BYTES: usize = 32_768;
const HEADER_BYTES: usize = 7;

fn log_of(records: &[Vec<u8>]) -> Vec<u8> {
    let mut log = LogWriter::new(vec![]);
    for record in records {
        log.add(record).unwrap();
    }
    log.into_inner()
}

fn read(log: &[u8]) -> Vec<Entity> {
    let found = read_log(log, "log").enumerate();
    found
        .map(|(index, (place, entity))| {
            assert_eq!(place.record, index as u64 + 1);
            entity.unwrap()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_value_of_every_type_comes_back(
        entities in prop::collection::vec(support::entity(70_000), 0..6)
    ) {
        let records: Vec<Vec<u8>> = entities.iter().map(|entity| encode(entity).unwrap()).collect();
        prop_assert_eq!(read(&log_of(&records)), entities);
    }
}

/// Each way in which a record can meet the end of a block: header and data up to some bytes before
/// it or behind it, and the same for the next block.
#[test]
fn a_record_of_any_length_at_a_blocks_end_comes_back() {
    let small: Entity = entity_of(0);
    let overhead = encode(&entity_of(BLOCK_BYTES)).unwrap().len() - BLOCK_BYTES;
    for blocks in 1..=2 {
        for less in -10..=30_i64 {
            let record = (blocks * BLOCK_BYTES - HEADER_BYTES) as i64 - less;
            let large = entity_of(usize::try_from(record).unwrap() - overhead);
            let entities = vec![large, small.clone(), small.clone()];
            let records: Vec<Vec<u8>> = entities.iter().map(|e| encode(e).unwrap()).collect();
            assert_eq!(records[0].len() as i64, record);
            assert_eq!(read(&log_of(&records)), entities, "{less} bytes less");
        }
    }
}

fn entity_of(bytes: usize) -> Entity {
    let blob = datastore_export::Value::Blob(vec![1; bytes]);
    Entity {
        key: "A:1/B:c".parse().unwrap(),
        properties: vec![("blob".into(), blob)],
    }
}

/// Google's writers fill a block with zeros at a flush, also within a file.
#[test]
fn zeros_up_to_a_blocks_end_are_no_damage() {
    let record = encode(&entity_of(9)).unwrap();
    let mut log = LogWriter::new(vec![]);
    for _ in 0..3 {
        log.add(&record).unwrap();
        log.fill().unwrap();
    }
    assert_eq!(read(&log.into_inner()), vec![entity_of(9); 3]);
}

#[test]
fn an_export_is_read_by_kinds_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let mut export = ExportWriter::create(folder.path(), "night")
        .unwrap()
        .file_entities(2);
    let entities: Vec<Entity> = (1..=25)
        .flat_map(|id| ["B", "A/%", "A"].map(|kind| (kind, id)))
        .map(|(kind, id)| {
            let mut entity = entity_of(id);
            entity.key.path[1].kind = kind.into();
            entity
        })
        .collect();
    for entity in &entities {
        export.add(entity).unwrap();
    }
    export.finish().unwrap();

    let found = sources(&[folder.path().into()]).unwrap();
    assert_eq!(found.unchecked, [""; 0]);
    let files = found.files;
    let names = files.iter().map(|file| {
        let name = file.path.strip_prefix(folder.path()).unwrap();
        name.to_str().unwrap().to_owned()
    });
    let expected = ["A", "A%2F%25", "B"].into_iter().flat_map(|kind| {
        (0..13).map(move |number| format!("all_namespaces/kind_{kind}/output-{number}"))
    });
    assert!(names.eq(expected));

    let mut sorted = entities;
    sorted.sort_by_key(|entity| entity.key.kind().to_owned());
    let mut read = vec![];
    for file in &files {
        assert_eq!(file.bytes, Some(fs::metadata(&file.path).unwrap().len()));
        read.extend(file.open().unwrap().map(|(_, entity)| entity.unwrap()));
    }
    assert_eq!(read, sorted);
}

#[test]
fn an_export_without_entities_is_one_and_any_other_folder_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let error = sources(&[folder.path().into()]).unwrap_err();
    assert!(error.to_string().contains("is no export"), "{error}");
    ExportWriter::create(folder.path(), "night")
        .unwrap()
        .finish()
        .unwrap();
    let found = sources(&[folder.path().into()]).unwrap();
    assert_eq!(found.files, []);
    assert!(found.unchecked[0].contains("names no kind"), "{found:?}");
}

#[test]
fn a_kind_that_is_missing_as_a_whole_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut export = ExportWriter::create(folder.path(), "night").unwrap();
    // Longer than what one byte of length can say.
    let long = "K".repeat(100);
    for kind in ["A", &long] {
        let mut entity = entity_of(1);
        entity.key.path[1].kind = kind.into();
        export.add(&entity).unwrap();
    }
    export.finish().unwrap();
    let look = || sources(&[folder.path().into()]);
    assert_eq!(look().unwrap().files.len(), 2);
    for kind in [long.as_str(), "A"] {
        let of_kind = folder.path().join(format!("all_namespaces/kind_{kind}"));
        let aside = tempfile::tempdir().unwrap();
        fs::rename(&of_kind, aside.path().join("x")).unwrap();
        let error = look().unwrap_err().to_string();
        let told = format!("all_namespaces_kind_{kind}.export_metadata is missing");
        assert!(error.contains(&told), "{error}");
        fs::rename(aside.path().join("x"), &of_kind).unwrap();
    }
    // What cannot be understood is no error, and told.
    for (overall, why) in [
        (&b"something else"[..], "names no kind"),
        (b"", "names no kind"),
    ] {
        fs::write(folder.path().join("night.overall_export_metadata"), overall).unwrap();
        let found = look().unwrap();
        assert_eq!(found.files.len(), 2);
        assert!(found.unchecked[0].contains(why), "{found:?}");
    }
    let of_a = "all_namespaces/kind_A/all_namespaces_kind_A.export_metadata";
    fs::write(folder.path().join(of_a), "x").unwrap();
    let found = look().unwrap();
    assert!(
        found
            .unchecked
            .iter()
            .any(|why| why.contains("names no output-N")),
        "{found:?}"
    );
}

#[test]
fn files_that_were_copied_without_metadata_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let kind = folder.path().join("namespace_x/kind_K");
    fs::create_dir_all(&kind).unwrap();
    let records = [encode(&entity_of(9)).unwrap()];
    for number in [10, 9] {
        fs::write(kind.join(format!("output-{number}")), log_of(&records)).unwrap();
    }
    let paths = |paths: &[&Path]| paths.iter().map(PathBuf::from).collect::<Vec<PathBuf>>();
    let found = sources(&paths(&[folder.path()])).unwrap();
    let why = &found.unchecked[0];
    assert!(why.contains("has no file NAME.overall"), "{why}");
    let found = found.files;
    let numbers = found.iter().map(|file| file.path.file_name().unwrap());
    assert!(numbers.eq(["output-9", "output-10"]));

    let twice = sources(&paths(&[folder.path(), &kind.join("./output-9")])).unwrap_err();
    assert!(twice.to_string().contains("given twice"), "{twice}");
    let none = sources(&paths(&[&kind.join("output-8")])).unwrap_err();
    assert!(none.to_string().contains("output-8"), "{none}");
}
