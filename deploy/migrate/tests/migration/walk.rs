//! The worked example of docs/migration.md, line by line in a shell, on real servers.

use std::process::{Command, Output};

use datastore_migrate::example;
use test_support::scene::Scene;
use test_support::wait::until;
use test_support::worker::Worker;

use crate::bench::Bench;
use crate::story::{documents_in_all, service};

const PAGE: &str = include_str!("../../../../docs/migration.md");
const EVENTS: &str = "DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS";
/// What needs no cloud, no build and no Python. The service runs already.
const TYPED: [&str; 4] = ["datastore-migrate ", "echo ", "sed ", "grep "];

/// The lines of the example that are typed here, as the page has them and in its order.
fn lines() -> Vec<&'static str> {
    let begin = PAGE.find("## A worked example").expect("the example");
    let end = PAGE.find("## In the cluster").expect("the example's end");
    let lines = PAGE[begin..end].lines();
    let lines = lines.filter_map(|line| line.strip_prefix("    "));
    let is_typed = |line: &&str| TYPED.iter().any(|begin| line.starts_with(begin));
    lines.filter(is_typed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_the_worked_example_does_what_the_page_says() {
    let scene = Scene::new("worked_example", 2).await;
    let mut bench = Bench::new(example::entities(60));
    bench.export("second", example::entities(66));
    bench.environment = scene.environment();
    let topic = scene.topic.clone();
    bench.environment.insert(EVENTS.to_owned(), topic);
    let mut worker = Worker::start_by([service().into(), "run".into()], scene.environment());
    let tools = service().parent().expect("a folder").to_owned();
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let lines = lines();
    assert!(lines.len() >= 15, "{lines:#?}");
    let mut yes = 0;
    for line in lines {
        if line.starts_with("datastore-migrate verify") {
            let entities = if line.contains("second") { 66 } else { 60 };
            until("all is applied", || async {
                documents_in_all(&scene).await == entities
            })
            .await;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(bench.folder.path());
        shell
            .env_clear()
            .envs(&bench.environment)
            .env("PATH", &path);
        let ran = tokio::task::spawn_blocking(move || shell.output());
        let Output {
            status,
            stdout,
            stderr,
        } = ran.await.expect("it ends").expect("a shell");
        let (out, error) = (
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr),
        );
        assert!(status.success(), "{line}: {out}{error}");
        let verifies = line.contains("verify ") && line.starts_with("datastore-migrate");
        yes += usize::from(verifies && out.contains("YES"));
    }
    assert_eq!(yes, 5, "each verify has said it");
    assert_eq!(worker.stop().await, Some(0));
}
