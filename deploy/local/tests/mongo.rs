//! The real MongoDB: every way to start it, and what can be done to it.

use std::time::Duration;

use local_stack::mongo::{DATABASE, USER};
use local_stack::{Authority, Mongo, MongoOptions, Topology};
use mongodb::Client;
use mongodb::bson::{Document, doc};

async fn insert(client: &Client, database: &str) -> mongodb::error::Result<()> {
    let collection = client.database(database).collection::<Document>("datasets");
    collection
        .insert_one(doc! { "name": "MMLU" })
        .await
        .map(drop)
}

async fn insert_in_transaction(client: &Client) -> mongodb::error::Result<()> {
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    let collection = client.database(DATABASE).collection::<Document>("datasets");
    let insert = collection.insert_one(doc! {}).session(&mut session);
    insert.await?;
    session.commit_transaction().await
}

#[tokio::test]
async fn the_user_of_the_service_may_write_its_database_and_nothing_else() {
    let mongo = Mongo::start(MongoOptions {
        auth: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = mongo.client().await.unwrap();
    insert(&client, DATABASE).await.unwrap();
    insert_in_transaction(&client).await.unwrap();

    let refused = insert(&client, "other").await.unwrap_err();
    assert!(refused.to_string().contains("not authorized"), "{refused}");
    let anonymous = Client::with_uri_str(
        mongo
            .uri()
            .replace(&format!("{USER}:{}@", mongo.password().unwrap()), ""),
    );
    let uri = mongo.uri_without_password();
    assert!(
        !uri.contains(mongo.password().unwrap()) && uri.contains(USER),
        "{uri}"
    );
    assert!(
        anonymous
            .await
            .unwrap()
            .list_database_names()
            .await
            .is_err()
    );
    insert(&mongo.admin().await.unwrap(), "other")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_standalone_has_no_transactions() {
    let options = MongoOptions {
        topology: Topology::Standalone,
        ..Default::default()
    };
    let mongo = Mongo::start(options).await.unwrap();
    let client = mongo.client().await.unwrap();
    insert(&client, DATABASE).await.unwrap();
    insert_in_transaction(&client).await.unwrap_err();
}

#[tokio::test]
async fn a_set_of_three_elects_another_primary() {
    let options = MongoOptions {
        topology: Topology::ReplicaSet(3),
        auth: true,
        ..Default::default()
    };
    let mut mongo = Mongo::start(options).await.unwrap();
    let client = mongo.client().await.unwrap();
    insert(&client, DATABASE).await.unwrap();

    let first = mongo.primary().await.unwrap();
    mongo.kill(first).unwrap();
    let second = mongo.primary().await.unwrap();
    assert_ne!(first, second);
    insert(&client, DATABASE).await.unwrap();

    mongo.restart(first).await.unwrap();
    mongo.freeze(second).unwrap();
    let third = loop {
        let primary = mongo.primary().await.unwrap();
        if primary != second {
            break primary;
        }
    };
    mongo.thaw(second).unwrap();
    let admin = mongo.direct(third).await.unwrap();
    let count = admin
        .database(DATABASE)
        .collection::<Document>("datasets")
        .count_documents(doc! {})
        .await
        .unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn data_and_port_outlive_kill_and_stop_and_fail_points_work() {
    let mut mongo = Mongo::start(MongoOptions::default()).await.unwrap();
    let (uri, client) = (mongo.uri(), mongo.client().await.unwrap());
    insert(&client, DATABASE).await.unwrap();
    mongo.kill(0).unwrap();
    mongo.restart(0).await.unwrap();
    mongo.stop(0).await.unwrap();
    mongo.restart(0).await.unwrap();
    assert_eq!(uri, mongo.uri());
    let collection = client.database(DATABASE).collection::<Document>("datasets");
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 1);

    let fail = doc! { "failCommands": ["insert"], "errorCode": 50 };
    let fail_point =
        doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": fail };
    client
        .database("admin")
        .run_command(fail_point)
        .await
        .unwrap();
    insert(&client, DATABASE).await.unwrap_err();
    insert(&client, DATABASE).await.unwrap();
}

#[tokio::test]
async fn tls_is_required_and_the_authority_is_checked() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let tls = Some(authority.server().unwrap());
    let options = MongoOptions {
        auth: true,
        tls,
        topology: Topology::ReplicaSet(2),
        ..Default::default()
    };
    let mongo = Mongo::start(options).await.unwrap();
    insert(&mongo.client().await.unwrap(), DATABASE)
        .await
        .unwrap();

    let right = authority.ca().to_string_lossy().into_owned();
    let quick = |uri: String| uri + "&serverSelectionTimeoutMS=500";
    let wrong = quick(mongo.uri().replace(&right, &other.ca().to_string_lossy()));
    let error = insert(&Client::with_uri_str(wrong).await.unwrap(), DATABASE)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let plain = quick(mongo.uri().replace("tls=true&tlsCAFile=", "appName="));
    let plain = Client::with_uri_str(plain).await.unwrap();
    let attempt = tokio::time::timeout(Duration::from_secs(30), insert(&plain, DATABASE));
    attempt.await.unwrap().unwrap_err();
}
