use super::*;
use crate::mapping::BUILTIN;

const KINDS: &str = "\
account_kind = 'Account'
[kinds.A]
rename = { old = 'new', odl = 'x' }
drop = [
  'gone',
  'goen',
]
defaults = { labels = {}, new = 1, lables = {}, other = 1 }
[kinds.A.references]
'inner.b' = { kind = 'B', form = 'key' }
'inner.c' = { kind = 'B', form = 'key' }
[kinds.B]
drop = ['x']
[kinds.Out]
left_out = 'x'
drop = ['y']
";

fn mapping() -> Mapping {
    let accounts = &BUILTIN[BUILTIN.find("[accounts]").unwrap()..];
    Mapping::parse(&format!("{KINDS}{accounts}")).unwrap()
}

/// What the mapping that is compiled in says of accounts, with keys in both forms.
fn accounts() -> String {
    BUILTIN[BUILTIN.find("[accounts]").unwrap()..].replace("# key_kind = ", "key_kind = ")
}

fn entity(key: &str, properties: Vec<(&str, Value)>) -> Entity {
    let own = |(name, value): (&str, Value)| (name.to_owned(), value);
    Entity {
        key: key.parse().unwrap(),
        properties: properties.into_iter().map(own).collect(),
    }
}

fn told(watch: &Watch) -> Vec<String> {
    let told = watch.unmatched().into_iter();
    told.map(|one| format!("{} {}", one.line, one.reason))
        .collect()
}

#[test]
fn a_line_that_matches_nothing_is_told_with_its_number() {
    let mut watch = Watch::new(&mapping()).unwrap();
    let inner = Value::Entity(vec![("b".to_owned(), Value::Null)]);
    watch.meet(&entity(
        "A:1",
        vec![
            ("old", Value::Null),
            ("gone", Value::Null),
            ("inner", Value::Array(vec![Value::Null, inner])),
        ],
    ));
    watch.meet(&entity("A:2", vec![("other", Value::Null)]));
    watch.meet(&entity("Out:1", vec![]));
    assert_eq!(
        told(&watch),
        [
            "3 kinds.A.rename: no A has a property `odl`",
            "6 kinds.A.drop: no A has a property `goen`",
            "8 kinds.A.defaults: no A has a property `lables`, so that each gets it",
            "11 kinds.A.references: no A has a property `inner.c`",
            "12 kinds.B: no entity is of this kind",
        ]
    );
}

#[test]
fn a_line_that_drops_or_renames_what_is_only_inside_another_property_is_told() {
    let text = "account_kind = 'Account'\n[kinds.A]\ndrop = ['inner.a']\n\
                rename = { 'inner.b' = 'b' }\n";
    let accounts = &BUILTIN[BUILTIN.find("[accounts]").unwrap()..];
    let mapping = Mapping::parse(&(text.to_owned() + accounts)).unwrap();
    let inner = ["a", "b"].map(|name| (name.to_owned(), Value::Null));
    let mut watch = Watch::new(&mapping).unwrap();
    watch.meet(&entity(
        "A:1",
        vec![("inner", Value::Entity(inner.to_vec()))],
    ));
    assert_eq!(
        told(&watch),
        [
            "3 kinds.A.drop: no A has a property `inner.a`",
            "4 kinds.A.rename: no A has a property `inner.b`",
        ]
    );
    watch.meet(&entity(
        "A:2",
        vec![("inner.a", Value::Null), ("inner.b", Value::Null)],
    ));
    assert!(told(&watch).is_empty());
}

#[test]
fn a_line_about_accounts_that_none_matches_is_told_with_its_number() {
    let accounts = accounts();
    let references = "[accounts.references]\n'grants.on' = { kind = 'A', form = 'key' }\n";
    let text = format!("account_kind = 'Account'\n[kinds.A]\n{accounts}{references}");
    let mapping = Mapping::parse(&text).unwrap();
    let line = |of: &str| text.lines().position(|line| line.starts_with(of)).unwrap() + 1;
    let told = |watch: &WatchOfAccounts<'_>| {
        let told = watch.unmatched().into_iter();
        let told = told.map(|one| format!("{} {}", one.line, one.reason));
        told.collect::<Vec<_>>()
    };
    let mut watch = WatchOfAccounts::new(&mapping).unwrap();
    assert!(!watch.is_met);
    watch.meet(&entity("Account:1", vec![("name", Value::Null)]));
    let (created, keys) = (line("creation_time ="), line("keys ="));
    let key_kind = line("key_kind =");
    let on = line("'grants.on'");
    assert!(watch.is_met);
    assert_eq!(
        told(&watch),
        [
            format!("{created} accounts.creation_time: no Account has a property `creationTime`"),
            format!("{keys} accounts.keys: no Account has a property `apiKeys`"),
            format!("{key_kind} accounts.key_kind: no entity is of this kind, `APIKey`"),
            format!("{on} accounts.references: no API key has a member `grants.on`"),
        ]
    );
    assert!(watch.is_lacking());
    // Keys may be entities of their own: then the line about the others is told, and may be left.
    let on = Value::Entity(vec![("on".to_owned(), Value::Null)]);
    watch.meet(&entity("Account:1/APIKey:k", vec![("grants", on)]));
    watch.meet(&entity("Account:2", vec![("creationTime", Value::Null)]));
    let of_keys = format!("{keys} accounts.keys: no Account has a property `apiKeys`");
    assert_eq!(told(&watch), [of_keys]);
    assert!(!watch.is_lacking());
}

/// Then none is an entity of its own, perhaps: that is told, and nothing is lacking.
#[test]
fn a_kind_of_keys_may_have_no_entity_where_keys_are_within_accounts() {
    let accounts = accounts();
    let text = format!("account_kind = 'Account'\n[kinds]\n{accounts}");
    let mapping = Mapping::parse(&text).unwrap();
    for (keys, is_lacking) in [(vec![], true), (vec![Value::Entity(vec![])], false)] {
        let mut watch = WatchOfAccounts::new(&mapping).unwrap();
        let properties = vec![
            ("name", Value::Null),
            ("creationTime", Value::Null),
            ("apiKeys", Value::Array(keys)),
        ];
        watch.meet(&entity("Account:1", properties));
        assert_eq!(watch.is_lacking(), is_lacking);
        let unmatched = watch.unmatched();
        assert!(unmatched.len() == 1 && unmatched[0].reason.contains("key_kind"));
    }
}

#[test]
fn the_name_of_a_property_may_hold_a_dot() {
    let mut watch = Watch::new(&mapping()).unwrap();
    let both = vec![("inner.b", Value::Null), ("inner.c", Value::Null)];
    watch.meet(&entity("A:1", both));
    let told = told(&watch);
    assert!(!told.iter().any(|line| line.contains("inner")), "{told:?}");
}
