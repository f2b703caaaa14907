//! Strikes and heals. Each fault is one line of [`Nemesis::strike`], and where it lasts, one of
//! [`Nemesis::heal`].

mod answers;
mod records;
mod servers;
mod transactions;

use std::time::Duration;

use local_stack::Direction;
use local_stack::random::Random;
use test_support::scene::Scene;

use crate::checker::{Lineage, Refusals};
use crate::fault::{Fault, Side, Trouble};
use crate::fleet::Fleet;
use crate::load::{Load, RATE};
use crate::stage::{POLL_INTERVAL, SERVERS, SESSION, Stage};

/// Whom it can hurt.
pub struct Nemesis<'a> {
    /// The servers.
    pub stage: &'a mut Stage,
    /// The workers.
    pub fleet: &'a mut Fleet,
    /// The producer.
    pub load: &'a Load,
    /// Names.
    pub scene: &'a Scene,
    /// The logs of the topic before it was recreated.
    pub lineages: &'a mut Vec<Lineage>,
    /// When the server was made to refuse writes.
    pub refusals: &'a mut Vec<Refusals>,
    /// How many partitions the topic is made with.
    pub partitions: i32,
    /// Chance, for one step.
    pub random: Random,
}

/// A fault that lasts until it is healed.
pub struct Struck {
    fault: Fault,
    /// Which server or worker.
    pub target: usize,
    /// How long it should last.
    pub lasts: Duration,
}

const BRIEFLY: Duration = Duration::from_secs(2);
const PAST_THE_SESSION: Duration = SESSION.saturating_add(BRIEFLY);
const PAST_THE_POLL_INTERVAL: Duration = POLL_INTERVAL.saturating_add(BRIEFLY);

