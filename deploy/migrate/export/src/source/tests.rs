use super::*;

#[test]
fn files_of_entities_are_known_by_their_names() {
    let table = [
        ("output-0", Some(0)),
        ("a/b/output-12", Some(12)),
        ("output-", None),
        ("output-1.gz", None),
        ("output-+1", None),
        ("my-output-1", None),
        ("output-1/x", None),
    ];
    for (name, number) in table {
        assert_eq!(output(name), number, "{name}");
    }
}

#[test]
fn standard_input_is_a_source_that_can_be_given_once() {
    let input = PathBuf::from(STANDARD_INPUT);
    let found = sources(std::slice::from_ref(&input)).unwrap().files;
    assert_eq!(
        (found[0].path.as_path(), found[0].bytes),
        (input.as_path(), None)
    );
    assert!(sources(&[input.clone(), input]).is_err());
}

#[cfg(unix)]
#[test]
fn folders_in_a_circle_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("x")).unwrap();
    let error = sources(&[folder.path().into()]).unwrap_err().to_string();
    assert!(error.contains("circle"), "{error}");
}

#[test]
fn a_file_that_the_metadata_names_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let text = b"\x08\x12\x08output-02\x12\x09output-12\xff";
    fs::write(file("all_namespaces_kind_K.export_metadata"), text).unwrap();
    fs::write(file("output-0"), "").unwrap();
    let error = sources(&[folder.path().into()]).unwrap_err().to_string();
    assert!(error.contains("lacks output-12"), "{error}");
    fs::write(file("output-12"), "").unwrap();
    assert_eq!(sources(&[folder.path().into()]).unwrap().files.len(), 2);
}
