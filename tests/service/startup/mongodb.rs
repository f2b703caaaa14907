//! MongoDB as the service needs it, and as it may be found.

use std::collections::{BTreeMap, HashSet};
use std::io;

use bson::{Document, doc};
use local_stack::{Authority, Mongo, MongoOptions, Topology};
use mongodb::{Client, Database};
use secrecy::SecretString;
use test_support::credentials::PASSWORD;
use test_support::scene::{BOOTSTRAP_SERVERS, CONNECTION_STRING};
use test_support::worker::Worker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use workflows_sink::config::{Credentials, Mongodb};
use workflows_sink::database;
use workflows_sink::record::mapping::Mapping;
use workflows_sink::telemetry::health::Health;
use workflows_sink::writer;

fn environment(uri: &str) -> BTreeMap<String, String> {
    [
        (CONNECTION_STRING, uri),
        ("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS", "127.0.0.1:0"),
        ("DYFF_WORKFLOWS_SINK__LOG_FORMAT", "json"),
        // nobody listens there: who gets so far waits
        (BOOTSTRAP_SERVERS, "127.0.0.1:9"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The message with which a start on this URI ends.
async fn refused(uri: &str) -> String {
    super::refused(&environment(uri)).await.0
}

fn settings(uri: &str) -> Mongodb {
    Mongodb {
        uri: SecretString::from(uri),
        database: "workflows".to_owned(),
        passwords: vec![],
        credentials: Credentials::default(),
    }
}

/// Connects as the service does.
async fn connect(settings: &Mongodb) -> anyhow::Result<Database> {
    let mapping = Mapping::builtin();
    let collections = writer::collections(&mapping);
    let login = database::connect(settings, 8, &collections, &Health::default()).await?;
    Ok(login.database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_is_refused() {
    let options = MongoOptions {
        topology: Topology::Standalone,
        ..MongoOptions::default()
    };
    let mongo = Mongo::start(options).await.unwrap();
    let host = mongo.host(0);
    for uri in [
        format!("mongodb://{host}/"),
        format!("mongodb://{host}/?replicaSet=rs0"),
    ] {
        let why = refused(&uri).await;
        assert!(
            why.contains("standalone") && why.contains(CONNECTION_STRING),
            "{uri}: {why}"
        );
    }
}

/// The address of a server that answers every command as a mongos answers `hello`.
async fn router() -> String {
    let hello = doc! {
        "msg": "isdbgrid", "isWritablePrimary": true, "helloOk": true, "minWireVersion": 0,
        "maxWireVersion": 17, "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "ok": 1.0,
    };
    let hello = hello.to_vec().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let hello = hello.clone();
            tokio::spawn(async move { answer(client, &hello).await });
        }
    });
    address.to_string()
}

/// Answers every message of the protocol with one that holds `document`, until the client leaves.
async fn answer(mut client: TcpStream, document: &[u8]) -> io::Result<()> {
    const OP_MSG: u32 = 2013;
    // Flags, and the kind of the section.
    let body = [&[0; 5], document].concat();
    loop {
        let len = client.read_u32_le().await?;
        let request = client.read_u32_le().await?;
        client.read_exact(&mut vec![0; len as usize - 8]).await?;
        for number in [16 + body.len() as u32, 0, request, OP_MSG] {
            client.write_u32_le(number).await?;
        }
        client.write_all(&body).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sharded_cluster_is_refused() {
    let router = router().await;
    for options in ["", "?replicaSet=rs0"] {
        let why = refused(&format!("mongodb://{router}/{options}")).await;
        assert!(
            why.contains("sharded cluster") && why.contains(CONNECTION_STRING),
            "{options}: {why}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_set_is_refused() {
    let mongo = Mongo::start(MongoOptions::default()).await.unwrap();
    let why = refused(&format!("mongodb://{}/?replicaSet=other", mongo.host(0))).await;
    assert!(why.contains("belongs to the replica set rs0"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_authenticated_or_may_not_write_reads_what_to_change() {
    let mongo = Mongo::start(MongoOptions {
        auth: true,
        ..MongoOptions::default()
    })
    .await
    .unwrap();

    let why = refused(&mongo.uri_as("workflows-sink", "wrong-password", "users")).await;
    assert!(
        why.contains("does not authenticate the user workflows-sink (authSource users)"),
        "{why}"
    );
    assert!(
        why.contains(CONNECTION_STRING)
            && why.contains(PASSWORD)
            && !why.contains("wrong-password"),
        "{why}"
    );

    let why = refused(&format!("mongodb://{}/?replicaSet=rs0", mongo.host(0))).await;
    assert!(why.contains("requires a user"), "{why}");

    let admin = mongo.admin().await.unwrap();
    for (user, roles) in [
        ("nobody", vec![]),
        ("reader", vec![doc! { "role": "read", "db": "workflows" }]),
        (
            "elsewhere",
            vec![doc! { "role": "readWrite", "db": "other" }],
        ),
    ] {
        let create = doc! { "createUser": user, "pwd": "pw", "roles": roles };
        admin.database("users").run_command(create).await.unwrap();
        let why = refused(&mongo.uri_as(user, "pw", "users")).await;
        assert!(
            why.contains(&format!("the user {user} of users may not ")),
            "{why}"
        );
        assert!(why.contains("insert on 3"), "{why}");
        let command = format!(
            "db.getSiblingDB(\"users\").grantRolesToUser(\"{user}\", [{{ role: \"readWrite\", db: \"workflows\" }}])"
        );
        assert!(why.contains(&command), "{why}");

        let grant = doc! { "grantRolesToUser": user, "roles": [{ "role": "readWrite", "db": "workflows" }] };
        admin.database("users").run_command(grant).await.unwrap();
        let uri = mongo.uri_as(user, "pw", "users");
        connect(&settings(&uri))
            .await
            .expect("the command is enough");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_may_stand_beside_the_uri() {
    let mongo = Mongo::start(MongoOptions {
        auth: true,
        ..MongoOptions::default()
    })
    .await
    .unwrap();
    let settings = Mongodb {
        passwords: mongo
            .password()
            .map(SecretString::from)
            .into_iter()
            .collect(),
        ..settings(&mongo.uri_without_password())
    };
    connect(&settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_refused() {
    let authority = Authority::new().unwrap();
    let tls = Some(authority.server().unwrap());
    let mongo = Mongo::start(MongoOptions {
        tls,
        ..MongoOptions::default()
    })
    .await
    .unwrap();
    let uri = |ca: &std::path::Path| {
        format!(
            "mongodb://{}/?replicaSet=rs0&tls=true&tlsCAFile={}",
            mongo.host(0),
            ca.display()
        )
    };
    let stranger = Authority::new().unwrap();
    let why = refused(&uri(&stranger.ca())).await;
    assert!(
        why.contains("invalid peer certificate")
            && why.contains("tlsCAFile")
            && why.contains(CONNECTION_STRING),
        "{why}"
    );

    connect(&settings(&uri(&authority.ca()))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_distinguished_from_an_unavailable_one() {
    let mongo = Mongo::start(MongoOptions::default()).await.unwrap();
    let why = refused(&format!(
        "mongodb://{}/?replicaSet=rs0&tls=true",
        mongo.host(0)
    ))
    .await;
    assert!(why.contains("does not speak TLS"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collections_are_there_before_the_first_transaction() {
    let mongo = Mongo::start(MongoOptions::default()).await.unwrap();
    let database = connect(&settings(&mongo.uri())).await.unwrap();
    let found: HashSet<String> = database
        .list_collection_names()
        .await
        .unwrap()
        .into_iter()
        .collect();
    for (_, name) in Mapping::builtin().collections() {
        assert!(found.contains(name), "{name}");
    }
    assert!(
        found.contains("workflows_sink_checkpoints")
            && found.contains("workflows_sink_dead_letters")
    );
    connect(&settings(&mongo.uri())).await.expect("again");

    database
        .collection::<Document>("models")
        .drop()
        .await
        .unwrap();
    let view = doc! { "create": "models", "viewOn": "datasets", "pipeline": [] };
    database.run_command(view).await.unwrap();
    let why = refused(&mongo.uri()).await;
    assert!(
        why.contains("workflows.models is not a collection"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_judges_state_by_state_is_not_folded() {
    let mongo = Mongo::start(MongoOptions::default()).await.unwrap();
    let database = connect(&settings(&mongo.uri())).await.unwrap();
    assert_eq!(
        database::unfoldable(&database).await.unwrap(),
        HashSet::new()
    );

    let validator = doc! { "collMod": "models", "validator": { "kind": "Model" } };
    database.run_command(validator).await.unwrap();
    let index = |name: &str, unique: bool| {
        doc! { "createIndexes": name, "indexes": [{ "key": { "name": 1 }, "name": "by_name", "unique": unique }] }
    };
    database.run_command(index("teams", true)).await.unwrap();
    database
        .run_command(index("families", false))
        .await
        .unwrap();
    let expected = HashSet::from(["models".to_owned(), "teams".to_owned()]);
    assert_eq!(database::unfoldable(&database).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_mongodb_is_waited_for() {
    let mut worker = Worker::start(environment("mongodb://127.0.0.1:9/?replicaSet=rs0"));
    worker.logs("MongoDB does not answer yet").await;
    let (live, ready) = (
        worker.get("/livez").unwrap(),
        worker.get("/readyz").unwrap(),
    );
    assert_eq!(live.0, 200);
    assert_eq!(ready.0, 503);
    assert!(ready.1.contains("MongoDB does not answer"), "{}", ready.1);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_only_over_tls_and_a_database_of_another_case_are_named() {
    let authority = Authority::new().expect("an authority");
    let options = MongoOptions {
        tls: Some(authority.server_named(&["127.0.0.1"]).expect("signed")),
        ..MongoOptions::default()
    };
    let mongo = Mongo::start(options).await.expect("a replica set");
    let why = refused(&format!("mongodb://{}/?replicaSet=rs0", mongo.host(0))).await;
    assert!(
        why.contains("only over TLS") && why.contains("tls=true"),
        "{why}"
    );
    let admin = Client::with_uri_str(mongo.uri()).await.expect("a client");
    let other = admin.database("Workflows").collection::<Document>("x");
    other.insert_one(doc! {}).await.expect("inserted");
    let mut vars = environment(&mongo.uri());
    let name = "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE";
    vars.insert(name.to_owned(), "workflows".to_owned());
    let (why, _) = super::refused(&vars).await;
    assert!(
        why.contains("upper and lower case") && why.contains(name),
        "{why}"
    );
}
