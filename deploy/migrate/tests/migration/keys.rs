//! Accounts whose keys are entities of their own: an account that is there is never changed, so it
//! comes with all of them or not at all.

use std::fs;

use bson::{Document, doc};
use datastore_migrate::example;
use mongodb::Collection;
use test_support::scene::Scene;

use crate::bench::Bench;
use crate::broken::log;

const ACCOUNT: &str =
    r#"{"__key__":"Account:public","name":"public","creationTime":"2023-01-02T03:04:05Z"}"#;

/// A key below the account, which ends then.
fn key(name: &str, expires: &str) -> String {
    format!(
        r#"{{"__key__":"Account:public/APIKey:{name}","subject":"Account/public","created":"2023-01-02T03:04:05Z","expires":{expires},"secret":"SECRET"}}"#
    )
}

/// With the option for keys that are entities, and none that are embedded.
pub fn of_entities(bench: &Bench) -> &'static str {
    let shipped = include_str!("../../mapping.toml");
    let mapping = shipped.replace("\nkeys = \"apiKeys\"", "");
    let mapping = mapping.replace("\n# key_kind = ", "\nkey_kind = ");
    fs::write(bench.path("entities.toml"), mapping).expect("written");
    " --mapping entities.toml"
}

const ENDS: &str = r#""2024-01-02T03:04:05Z""#;

struct Accounts {
    bench: Bench,
    accounts: Collection<Document>,
    import: String,
    // Its servers' database goes with it.
    _scene: Scene,
}

/// An account and these lines in a file, with ids.
async fn accounts(name: &str, lines: &[String]) -> Accounts {
    let scene = Scene::new(name, 1).await;
    let mut bench = Bench::new([]);
    bench.environment = scene.environment();
    let database = format!("test_{name}_of_auth");
    let accounts = Accounts {
        accounts: scene
            .database
            .client()
            .database(&database)
            .collection("accounts"),
        import: format!(
            "accounts lines --remap remap.json --database {database} --create{}",
            of_entities(&bench)
        ),
        bench,
        _scene: scene,
    };
    accounts.write(lines);
    let ids = "ids lines --out remap.json --seed dyff";
    accounts.bench.run(ids).await;
    accounts
}

impl Accounts {
    fn write(&self, lines: &[String]) {
        let text = format!("{ACCOUNT}\n{}\n", lines.join("\n"));
        fs::write(self.bench.path("lines"), text).expect("written");
    }

    /// Runs the import, and gives what it said and how many accounts there are then.
    async fn import(&self, more: &str, code: i32) -> (String, u64) {
        let run = format!("{}{more}", self.import);
        let ran = self.bench.run(&run).await.with_code(code);
        let said = ran.out + &ran.error;
        assert!(!said.contains("SECRET"), "{said}");
        let count = self.accounts.count_documents(doc! {}).await;
        (said, count.expect("a count"))
    }

    /// Replaces something in the mapping.
    fn with_mapping(&self, from: &str, to: &str) {
        let file = self.bench.path("entities.toml");
        let mapping = fs::read_to_string(&file).expect("a file");
        assert!(mapping.contains(from), "{mapping}");
        fs::write(file, mapping.replace(from, to)).expect("written");
    }

