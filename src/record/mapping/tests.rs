use super::*;

/// The contract's table, as it stands there.
const CONTRACT: &str = "Account accounts · Analysis analyses · OCIArtifact artifacts · Audit audits ·
    AuditProcedure auditprocedures · Challenge challenges · Concern concerns · Curve curves ·
    DataSource datasources · Dataset datasets · Documentation documentation · Evaluation evaluations ·
    Family families · Hazard hazards · History histories · InferenceService inferenceservices ·
    InferenceSession inferencesessions · Measurement measurements · Method methods · Model models ·
    Module modules · Pipeline pipelines · PipelineRun pipelineruns · Quota quotas · Report reports ·
    Revision revisions · SafetyCase safetycases · Score scores · Submission submissions · Team teams ·
    UseCase usecases";

#[test]
fn the_shipped_mapping_is_the_contracts() {
    let mapping = Mapping::builtin();
    let expected: BTreeMap<&str, &str> = CONTRACT
        .split('·')
        .filter_map(|row| row.trim().split_once(' '))
        .collect();
    assert_eq!(expected.len(), 31);
    let routed: BTreeMap<&str, &str> = mapping
        .routes
        .iter()
        .map(|(kind, &id)| (kind.as_str(), mapping.collection(id)))
        .collect();
    assert_eq!(routed, expected);
    assert_eq!((mapping.id(), mapping.kind()), ("id", "kind"));
    assert_eq!(mapping.maps(), ["labels"]);
    assert!(mapping.skips(&"0".repeat(32)));
    assert!(!mapping.skips(&"0".repeat(31)));
    assert_eq!(
        mapping.route("Curve").map(|id| mapping.collection(id)),
        Some("curves")
    );
    assert_eq!(mapping.route("curve"), None);
}

#[test]
fn kinds_may_share_a_collection_which_is_listed_once() {
    let mapping =
        Mapping::parse("id='id'\nkind='kind'\n[collections]\nA='x'\nB='x'\nC='w'").unwrap();
    assert_eq!(mapping.route("A"), mapping.route("B"));
    assert_ne!(mapping.route("A"), mapping.route("C"));
    let listed: Vec<_> = mapping.collections().collect();
    assert_eq!(
        listed.iter().map(|(_, name)| *name).collect::<Vec<_>>(),
        ["w", "x"]
    );
    assert!(
        listed
            .iter()
            .all(|&(id, name)| mapping.collection(id) == name)
    );
}

#[test]
fn former_collections_are_listed_and_have_no_kind() {
    let text = "id='id'\nkind='kind'\nformer_collections=['b']\n[collections]\nA='a'\nC='c'";
    let mapping = Mapping::parse(text).unwrap();
    let listed: Vec<_> = mapping.collections().map(|(_, name)| name).collect();
    assert_eq!(listed, ["a", "b", "c"]);
    let mut routed: Vec<_> = mapping.routes().collect();
    routed.sort_unstable();
    let routed = routed
        .iter()
        .map(|(kind, id)| (*kind, mapping.collection(*id)));
    assert!(routed.eq([("A", "a"), ("C", "c")]));
}

#[test]
fn another_schema_is_a_file() {
    let text = "id='uid'\nskipped_ids=['none']\nkind='type'\nmaps=['tags','props']\n[collections]\n'a b'='things'";
    let mapping = Mapping::parse(text).unwrap();
    assert_eq!((mapping.id(), mapping.kind()), ("uid", "type"));
    assert_eq!(mapping.maps(), ["tags", "props"]);
    assert!(mapping.skips("none"));
    assert!(mapping.route("a b").is_some());
}

