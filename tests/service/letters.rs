//! Dead letters that are applied after all: as if their kind had been known from the start.

use std::collections::BTreeMap;

use bson::{Document, doc};
use local_stack::random::Random;
use local_stack::{Message, MongoOptions};
use serde_json::Value;
use tempfile::NamedTempFile;
use test_support::fail_point::FailPoint;
use test_support::operator::set_checkpoint;
use test_support::scene::{CONNECTION_STRING, Scene, topics};
use test_support::wait::until;
use test_support::worker::{Worker, binary, run};
use tokio::process::Command;

const MAPPING_FILE: &str = "DYFF_WORKFLOWS_SINK__MAPPING_FILE";
const WRITE_MODE: &str = "DYFF_WORKFLOWS_SINK__WRITE_MODE";
const REJECTIONS_MAX: &str = "DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX";

/// A scene whose mapping learns of two kinds later on. The first shares the collection of one that
/// it knew, so that letters and accepted states of one entity come to one document.
pub struct Learning {
    pub scene: Scene,
    before: NamedTempFile,
    after: NamedTempFile,
    mode: &'static str,
}

impl Learning {
    pub fn new(scene: Scene, mode: &'static str) -> Learning {
        let file = |kinds: &str| {
            let mut file = NamedTempFile::new().expect("a file");
            let text = format!(
                "id='id'\nkind='kind'\nmaps=['labels']\n[collections]\nDataset='things'\n{kinds}"
            );
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
            file
        };
        Learning {
            scene,
            before: file(""),
            after: file("Novelty='things'\nJudged='judged'\n"),
            mode,
        }
    }

    fn settings<'s>(&'s self, mapping: &'s NamedTempFile) -> [(&'s str, &'s str); 3] {
        let path = mapping.path().to_str().expect("UTF-8");
        [
            (MAPPING_FILE, path),
            (WRITE_MODE, self.mode),
            (REJECTIONS_MAX, "0"),
        ]
    }

    /// A worker that knows the new kinds, or not yet.
    fn worker(&self, knows: bool) -> Worker {
        let mapping = if knows { &self.after } else { &self.before };
        self.scene.worker(&self.settings(mapping))
    }

    /// The environment of a command that knows the new kinds.
    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.scene.environment();
        let settings = self.settings(&self.after);
        environment.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        environment
    }

    /// Runs `dead-letters` with these words: its exit code, and what it printed.
    pub async fn letters(&self, words: &[&str]) -> (Option<i32>, String) {
        let arguments = [&["dead-letters"], words].concat();
        let (code, out, err) = run(&self.environment(), &arguments).await;
        // Where a command succeeds, standard error has its progress alone, if it takes long.
        match code {
            Some(0) => (code, out),
            _ => (code, out + &err),
        }
    }

    /// Consumes what there is without knowing the new kinds.
    pub async fn without_knowing(&self) {
        let mut worker = self.worker(false);
        self.scene.settled().await;
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }

    /// The documents of a service that knew the kinds from the start.
    pub async fn expected(&self) -> BTreeMap<(String, String), Document> {
        let mut knowing = Scene::on("unused", &self.scene.bootstrap, &self.scene.uri).await;
        knowing.topic = self.scene.topic.clone();
        knowing.group = format!("{}.knowing", self.scene.group);
        let name = format!("{}_knowing", self.scene.database.name());
        knowing.database = self.scene.database.client().database(&name);
        let mut worker = knowing.worker(&self.settings(&self.after));
        knowing.settled().await;
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
        knowing.entities().await
    }

    async fn states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for letter in self.scene.dead_letters().await {
            let state = letter.get_str("state").expect("a state").to_owned();
            *states.entry(state).or_default() += 1;
        }
        states
    }
}

