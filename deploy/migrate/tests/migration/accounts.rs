//! Accounts and their keys, as the auth backend finds them.

use bson::{DateTime, Document, doc};
use datastore_export::{Entity, Value};
use datastore_migrate::example;
use test_support::scene::Scene;

use crate::bench::Bench;
use crate::keys::of_entities;

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_what_the_auth_backend_reads_and_are_inserted_once() {
    let scene = Scene::new("accounts", 1).await;
    let database = scene.database.client().database("test_accounts_of_auth");
    let accounts = database.collection::<Document>("accounts");
    accounts
        .insert_one(doc! { "_id": "other", "name": "account-5640000000000002" })
        .await
        .expect("inserted");

    let mut entities: Vec<Entity> = example::entities(6).collect();
    let mut twin = entities[0].clone();
    twin.key.path[0].id = datastore_export::Id::Number(7);
    entities.push(twin);
    let mut bench = Bench::new(entities).with_ids().await;
    bench.environment = scene.environment();
    let import = "accounts export --remap remap.json --database test_accounts_of_auth";
    let dry = bench.run(&format!("{import} --dry-run")).await.with_code(1);
    assert!(dry.out.contains("3 would be inserted"), "{}", dry.out);
    for (run, counted) in ["2 inserted", "2 there already"].into_iter().enumerate() {
        let ran = bench.run(import).await.with_code(1);
        assert!(ran.out.contains(counted), "run {run}: {}", ran.out);
        assert!(
            ran.out
                .contains("another account of the export has its name"),
            "{}",
            ran.out
        );
        let taken = "another document of accounts has its name";
        assert!(ran.out.contains(taken), "{}", ran.out);
        assert!(!ran.out.contains("real.hash") && !ran.error.contains("real.hash"));
    }

    let ids = bench.json("remap.json");
    let id = ids["Account:5640000000000001"].as_str().expect("an id");
    let found = accounts
        .find_one(doc! { "name": "account-5640000000000001" })
        .await;
    let time = |text: &str| DateTime::parse_rfc3339_str(text).expect("a time");
    assert_eq!(
        found.expect("an answer").expect("an account"),
        doc! {
            "_id": id,
            "name": "account-5640000000000001",
            "creationTime": time("2023-01-02T03:04:05.123Z"),
            "apiKeys": [{
                "id": "key-1",
                "subject": format!("Account/{id}"),
                "created": time("2023-01-02T03:04:05Z"),
                "expires": time("2024-01-02T03:04:05Z"),
                "secret": "$2b$12$not.a.real.hash.1",
                "grants": [],
            }],
        }
    );
    assert_eq!(accounts.count_documents(doc! {}).await.expect("a count"), 3);
    let mapping = bench.run("mapping").await.with_code(0).out;
    std::fs::write(bench.path("other.toml"), mapping + "# changed\n").expect("written");
    let other = format!("{import} --mapping other.toml");
    let refused = bench.run(&other).await.with_code(1).error;
    assert!(refused.contains("another mapping"), "{refused}");
    let dry = bench.run(&format!("{other} --dry-run")).await.with_code(1);
    assert!(dry.out.contains("would be inserted"), "{}", dry.out);
    let moved = &bench.json("remap.migration.json")["accounts_moved"];
    assert_eq!(moved["database"], "test_accounts_of_auth");
    assert_eq!(moved["counts"]["there already"], 2, "{moved}");
    assert_eq!(moved["is_clean"], false, "{moved}");

    // A key that was revoked in the old place meanwhile is still good in the new one: that is told.
    let mut revoked: Vec<Entity> = example::entities(0).collect();
    revoked[1].properties.pop();
    bench.export("later", revoked);
    let later = "accounts later --remap remap.json --database test_accounts_of_auth";
    let later = bench.run(later).await.with_code(1).out;
    assert!(
        later.contains("it is there and differs in apiKeys"),
        "{later}"
    );
}