#[test]
fn each_fault_is_named() {
    let long = "c".repeat(192);
    let cases = [
        ("id=''\nkind='kind'\n[collections]\nA='a'", "is empty"),
        (
            "id='_id'\nkind='kind'\n[collections]\nA='a'",
            "document's own id",
        ),
        (
            "id='$id'\nkind='kind'\n[collections]\nA='a'",
            "starts with `$`",
        ),
        (
            "id='a.b'\nkind='kind'\n[collections]\nA='a'",
            "contains `.`",
        ),
        (
            "id=\"a\\u0000\"\nkind='kind'\n[collections]\nA='a'",
            "contains NUL",
        ),
        (
            "id='id'\nkind='id'\n[collections]\nA='a'",
            "already given by `id`",
        ),
        (
            "id='id'\nkind='kind'\nmaps=['kind']\n[collections]\nA='a'",
            "already given by `kind`",
        ),
        (
            "id='id'\nkind='kind'\nmaps=['id']\n[collections]\nA='a'",
            "already given by `id`",
        ),
        (
            "id='id'\nkind='kind'\nmaps=['m','m']\n[collections]\nA='a'",
            "already given by `maps`",
        ),
        (
            "id='id'\nkind='kind'\nmaps=['']\n[collections]\nA='a'",
            "maps: field name \"\" is empty",
        ),
        ("id='id'\nkind='kind'\n[collections]", "the table is empty"),
        (
            "id='id'\nkind='kind'\n[collections]\n''='a'",
            "a kind is empty",
        ),
        ("id='id'\nkind='kind'\n[collections]\nA=''", "is empty"),
        (
            "id='id'\nkind='kind'\n[collections]\nA='a$b'",
            "contains `$`",
        ),
        (
            "id='id'\nkind='kind'\n[collections]\nA=\"a\\u0000\"",
            "contains NUL",
        ),
        (
            "id='id'\nkind='kind'\n[collections]\nA='system.users'",
            "starts with `system.`",
        ),
        (
            "id='id'\nkind='kind'\n[collections]\nA='.a'",
            "starts with `.`",
        ),
        (
            "id='id'\nkind='kind'\n[collections]\nA='workflows_sink_checkpoints'",
            "reserved",
        ),
        (
            "id='id'\nkind='kind'\n[collections]\nA='workflows_sink_dead_letters'",
            "reserved",
        ),
        (
            &format!("id='id'\nkind='kind'\n[collections]\nA='{long}'"),
            "longer than 191 bytes",
        ),
        (
            "id='id'\nkind='kind'\n[collections]\nA='a'\nA='b'",
            "duplicate key",
        ),
        (
            "id='id'\nkind='kind'\nlabels='x'\n[collections]\nA='a'",
            "unknown field `labels`",
        ),
        (
            "id='id'\nkind='kind'\nformer_collections=['a']\n[collections]\nA='a'",
            "former_collections: \"a\" is in use, for the kind A",
        ),
        (
            "id='id'\nkind='kind'\nformer_collections=['system.x']\n[collections]\nA='a'",
            "former_collections: collection name \"system.x\" starts with `system.`",
        ),
        ("kind='kind'\n[collections]\nA='a'", "missing field `id`"),
        ("id='id'\n[collections]\nA='a'", "missing field `kind`"),
        ("id='id'\nkind='kind'", "missing field `collections`"),
        ("id=", "TOML"),
    ];
    for (text, fault) in cases {
        let error = Mapping::parse(text).expect_err(text).to_string();
        assert!(error.contains(fault), "{text:?}: {error}");
    }
    assert!(
        Mapping::parse(&format!(
            "id='id'\nkind='kind'\n[collections]\nA='{}'",
            &long[1..]
        ))
        .is_ok()
    );
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = "id='$id'\nkind='a.b'\nmaps=['a.b']\n[collections]\nA=''\nB='system.x'\nC='workflows_sink_checkpoints'";
    let Err(MappingError::Faults(faults)) = Mapping::parse(text) else {
        panic!("must be refused")
    };
    assert_eq!(faults.len(), 7, "{faults:#?}");
}

#[test]
fn bounds_are_said() {
    let maps: Vec<String> = (0..33).map(|map| format!("'m{map}'")).collect();
    let kinds: String = (0..1001).map(|kind| format!("K{kind}='c'\n")).collect();
    let error = Mapping::parse(&format!(
        "id='id'\nkind='kind'\nmaps=[{}]\n[collections]\n{kinds}",
        maps.join(",")
    ));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("at most 32") && error.contains("at most 1000"),
        "{error}"
    );
}