pub fn record(n: usize, kind: &str, fields: &str) -> Message {
    let id = format!("{n:032x}");
    let json = format!(r#"{{"id":"{id}","kind":"{kind}"{fields}}}"#);
    Message {
        partition: Some(0),
        ..Message::new(id, json)
    }
}

/// States of a few entities, each sometimes of the new kind, and each with some of a few fields.
pub fn states(random: &mut Random, count: usize, entities: usize) -> Vec<Message> {
    let state = |_| {
        let (n, kind) = (
            random.below(entities),
            ["Dataset", "Novelty"][random.below(2)],
        );
        let mut fields = String::new();
        for name in ["a", "b", "c"] {
            if random.below(2) == 0 {
                fields.push_str(&format!(r#","{name}":{}"#, random.below(1_000)));
            }
        }
        Message {
            partition: Some(n as i32 % 2),
            ..record(n, kind, &fields)
        }
    };
    (0..count).map(state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_new_kind_are_replayed_as_if_it_had_always_been_known() {
    for (name, mode) in [("learns", "set"), ("learns_replacing", "replace")] {
        let learning = Learning::new(Scene::new(name, 2).await, mode);
        let mut random = Random::new(7);
        learning.scene.produce(&states(&mut random, 400, 60));
        learning.without_knowing().await;
        let open = learning.states().await["open"];
        let (code, shown) = learning.letters(&["replay"]).await;
        assert_eq!(code, Some(0), "{shown}");
        assert!(
            shown.contains("would be upserted") && shown.contains("--yes"),
            "{shown}"
        );
        assert_eq!(
            learning.states().await,
            BTreeMap::from([("open".to_owned(), open)])
        );

        // The service knows the kind now, and goes on while the letters are replayed.
        let mut worker = learning.worker(true);
        let replay = learning.letters(&["replay", "--yes", "--rate", "150", "--json"]);
        let produce = async {
            for _ in 0..20 {
                learning.scene.produce(&states(&mut random, 30, 60));
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let ((code, replayed), ()) = tokio::join!(replay, produce);
        assert_eq!(code, Some(0), "{replayed}");
        let report: Value = serde_json::from_str(&replayed).expect("JSON");
        assert_eq!(report["not_replayed"], serde_json::json!([]), "{report}");
        let counted =
            [&report["upserted"], &report["unchanged"]].map(|n| n.as_u64().expect("a count"));
        assert_eq!(counted.iter().sum::<u64>(), open as u64, "{report}");
        assert!(counted[0] > 0 && counted[1] > 0, "{report}");

        learning.scene.settled().await;
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
        assert_eq!(
            learning.states().await,
            BTreeMap::from([("replayed".to_owned(), open)])
        );
        assert_eq!(
            learning.scene.entities().await,
            learning.expected().await,
            "{mode}"
        );
        let (code, none) = learning.letters(&["replay", "--yes"]).await;
        let has = format!("no dead letters match; the group {name}.group has {open} replayed\n");
        assert_eq!((code, none), (Some(0), has));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_is_repeated_and_two_at_once_do_no_harm() {
    let (scene, mongo) = Scene::apart("replay_killed", 2, MongoOptions::default()).await;
    let learning = Learning::new(scene, "set");
    let mut random = Random::new(11);
    learning.scene.produce(&states(&mut random, 900, 500));
    learning.without_knowing().await;
    let open = learning.states().await["open"];
    let mut worker = learning.worker(true);
    let client = mongo.client().await.expect("a client");
    // What a killed replay leaves open ends sooner than after a minute.
    let limit = doc! { "setParameter": 1, "transactionLifetimeLimitSeconds": 5 };
    let limited = client.database("admin").run_command(limit).await;
    limited.expect("a shorter life");
    let mut failing = FailPoint::of(&client);
    let replayer = |words: &[&str]| {
        let mut environment = learning.environment();
        let uri = learning.scene.uri_of("replayer");
        environment.insert(CONNECTION_STRING.to_owned(), uri);
        let mut command = Command::new(binary());
        command
            .args(["dead-letters", "replay", "--yes"])
            .args(words);
        command.env_clear().envs(environment).kill_on_drop(true);
        command.spawn().expect("it runs")
    };

    // Later states of its keys are applied after it has read the log, and before it writes.
    let data = doc! {
        "failCommands": ["findAndModify"], "appName": "replayer",
        "blockConnection": true, "blockTimeMS": 5_000,
    };
    failing.set(doc! { "times": 1 }, data).await;
    let mut held_up = replayer(&["--partition", "0"]);
    failing.met(1).await;
    learning.scene.produce(&states(&mut random, 400, 500));
    learning.scene.settled().await;
    let ended = held_up.wait().await.expect("it ends");
    assert!(ended.success(), "{ended}");

    // While it commits, the lane cannot.
    failing
        .block(&["commitTransaction"], "replayer", 2_000)
        .await;
    let mut killed = replayer(&["--rate", "50"]);
    failing.met(1).await;
    let conflicts = || worker.metric("workflows_sink_retries_total", "\"conflict\"");
    let before = conflicts();
    let new_keys = (1_000..1_010).map(|n| Message {
        partition: Some(1),
        ..record(n, "Dataset", "")
    });
    learning.scene.produce(&new_keys.collect::<Vec<_>>());
    until("the lane conflicts with it", || async {
        conflicts() > before
    })
    .await;
    failing.met(2).await;
    killed.kill().await.expect("killed");
    failing.off().await;
    let states_after = learning.states().await;
    assert!(states_after.contains_key("replayed"), "{states_after:?}");
    assert!(states_after.contains_key("open"), "{states_after:?}");

    let both = async {
        tokio::join!(
            learning.letters(&["replay", "--yes", "--rate", "200"]),
            learning.letters(&["replay", "--yes", "--rate", "200"]),
        )
    };
    let produce = async {
        for _ in 0..30 {
            learning.scene.produce(&states(&mut random, 20, 500));
        }
    };
    let (((one, said), (other, also)), ()) = tokio::join!(both, produce);
    assert_eq!((one, other), (Some(0), Some(0)), "{said}{also}");
    learning.scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    assert_eq!(
        learning.states().await,
        BTreeMap::from([("replayed".to_owned(), open)])
    );
    assert_eq!(learning.scene.entities().await, learning.expected().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_lost_is_decided_by_the_document_or_left() {
    let learning = Learning::new(Scene::uncompacted("log_lost", 1).await, "set");
    let scene = &learning.scene;
    let judged = scene.database.create_collection("judged");
    let validator = doc! { "size": { "$gte": 0 } };
    judged.validator(validator).await.expect("a collection");
    // Too large for a whole letter, and not for a document.
    let large = format!(r#","text":"{}""#, "x".repeat((15 << 20) + 200_000));
    scene.produce(&[
        record(1, "Novelty", &large),
        record(5, "Novelty", &large),
        record(2, "Novelty", r#","a":1"#),
        record(2, "Dataset", r#","a":2,"b":1"#),
        record(3, "Novelty", r#","a":1"#),
        record(4, "Novelty", r#","c":1,"b":9"#),
        record(4, "Dataset", r#","b":1"#),
        record(6, "Judged", r#","size":1"#),
        record(7, "Judged", r#","size":-1"#),
        record(8, "Unheard", ""),
    ]);
    learning.without_knowing().await;
    let cut = scene.dead_letters().await;
    assert_eq!(
        cut.iter()
            .filter(|letter| letter.contains_key("cut"))
            .count(),
        2
    );

    let (code, out) = learning.letters(&["replay"]).await;
    assert_eq!(code, Some(1), "the dry run says so too: {out}");
    let unheard = "1 of 8 letters would not be replayed";
    assert!(
        out.contains(unheard) && out.contains("do it with --yes"),
        "{out}"
    );

    // The log still has the whole of what was cut.
    let (code, out) = learning
        .letters(&["replay", "--key", &format!("{:032x}", 1), "--yes"])
        .await;
    assert_eq!((code, out.as_str()), (Some(0), "1 letter: 1 upserted\n"));
    let (code, out) = learning
        .letters(&["replay", "--kind", "Judged", "--yes"])
        .await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.starts_with("2 letters: 1 upserted, 1 rejected again (write_error 121)\n"),
        "{out}"
    );
    let refused = scene.dead_letters().await;
    let refused = refused.iter().find(|letter| {
        letter
            .get_str("reason")
            .is_ok_and(|reason| reason == "write_error")
    });
    let refused = refused.expect("the new reason");
    assert_eq!(refused.get_str("state").expect("a state"), "open");
    let error = refused.get_document("error").expect("an error");
    assert!(
        error
            .get_document("info")
            .is_ok_and(|info| info.contains_key("details")),
        "{error}"
    );

    // What covers a field of the fourth stays in the log.
    let topic = topics().await;
    topic
        .delete_records(&scene.topic, 0, 6)
        .await
        .expect("deleted");
    let (code, out) = learning
        .letters(&["replay", "--reason", "unknown_kind", "--yes", "--json"])
        .await;
    assert_eq!(code, Some(1), "{out}");
    let report: Value =
        serde_json::from_str(&out[..out.rfind('}').expect("JSON") + 1]).expect("JSON");
    assert_eq!(report["upserted"], 2, "{report}");
    let left = report["not_replayed"].as_array().expect("a list");
    let left: Vec<&str> = left
        .iter()
        .map(|left| left["why"].as_str().expect("a reason"))
        .collect();
    let expected = [
        "unknown_kind Unheard",
        "a later state may have been compacted away: field a",
        "the letter was cut, and its record is no longer in the log",
    ];
    assert_eq!(left, expected, "{report}");
    let entities = scene.entities().await;
    let of = |n: usize| &entities[&("things".to_owned(), format!("{n:032x}"))];
    assert_eq!(of(2).get_i32("a").ok(), Some(2));
    assert_eq!(of(3).get_i32("a").ok(), Some(1));
    assert_eq!(
        (of(4).get_i32("b").ok(), of(4).get_i32("c").ok()),
        (Some(1), Some(1))
    );

    // A checkpoint of another topic has no place for them.
    set_checkpoint(scene, 0, doc! { "topic_id": bson::Uuid::new() }).await;
    let (code, out) = learning.letters(&["replay", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(
        out.contains("4 not replayed (they are of a former topic of this name)"),
        "{out}"
    );
    let (code, out) = learning
        .letters(&["discard", "--kind", "Unheard", "--why", "a test", "--yes"])
        .await;
    assert_eq!((code, out.as_str()), (Some(0), "1 letter discarded\n"));
    let (code, out) = learning.letters(&["summary"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.starts_with("group log_lost.group: 3 open, 4 replayed, 1 discarded\n"),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_a_bar_and_a_log_has_none() {
    let learning = Learning::new(Scene::new("replay_bar", 1).await, "set");
    let letters: Vec<Message> = (0..20).map(|n| record(n, "Novelty", "")).collect();
    learning.scene.produce(&letters);
    learning.without_knowing().await;
    let line = format!("'{}' dead-letters replay", binary().display());
    let on_terminal = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(learning.environment())
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output();
    let on_terminal = on_terminal.await.expect("it runs");
    let shown = String::from_utf8_lossy(&on_terminal.stdout);
    let bar = shown.contains("/20 letters, ") && shown.contains('\u{2591}');
    assert!(bar, "{shown}");
    let (_, out, error) = run(&learning.environment(), &["dead-letters", "replay"]).await;
    let told = format!("{out}{error}");
    assert!(
        !told.contains('\u{2591}') && !told.contains('\x1b'),
        "{told}"
    );
}