#[tokio::test]
async fn a_key_below_its_account_counts_and_one_that_lacks_something_is_named() {
    let mut entities: Vec<Entity> = example::entities(0).take(1).collect();
    let Some(Value::Array(keys)) = entities[0].get("apiKeys") else {
        panic!("keys");
    };
    let Value::Entity(members) = &keys[0] else {
        panic!("a key");
    };
    let below = |name: &str, leave: &str| {
        let mut key = entities[0].key.clone();
        key.path.push(datastore_export::Step {
            kind: "APIKey".to_owned(),
            id: datastore_export::Id::Name(name.to_owned()),
        });
        let members = members
            .iter()
            .filter(|(member, _)| member != leave && member != "id");
        Entity {
            key,
            properties: members.cloned().collect(),
        }
    };
    let keys = [below("whole", "-"), below("without", "expires")];
    entities.extend(keys);
    let bench = Bench::new(entities).with_ids().await;
    let mapped = of_entities(&bench);
    let dry =
        format!("accounts export --remap remap.json --dry-run --report accounts.json{mapped}");
    let dry = bench.run(&dry).await.with_code(1);
    // A key that is rejected takes its account with it: it could not come later.
    assert_eq!(bench.json("accounts.json")["rejected_in_all"], 2);
    let told = "Account:public: one of its keys was rejected";
    assert!(dry.out.contains(told), "{}", dry.out);
    assert!(!dry.out.contains("would be inserted"), "{}", dry.out);
    assert!(
        dry.out
            .contains("Account:public: a key lacks its id, subject"),
        "{}",
        dry.out
    );
    assert!(!dry.out.contains("APIKey:"), "{}", dry.out);
}

#[tokio::test]
async fn accounts_of_plain_json_have_their_times_as_texts() {
    let bench = Bench::new([]);
    let account = concat!(
        r#"{"__key__":"Account:public","name":"public","creationTime":"2023-01-02T03:04:05.123Z","#,
        r#""apiKeys":[{"id":"k","subject":"Account/public","created":"2023-01-02T03:04:05+00:00","#,
        r#""expires":"2024-01-02T03:04:05Z","secret":"s"}]}"#,
        "\n",
        r#"{"__key__":"Account:7","name":"seven","creationTime":"yesterday"}"#,
        "\n",
    );
    std::fs::write(bench.path("plain.json"), account).expect("written");
    let ids = "ids plain.json --out remap.json --seed dyff";
    bench.run(ids).await.with_code(0);
    let run = "accounts plain.json --remap remap.json --dry-run";
    let ran = bench.run(run).await.with_code(1);
    assert!(ran.out.contains("1 would be inserted"), "{}", ran.out);
    assert!(
        ran.out.contains("Account:7: `creationTime` is not a time"),
        "{}",
        ran.out
    );
}

/// A key may be named by its secret: neither the remap file nor a report has its name.
#[tokio::test]
async fn the_name_of_a_key_is_in_no_file_and_no_output() {
    let bench = Bench::new([]);
    let lines = concat!(
        r#"{"__key__":"Account:public/APIKey:SECRET","x":1}"#,
        "\n",
        r#"{"__key__":"Account:public/APIKey:SECRET/Evaluation:5","x":1}"#,
        "\n",
        r#"{"__key__":"Account:public/Model:6","size":0.5}"#,
        "\n",
    );
    std::fs::write(bench.path("keys.json"), lines).expect("written");
    let said = |ran: crate::bench::Ran| ran.out + &ran.error;
    let mapped = of_entities(&bench);
    let ids = format!("ids keys.json --out remap.json --seed dyff{mapped}");
    let mut all = said(bench.run(&ids).await);
    assert!(all.contains("below an API key"), "{all}");
    for step in ["entities", "accounts"] {
        let run =
            format!("{step} keys.json --remap remap.json --dry-run --report {step}.json{mapped}");
        all += &said(bench.run(&run).await.with_code(1));
        all += &bench.json(&format!("{step}.json")).to_string();
    }
    all += &bench.json("remap.json").to_string();
    assert!(
        all.contains("Account:public/Model:6") && !all.contains("SECRET"),
        "{all}"
    );
}

