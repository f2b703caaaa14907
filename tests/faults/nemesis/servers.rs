//! What takes several steps: leadership, elections, rollback, topics, passwords.

use std::time::Duration;

use bson::{Document, Uuid, doc};
use local_stack::Topics;
use test_support::wait::until;
use test_support::worker::run;
use workflows_sink::checkpoint;

use super::{BRIEFLY, Nemesis};
use crate::fault::Side;
use crate::round::read_log;
use crate::stage::SERVERS;
use crate::witness;

/// How long a broker may take to hand over and end.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// How long the controller is given to move the leadership, and how often it is asked to.
const MOVED_WITHIN: Duration = Duration::from_secs(15);
const MOVES_MAX: usize = 4;

/// How a command that moves offsets says that a server does not answer; of MongoDB also as the driver
/// says it.
const UNANSWERED: [&str; 7] = [
    "MongoDB does not answer",
    "Kind: ",
    "Kafka does not answer",
    "not answered",
    "the log could not be looked up",
    "the logs could not be held against the checkpoints",
    "the group's members could not be listed",
];

impl Nemesis<'_> {
    pub(super) async fn move_leadership(&mut self) {
        let (cluster, topic) = (&self.stage.cluster, self.scene.topic.as_str());
        let leader = cluster.leader(topic, 0).await.expect("a leader");
        for _ in 0..MOVES_MAX {
            cluster.move_leadership(topic).await.expect("a new order");
            let moved = until("the leadership has moved", || async {
                cluster
                    .leader(topic, 0)
                    .await
                    .is_ok_and(|now| now != leader)
            });
            // The broker that is to lead may not have caught up, or the one that was asked who
            // leads may not have heard of it.
            if tokio::time::timeout(MOVED_WITHIN, moved).await.is_ok() {
                return;
            }
        }
        panic!("the leadership does not move");
    }

    /// A rolling update of the brokers.
    pub(super) async fn restart_brokers(&mut self) {
        for broker in 0..SERVERS {
            let server = self.stage.cluster.server(broker);
            server.stop(STOP_DEADLINE).await.expect("stopped");
            let restarted = self.stage.cluster.restart(broker).await;
            restarted.expect("restarted");
        }
    }

    /// A rolling update of the replica set.
    pub(super) async fn restart_members(&mut self) {
        for member in 0..SERVERS {
            self.stage.mongo.stop(member).await.expect("stopped");
            self.stage.mongo.restart(member).await.expect("restarted");
        }
    }

    /// What a person types at the wrong time: no partition is stopped, so nothing may move.
    pub(super) async fn resolve_offsets(&mut self) {
        for ways in [
            &["--yes"][..],
            &["--retry", "--yes"],
            &["--continue", "--yes"],
        ] {
            let resolve = [&["offsets", "resolve"], ways].concat();
            let (code, out, error) = run(&self.fleet.environment, &resolve).await;
            // A server that does not answer is no reason to move anything either.
            let is_right = match code {
                Some(0) => out.contains("nothing to do"),
                Some(1) => UNANSWERED.iter().any(|says| error.contains(says)),
                _ => false,
            };
            assert!(is_right, "{code:?} {out}{error}");
        }
    }

    /// What a person types who has not stopped the service: it is refused, and nothing may move.
    pub(super) async fn reset_offsets(&mut self) {
        for to in ["earliest", "latest", "1"] {
            let reset = ["offsets", "reset", "--to", to, "--yes"];
            let (code, out, error) = run(&self.fleet.environment, &reset).await;
            let is_refused = code == Some(1) && error.contains("member(s)");
            assert!(is_refused, "{code:?} {out}{error}");
        }
    }

    /// The broker that coordinates the workers' group.
    pub(super) async fn coordinator(&mut self) -> usize {
        self.stage
            .cluster
            .coordinator(&self.scene.group)
            .await
            .expect("a coordinator")
    }

    /// What a worker does that then hangs. It retries while there is no primary.
    pub(super) async fn steal_claims(&mut self) {
        let checkpoints = self
            .scene
            .database
            .collection::<Document>(checkpoint::COLLECTION);
        let claim = doc! {
            "$set": { "owner": Uuid::new(), "session": Uuid::new(), "group_session": Uuid::new() },
            "$inc": { "epoch": 1_i64 },
            "$currentDate": { "updated_at": true },
        };
        // A transaction of several partitions then has some that are stolen in it, and some that
        // are not.
        let every_second = doc! { "_id.partition": { "$mod": [2, 0] } };
        until("the claims are stolen", || async {
            checkpoints
                .update_many(every_second.clone(), claim.clone())
                .await
                .is_ok()
        })
        .await;
    }

    pub(super) async fn step_down(&mut self) {
        let primary = self.stage.primary().await;
        let client = self.stage.mongo.direct(primary).await.expect("a client");
        let step_down =
            doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 1, "force": true };
        // It may end its connections before it answers.
        let _ = client.database("admin").run_command(step_down).await;
    }

    /// The primary goes on alone for a moment, and what it takes then is rolled back. Its
    /// secondaries are killed rather than frozen: frozen ones would find the writes in their
    /// sockets.
    pub(super) async fn roll_back(&mut self) {
        let old = self.stage.primary().await;
        let others: Vec<usize> = (0..SERVERS).filter(|member| *member != old).collect();
        for member in &others {
            self.stage.mongo.kill(*member).expect("killed");
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        self.stage.mongo.kill(old).expect("killed");
        for member in &others {
            self.stage.mongo.server(*member).start().expect("started");
        }
        let new = self.stage.primary().await;
        assert_ne!(new, old);
        self.stage.mongo.restart(old).await.expect("restarted");
    }

    /// The password changes, and connections break so that the workers meet the change. They can
    /// read the new one before, or only after a login was refused.
    pub(super) async fn rotate_password(&mut self) {
        let password = format!("{:016x}{:016x}", self.random.bits(), self.random.bits());
        let announced = self.random.bits().is_multiple_of(2);
        self.stage.rotate(password, announced).await;
        for proxy in self.stage.proxies(Side::Mongodb) {
            proxy.reset(Duration::ZERO).expect("reset");
            proxy.heal().expect("healed");
        }
        tokio::time::sleep(BRIEFLY).await;
        self.stage.publish();
    }

    pub(super) async fn add_partitions(&mut self) {
        let topics = self.stage.cluster.topics().expect("topics");
        let ends =
            witness::log_ends(&self.stage.cluster.direct_bootstrap(), &self.scene.topic).await;
        let total = ends.expect("the ends of the log").len() as i32 + 2;
        topics
            .add_partitions(&self.scene.topic, total)
            .await
            .expect("added");
        self.load.partitions(total);
    }

    /// Deletes the topic and creates it again, by brokers other than `unseen`, which does not learn
    /// of it. Nothing is produced meanwhile.
    pub(super) async fn recreate_topic(&mut self, unseen: Option<usize>) {
        let (cluster, topic) = (&self.stage.cluster, self.scene.topic.as_str());
        let bootstrap = cluster.direct_bootstrap_where(|broker| Some(broker) != unseen);
        let topics = Topics::new(&bootstrap).expect("topics");
        let lineage = read_log(&bootstrap, topic).await;
        self.lineages.push(lineage);
        topics.delete(topic).await.expect("deleted");
        // A broker that has not learned of it yet acknowledges records into the log that is
        // deleted.
        let gone = cluster.everywhere_but(unseen, topic, 0);
        gone.await.expect("gone");
        witness::create_topic(&topics, topic, self.partitions).await;
        let created = cluster.everywhere_but(unseen, topic, self.partitions as usize);
        created.await.expect("the topic");
    }

    /// The same while a broker is cut off, and others lead what it led.
    pub(super) async fn recreate_topic_unseen(&mut self, unseen: usize) {
        self.load.pause().await;
        let (cluster, topic) = (&self.stage.cluster, self.scene.topic.as_str());
        cluster.cut_off(unseen).expect("cut off");
        let others = cluster.direct_bootstrap_where(|broker| broker != unseen);
        until("others lead", || async {
            let leaders = cluster.leaders_as_known_to(&others, topic).await;
            leaders.is_ok_and(|leaders| leaders.values().all(|leader| *leader != unseen))
        })
        .await;
        self.recreate_topic(Some(unseen)).await;
    }

    /// Waits until a broker that was cut off knows the topic by its new id.
    pub(super) async fn see_topic(&mut self, unseen: usize) {
        self.stage
            .cluster
            .ready()
            .await
            .expect("the cluster is whole");
        let (cluster, topic) = (&self.stage.cluster, self.scene.topic.as_str());
        let bootstrap = |of: bool| {
            let of_it = move |broker| (broker == unseen) == of;
            cluster.direct_bootstrap_where(of_it)
        };
        let (own, others) = (bootstrap(true), bootstrap(false));
        until("it knows the new topic", || async {
            let own = witness::id_of_topic(&own, topic).await.ok();
            own.is_some() && own == witness::id_of_topic(&others, topic).await.ok()
        })
        .await;
    }
}