impl Nemesis<'_> {
    /// Begins a fault.
    pub async fn strike(&mut self, fault: Fault) -> Struck {
        use Fault::*;
        let mut struck = Struck {
            fault,
            target: 0,
            lasts: Duration::ZERO,
        };
        match fault {
            WorkerKilled => {
                struck.target = self.any_worker();
                self.fleet.kill(struck.target);
            }
            WorkerStopped => {
                let worker = self.any_worker();
                self.fleet.stop(worker).await;
            }
            WorkerFrozen => {
                struck.target = self.any_worker();
                self.fleet.members[struck.target].freeze();
                struck.lasts = PAST_THE_SESSION;
            }
            WorkerThrottled => {
                struck.target = self.any_worker();
                self.fleet.members[struck.target].throttle(PAST_THE_SESSION);
                struck.lasts = PAST_THE_SESSION;
            }
            WorkerAdded => {
                self.fleet.wanted += 1;
                self.fleet.top_up();
                struck.lasts = BRIEFLY;
            }
            WorkerRemoved => {
                self.fleet.wanted = (self.fleet.wanted - 1).max(1);
                let worker = self.any_worker();
                self.fleet.stop(worker).await;
            }
            ClockFarOff => {
                let worker = self.any_worker();
                self.fleet.stop(worker).await;
                let offset = ["+400d", "-7300d"][self.random.below(2)];
                self.fleet.start_with_clock(offset).await;
                struck.lasts = PAST_THE_SESSION;
            }
            BrokerKilled => {
                struck.target = self.random.below(SERVERS);
                self.stage
                    .cluster
                    .server(struck.target)
                    .kill()
                    .expect("killed");
                struck.lasts = PAST_THE_SESSION;
            }
            BrokerFrozen => {
                struck.target = self.random.below(SERVERS);
                let broker = self.stage.cluster.server(struck.target);
                broker.freeze().expect("frozen");
                struck.lasts = PAST_THE_SESSION;
            }
            BrokerCutOff => {
                struck.target = self.random.below(SERVERS);
                self.stage.cluster.cut_off(struck.target).expect("cut off");
                struck.lasts = PAST_THE_SESSION;
            }
            BrokersRestarted => self.restart_brokers().await,
            ClaimsStolen => self.steal_claims().await,
            OffsetsResolved => self.resolve_offsets().await,
            OffsetsReset => self.reset_offsets().await,
            LeadershipMoved => self.move_leadership().await,
            LeadershipFlips => {
                for _ in 0..3 {
                    self.move_leadership().await;
                }
            }
            CoordinatorLost => {
                struck.target = self.coordinator().await;
                self.stage
                    .cluster
                    .server(struck.target)
                    .freeze()
                    .expect("frozen");
                struck.lasts = PAST_THE_SESSION;
            }
            PrimaryKilled => {
                struck.target = self.stage.primary().await;
                self.stage.mongo.kill(struck.target).expect("killed");
                struck.lasts = BRIEFLY;
            }
            PrimaryFrozen => {
                struck.target = self.stage.primary().await;
                self.stage.mongo.freeze(struck.target).expect("frozen");
                struck.lasts = PAST_THE_SESSION;
            }
            PrimarySteppedDown => self.step_down().await,
            MembersRestarted => self.restart_members().await,
            PrimaryRolledBack => self.roll_back().await,
            MongodbDown => {
                for member in 0..SERVERS {
                    self.stage.mongo.kill(member).expect("killed");
                }
                struck.lasts = PAST_THE_POLL_INTERVAL;
            }
            Network(side, trouble) => {
                struck.target = self.trouble(side, trouble).await;
                struck.lasts = 2 * BRIEFLY;
            }
            UpdateErrors => self.errors_on(&["update", "delete"]).await,
            CommitErrors => {
                self.errors_on(&["commitTransaction", "findAndModify"])
                    .await
            }
            WriteConcernErrors => self.write_concern_errors().await,
            CommitAnswersLost => self.lose_commit_answers().await,
            DiskFull => {
                self.fail_with(14031, &["update", "commitTransaction"])
                    .await;
                struck.lasts = BRIEFLY;
            }
            NotWritablePrimary => {
                self.fail_with(10107, &["update", "commitTransaction", "findAndModify"])
                    .await;
                struck.lasts = BRIEFLY;
            }
            DocumentRefused => {
                self.refuse_documents().await;
                struck.lasts = Duration::from_millis(300);
            }
            PasswordRotated => self.rotate_password().await,
            Poison => self.load.send(records::poison(&mut self.random)).await,
            LargeRecords => self.load.send(records::large(&mut self.random)).await,
            Tombstones => self.load.send(records::tombstones(&mut self.random)).await,
            Transactions => self.run_transactions().await,
            Burst => {
                self.load.rate(100 * RATE);
                struck.lasts = Duration::from_millis(500);
            }
            PartitionsAdded => self.add_partitions().await,
            TopicRecreated => {
                self.load.pause().await;
                self.recreate_topic(None).await;
                self.load.resume(self.lineages.len(), self.partitions);
                struck.lasts = BRIEFLY;
            }
            TopicRecreatedUnseen => {
                struck.target = self.random.below(SERVERS);
                self.recreate_topic_unseen(struck.target).await;
                struck.lasts = BRIEFLY;
            }
        }
        struck
    }

    /// Ends it.
    pub async fn heal(&mut self, struck: Struck) {
        use Fault::*;
        let target = struck.target;
        match struck.fault {
            WorkerFrozen => {
                if let Some(member) = self.fleet.members.get_mut(target) {
                    member.thaw();
                }
            }
            WorkerThrottled => {
                if let Some(member) = self.fleet.members.get_mut(target) {
                    member.throttle_no_more();
                }
            }
            BrokerKilled => self.stage.cluster.restart(target).await.expect("restarted"),
            CoordinatorLost | BrokerFrozen => {
                self.stage.cluster.server(target).thaw().expect("thawed");
            }
            BrokerCutOff => self.stage.cluster.rejoin(target).expect("healed"),
            TopicRecreatedUnseen => {
                self.stage.cluster.rejoin(target).expect("healed");
                self.see_topic(target).await;
                self.load.resume(self.lineages.len(), self.partitions);
            }
            PrimaryKilled => self.stage.mongo.restart(target).await.expect("restarted"),
            PrimaryFrozen => self.stage.mongo.thaw(target).expect("thawed"),
            MongodbDown => {
                for member in 0..SERVERS {
                    self.stage.mongo.server(member).start().expect("started");
                }
            }
            Network(side, _) => {
                for proxy in self.stage.proxies(side) {
                    proxy.heal().expect("healed");
                }
            }
            DocumentRefused => self.refuse_no_more().await,
            DiskFull | NotWritablePrimary => {
                self.stage.fail_point("off", bson::Document::new()).await;
            }
            Burst => self.load.rate(RATE),
            _ => {}
        }
    }

    fn any_worker(&mut self) -> usize {
        self.random.below(self.fleet.members.len())
    }

    /// The server that it strikes, where it strikes only one.
    async fn trouble(&mut self, side: Side, trouble: Trouble) -> usize {
        let direction = [Direction::Upstream, Direction::Downstream][self.random.below(2)];
        let bytes = [20, 200, 2_000, 200_000][self.random.below(4)];
        let one = match side {
            Side::Kafka => self.random.below(SERVERS),
            Side::Mongodb => self.stage.primary().await,
        };
        for (server, proxy) in self.stage.proxies(side).into_iter().enumerate() {
            match trouble {
                Trouble::Reset => proxy.reset(Duration::ZERO),
                Trouble::Slow => proxy.latency(BRIEFLY, BRIEFLY / 2),
                Trouble::Cut => proxy.cut_after(bytes),
                Trouble::OneWay if server == one => proxy.black_hole(direction),
                Trouble::OneWay => Ok(()),
            }
            .expect("toxiproxy does it");
        }
        one
    }
}