/// An account with one key, which has these grants as JSON, and a dataset.
fn with_grants(grants: &str) -> Bench {
    let bench = Bench::new([]);
    let key = format!(
        r#"{{"id":"k","subject":"Account/public","created":"2023-01-02T03:04:05Z","expires":"2024-01-02T03:04:05Z","secret":"SECRET","grants":{grants}}}"#
    );
    let lines = format!(
        "{{\"__key__\":\"Account:public\",\"name\":\"public\",\"creationTime\":\
         \"2023-01-02T03:04:05Z\",\"apiKeys\":[{key}]}}\n\
         {{\"__key__\":\"Account:public/Dataset:5\",\"rows\":1}}\n"
    );
    std::fs::write(bench.path("grants.json"), lines).expect("written");
    bench
}

const WITH_GRANTS: &str =
    "accounts grants.json --remap remap.json --database test_grants_of_auth --create";

/// Otherwise a key would grant nothing any more, or another thing, and nobody would know.
#[tokio::test]
async fn an_old_id_in_a_key_is_told_and_nothing_of_its_secret() {
    let bench = with_grants(r#"[{"on":"public/5","actions":["read"]},{"on":5}]"#);
    let ids = "ids grants.json --out remap.json --seed dyff";
    bench.run(ids).await.with_code(0);
    let dry = format!("{WITH_GRANTS} --dry-run --report report.json");
    let ran = bench.run(&dry).await.with_code(0);
    let told = "Account.apiKeys.grants.on holds 2 values that look like old ids";
    assert!(ran.out.contains(told), "{}", ran.out);
    assert!(ran.out.contains("1 would be inserted"), "{}", ran.out);
    let report = bench.json("report.json").to_string();
    assert!(!(ran.out + &ran.error + &report).contains("SECRET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_keys_grants_name_is_rejected_until_it_is_declared_and_then_has_its_new_id() {
    let scene = Scene::new("grants", 1).await;
    let mut bench = Bench::new([]);
    bench.environment = scene.environment();
    // The type for keys is in the other two forms of an export.
    let key = |path: &str| Value::Key(path.parse().expect("a key"));
    let text = |text: &str| Value::Text(text.to_owned());
    let time = Value::Timestamp(1_672_628_645_000_000);
    let named = |members: Vec<(&str, Value)>| {
        let members = members.into_iter();
        let named = members.map(|(name, value)| (name.to_owned(), value));
        named.collect::<Vec<_>>()
    };
    let grant = |on: Value| Value::Entity(named(vec![("on", on), ("action", text("read"))]));
    let grants = vec![grant(key("Account:public/Dataset:5")), grant(Value::Null)];
    let api_key = named(vec![
        ("id", text("k")),
        ("subject", text("Account/public")),
        ("created", time.clone()),
        ("expires", time.clone()),
        ("secret", text("SECRET")),
        ("grants", Value::Array(grants)),
    ]);
    let account = Entity {
        key: "Account:public".parse().expect("a key"),
        properties: named(vec![
            ("name", text("public")),
            ("creationTime", time),
            ("apiKeys", Value::Array(vec![Value::Entity(api_key)])),
        ]),
    };
    let dataset = Entity {
        key: "Account:public/Dataset:5".parse().expect("a key"),
        properties: vec![],
    };
    bench.export("export", [account, dataset]);
    let bench = bench.with_ids().await;
    let import = WITH_GRANTS.replace("grants.json", "export");
    let dry = format!("{import} --dry-run");
    let ran = bench.run(&dry).await.with_code(1);
    let why = "record 1, Account:public: Account.apiKeys.grants.on holds a key and is no reference";
    assert!(ran.out.contains(why), "{}", ran.out);
    assert!(!(ran.out + &ran.error).contains("SECRET"));

    let mapping = bench.run("mapping").await.with_code(0).out;
    let declared = "\n[accounts.references]\n'grants.on' = { kind = 'Dataset', form = 'key' }\n";
    std::fs::write(bench.path("mapping.toml"), mapping + declared).expect("written");
    let mapped = format!("{import} --mapping mapping.toml");
    bench.run(&mapped).await.with_code(0);
    let ids = bench.json("remap.json");
    let id = ids["Account:public/Dataset:5"].as_str().expect("an id");
    let database = scene.database.client().database("test_grants_of_auth");
    let accounts = database.collection::<Document>("accounts");
    let found = accounts.find_one(doc! { "name": "public" }).await;
    let found = found.expect("an answer").expect("an account");
    let keys = found.get_array("apiKeys").expect("keys");
    let grants = keys[0].as_document().expect("a key").get_array("grants");
    let on = [id.into(), bson::Bson::Null];
    let expected = on.map(|on| doc! { "on": on, "action": "read" }.into());
    assert_eq!(grants.expect("grants")[..], expected);
    // Nothing differs, so a rerun finds it there.
    let again = bench.run(&mapped).await.with_code(0).out;
    assert!(again.contains("1 there already"), "{again}");
}

#[tokio::test]
async fn an_export_without_an_account_is_told_and_no_success() {
    let entities = example::entities(6).filter(|entity| entity.key.kind() != "Account");
    let bench = Bench::new(entities).with_ids().await;
    let dry = "accounts export --remap remap.json --dry-run --report report.json";
    let ran = bench.run(dry).await.with_code(1);
    let told = "nothing was done: no entity of these exports is of the kind Account";
    assert!(ran.out.contains(told), "{}", ran.out);
    assert!(bench.json("report.json")["refused"].is_string());
}

/// An account is never changed once it is there: keys that were left out could not come later.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_matches_no_account_is_told_before_any_is_inserted() {
    let scene = Scene::new("unmatched_accounts", 1).await;
    let mut bench = Bench::new(example::entities(0)).with_ids().await;
    bench.environment = scene.environment();
    let mapping = bench.run("mapping").await.with_code(0).out;
    let import = "accounts export --remap remap.json --database test_unmatched_of_auth \
                  --create --mapping mapping.toml";
    let write = |mapping: String| std::fs::write(bench.path("mapping.toml"), mapping);
    let database = scene.database.client().database("test_unmatched_of_auth");
    let accounts = database.collection::<Document>("accounts");
    for (line, property) in [
        ("name", "name"),
        ("creation_time", "creationTime"),
        ("keys", "apiKeys"),
    ] {
        let typo = mapping.replace(
            &format!("\n{line} = \"{property}\""),
            &format!("\n{line} = \"tpyo\""),
        );
        write(typo).expect("written");
        let ran = bench.run(import).await.with_code(1);
        let told = format!("accounts.{line}: no Account has a property `tpyo`");
        assert!(
            ran.out.contains("warning: mapping.toml, line "),
            "{}",
            ran.out
        );
        assert!(ran.out.contains(&told), "{}", ran.out);
        assert!(ran.out.contains("nothing was done"), "{}", ran.out);
        assert_eq!(accounts.count_documents(doc! {}).await.expect("a count"), 0);
    }
    // What no account has is taken out.
    bench.export("export", example::entities(0).map(without_keys));
    let without = mapping.replace("\nkeys = \"apiKeys\"", "");
    write(without.replace("\n# key_kind = ", "\nkey_kind = ")).expect("written");
    let ran = bench.run(import).await.with_code(1).out;
    let told = "accounts.key_kind: no entity is of this kind, `APIKey`";
    assert!(
        ran.contains(told) && ran.contains("nothing was done"),
        "{ran}"
    );
    assert_eq!(accounts.count_documents(doc! {}).await.expect("a count"), 0);
    write(without).expect("written");
    bench.run(import).await.with_code(0);
    assert_eq!(accounts.count_documents(doc! {}).await.expect("a count"), 3);
}

fn without_keys(mut account: Entity) -> Entity {
    account.properties.retain(|(name, _)| name != "apiKeys");
    account
}