    async fn account(&self) -> Document {
        let found = self.accounts.find_one(doc! { "name": "public" }).await;
        found.expect("an answer").expect("an account")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_comes_with_all_its_keys_or_not_at_all() {
    let odd = [key("a", ENDS), key("b", "5")];
    let accounts = accounts("rejected_key", &odd).await;
    let (said, count) = accounts.import("", 1).await;
    assert!(
        said.contains("Account:public: a key's `expires` is not a time"),
        "{said}"
    );
    assert!(
        said.contains("Account:public: one of its keys was rejected"),
        "{said}"
    );
    assert_eq!(count, 0);
    accounts.write(&[key("a", ENDS), key("b", ENDS)]);
    assert_eq!(accounts.import("", 0).await.1, 1);
    assert_eq!(
        accounts
            .account()
            .await
            .get_array("apiKeys")
            .expect("keys")
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_account_comes_while_a_part_of_an_export_cannot_be_read() {
    let cut = [
        key("a", ENDS),
        r#"{"__key__":"Account:public/API"#.to_owned(),
    ];
    let accounts = accounts("unreadable_key", &cut).await;
    let told = "nothing was done: a part of these exports cannot be read, or is short";
    let (said, count) = accounts.import("", 1).await;
    assert!(
        said.contains(told) && said.contains("lines record 3"),
        "{said}"
    );
    assert_eq!(count, 0);

    // Between two entities nothing but the metadata tells it.
    let mut bench = Bench::new(example::entities(0)).with_ids().await;
    bench.environment.clone_from(&accounts.bench.environment);
    fs::write(log(&bench), "").expect("written");
    bench.export("more", example::entities(0));
    let import = accounts.import.replace("lines", "more export");
    let import = import.replace(" --mapping entities.toml", "");
    let ran = bench.run(&import).await.with_code(1).out;
    assert!(
        ran.contains(told) && ran.contains("by the export's metadata"),
        "{ran}"
    );
    let count = accounts.accounts.count_documents(doc! {}).await;
    assert_eq!(count.expect("a count"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_account_comes_where_the_kind_of_its_keys_is_misspelt_nor_into_a_misspelt_database() {
    let accounts = accounts("misspelt_keys", &[key("a", ENDS)]).await;
    accounts.with_mapping("key_kind = \"APIKey\"", "key_kind = \"ApiKey\"");
    let (said, count) = accounts.import("", 1).await;
    let told = "accounts.key_kind: no entity is of this kind, `ApiKey`";
    assert!(
        said.contains(told) && said.contains("nothing was done"),
        "{said}"
    );
    assert_eq!(count, 0);

    of_entities(&accounts.bench);
    let into = accounts.import.replace(" --create", "");
    let refused = accounts.bench.run(&into).await.with_code(1).error;
    assert!(
        refused.contains("there is no database test_misspelt_keys_of_auth yet"),
        "{refused}"
    );
    let (said, count) = accounts.import("", 0).await;
    assert!(
        said.contains("database test_misspelt_keys_of_auth"),
        "{said}"
    );
    assert_eq!(count, 1);
    let again = accounts.bench.run(&into).await.with_code(0).out;
    assert!(again.contains("1 there already"), "{again}");

    // A run that fails on its way, here at a view that cannot be read, leaves no statement of an
    // earlier one.
    let moved = || accounts.bench.json("remap.migration.json")["accounts_moved"].clone();
    assert_eq!(moved()["is_clean"], true);
    let broken = accounts.accounts.client().database("test_view_of_auth");
    broken.drop().await.expect("dropped");
    let others = broken.collection::<Document>("others");
    others
        .insert_one(doc! { "zero": 0 })
        .await
        .expect("inserted");
    let name = doc! { "$addFields": { "name": { "$divide": [1, "$zero"] } } };
    let view = doc! { "create": "accounts", "viewOn": "others", "pipeline": [name] };
    broken.run_command(view).await.expect("a view");
    let into = accounts.import.replace("test_misspelt_keys", "test_view");
    let failed = accounts.bench.run(&into).await.with_code(1).error;
    let told = "MongoDB refuses a question about accounts";
    assert!(failed.contains(told), "{failed}");
    assert_eq!(moved()["is_clean"], false);
    assert_eq!(moved()["database"], "test_view_of_auth");
}

/// The auth backend reads no key without an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_never_expires_ends_when_the_mapping_says() {
    let accounts = accounts("endless_key", &[key("a", "null")]).await;
    let (said, count) = accounts.import(" --dry-run", 1).await;
    assert!(
        said.contains("`key_expires_default` under [accounts]"),
        "{said}"
    );
    assert_eq!(count, 0);
    accounts.with_mapping("# key_expires_default", "key_expires_default");
    let (said, count) = accounts.import("", 0).await;
    let told = "APIKey.expires is null: `key_expires_default`, 1 times, as the mapping says";
    assert!(count == 1 && said.contains(told), "{said}");
    let account = accounts.account().await;
    let keys = account.get_array("apiKeys").expect("keys");
    let expires = keys[0]
        .as_document()
        .expect("a key")
        .get_datetime("expires");
    let end = bson::DateTime::parse_rfc3339_str("2035-01-01T00:00:00Z").expect("a time");
    assert_eq!(*expires.expect("a time"), end);
}

/// An account without keys in it, or with one, and a key that is an entity or none.
fn twice(embedded: &str, entities: &[String]) -> Bench {
    let bench = Bench::new([]);
    let account = ACCOUNT.replace('}', &format!(r#","apiKeys":[{embedded}]}}"#));
    let text = format!("{account}\n{}\n", entities.join("\n"));
    for name in ["first", "second"] {
        fs::write(bench.path(name), &text).expect("written");
    }
    bench
}

/// The keys could be of either, and the older one would be inserted.
#[tokio::test]
async fn an_account_that_is_in_two_exports_is_moved_from_neither() {
    let embedded =
        key("a", ENDS).replacen(r#""__key__":"Account:public/APIKey:a""#, r#""id":"a""#, 1);
    for (bench, entities) in [
        (twice("", &[key("a", ENDS)]), true),
        (twice(&embedded, &[]), false),
    ] {
        let ids = "ids first second --out remap.json --seed dyff";
        bench.run(ids).await.with_code(0);
        let dry = "accounts first second --remap remap.json --dry-run";
        let dry = match entities {
            true => format!("{dry}{}", of_entities(&bench)),
            false => dry.to_owned(),
        };
        let ran = bench.run(&dry).await.with_code(1).out;
        let told = "Account:public: it is twice in these exports: give the last one alone";
        assert_eq!(ran.matches(told).count(), 2, "{ran}");
        assert!(!ran.contains("would be inserted"), "{ran}");
    }
}

/// The key is one of these, and only what it holds is not.
#[tokio::test]
async fn a_key_that_holds_a_key_of_another_database_keeps_every_account_back() {
    let bench = Bench::new([]);
    let of = |database: &str, kind: &str| {
        format!(
            r#"{{"partitionId":{{"databaseId":"{database}"}},"path":[{{"kind":"Account","name":"public"}},{{"kind":"{kind}","name":"a"}}]}}"#
        )
    };
    let holding = format!(
        r#"{{"key":{},"properties":{{"on":{{"keyValue":{}}}}}}}"#,
        of("", "APIKey"),
        of("other", "Dataset")
    );
    let elsewhere = format!(r#"{{"key":{},"properties":{{}}}}"#, of("other", "APIKey"));
    let dry = format!(
        "accounts lines --remap remap.json --dry-run{}",
        of_entities(&bench)
    );
    for (odd, moved) in [(holding, 0), (elsewhere, 1)] {
        let text = format!("{ACCOUNT}\n{}\n{odd}\n", key("b", ENDS));
        fs::write(bench.path("lines"), text).expect("written");
        let ids = "ids lines --out remap.json --seed dyff";
        bench.run(ids).await.with_code(1);
        let ran = bench.run(&dry).await.with_code(1).out;
        assert!(ran.contains("is of the database other"), "{ran}");
        assert_eq!(ran.matches("1 would be inserted").count(), moved, "{ran}");
        let is_refused = ran.contains("nothing was done: a part of these exports cannot be read");
        assert_eq!(is_refused, moved == 0, "{ran}");
    }
}

/// Wherever a key lies, its account cannot get it later.
#[tokio::test]
async fn a_key_that_does_not_lie_right_below_its_account_keeps_the_account_back() {
    let bench = Bench::new([]);
    let dry = format!(
        "accounts lines --remap remap.json --dry-run{}",
        of_entities(&bench)
    );
    for below in ["Group:1/APIKey:NAME", "APIKey:NAME/APIKey:b"] {
        let odd = key("b", ENDS).replace("APIKey:b", below);
        let text = format!("{ACCOUNT}\n{}\n{odd}\n", key("a", ENDS));
        fs::write(bench.path("lines"), text).expect("written");
        let ids = "ids lines --out remap.json --seed dyff --mapping entities.toml";
        bench.run(ids).await.with_code(0);
        let ran = bench.run(&dry).await.with_code(1).out;
        for told in [
            "Account:public: a key that does not lie right below its account",
            "Account:public: one of its keys was rejected",
        ] {
            assert!(ran.contains(told), "{below}: {told}: {ran}");
        }
        assert!(
            !ran.contains("would be inserted") && !ran.contains("NAME"),
            "{ran}"
        );
    }
}

/// Of the other form there are keys: so nothing is refused, and only the exit code tells.
#[tokio::test]
async fn a_line_about_keys_that_matches_none_is_told_and_no_success() {
    let shipped = include_str!("../../mapping.toml");
    let both = shipped.replace("\n# key_kind = ", "\nkey_kind = ");
    let embedded =
        key("a", ENDS).replacen(r#""__key__":"Account:public/APIKey:a""#, r#""id":"a""#, 1);
    let account = ACCOUNT.replace('}', &format!(r#","apiKeys":[{embedded}]}}"#));
    let (of_keys, of_kind) = ("accounts.keys: no Account", "accounts.key_kind: no entity");
    for (text, from, to, told, code) in [
        (ACCOUNT, "apiKeys", "tpyo", Some(of_keys), 1),
        (&*account, "APIKey", "Tpyo", Some(of_kind), 1),
        (&*account, "-", "-", None, 0),
    ] {
        let bench = Bench::new([]);
        let text = match told {
            Some(told) if told == of_kind => text.to_owned(),
            _ => format!("{text}\n{}", key("b", ENDS)),
        };
        fs::write(bench.path("lines"), text + "\n").expect("written");
        fs::write(bench.path("m.toml"), both.replace(from, to)).expect("written");
        let ids = "ids lines --out remap.json --seed dyff --mapping m.toml";
        bench.run(ids).await.with_code(0);
        let dry = "accounts lines --remap remap.json --mapping m.toml --dry-run";
        let ran = bench.run(dry).await.with_code(code).out;
        assert!(ran.contains("1 would be inserted"), "{ran}");
        assert_eq!(
            ran.contains("warning: m.toml, line "),
            told.is_some(),
            "{ran}"
        );
        assert!(ran.contains(told.unwrap_or_default()), "{ran}");
    }
}
