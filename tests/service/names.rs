//! A record holds nothing up, however many names it has.

use bson::Bson;
use local_stack::Message;
use test_support::scene::Scene;

/// 2.3 MB of names: minutes of `$set`.
const MANY: usize = 200_000;

fn dataset(n: usize, fields: &str) -> Message {
    let id = format!("{n:032x}");
    Message::new(
        id.clone(),
        format!(r#"{{"id":"{id}","kind":"Dataset",{fields}}}"#),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_200_000_names_is_applied_and_those_behind_it_flow() {
    let scene = Scene::new("many_names", 1).await;
    let fields: Vec<String> = (0..MANY).map(|n| format!(r#""n{n}":{}"#, n % 10)).collect();
    let mut log: Vec<Message> = (1..=500).map(|n| dataset(n, r#""size":1"#)).collect();
    log.insert(250, dataset(1, &fields.join(",")));
    scene.produce(&log);
    let mut worker = scene.worker(&[]);
    scene.settled().await;

    let entities = scene.entities().await;
    assert_eq!(entities.len(), 500);
    let many = &entities[&("datasets".to_owned(), format!("{:032x}", 1))];
    assert_eq!(many.len(), MANY + "_id kind size".split(' ').count());
    assert_eq!(many.get("size"), Some(&Bson::Int32(1)));
    assert_eq!(many.get("n199999"), Some(&Bson::Int32(9)));
    assert!(scene.dead_letters().await.is_empty());
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
