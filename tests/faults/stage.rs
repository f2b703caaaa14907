//! The servers, all behind proxies, that the runs of one process share.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use bson::doc;
use local_stack::mongo::{USER, USER_DATABASE};
use local_stack::{Cluster, Mongo, MongoOptions, Proxy, Topology, Toxiproxy};
use mongodb::{Client, Database};
use test_support::credentials::{Credentials, PASSWORD, PASSWORD_NEXT};
use test_support::look::number;
use test_support::wait::until;

use crate::fault::Side;

/// How many of each.
pub const SERVERS: usize = 3;

/// A broker cluster and a replica set.
pub struct Stage {
    /// The brokers.
    pub cluster: Cluster,
    /// The replica set, with authentication.
    pub mongo: Mongo,
    /// The password of the service's user, where the workers look for it.
    pub credentials: Credentials,
    password: String,
}

impl Stage {
    /// Starts everything.
    pub async fn start(oplog_mb: u32) -> Stage {
        let toxiproxy = tokio::task::spawn_blocking(Toxiproxy::install).await;
        let toxiproxy = toxiproxy.expect("no panic").expect("toxiproxy");
        let options = MongoOptions {
            topology: Topology::ReplicaSet(SERVERS),
            auth: true,
            proxies: Some(toxiproxy.clone()),
            oplog_mb,
            ..MongoOptions::default()
        };
        let (cluster, mongo) =
            tokio::join!(Cluster::start(SERVERS, &toxiproxy), Mongo::start(options));
        let mongo = mongo.expect("a replica set");
        let password = mongo.password().expect("a password").to_owned();
        Stage {
            cluster: cluster.expect("a cluster"),
            credentials: Credentials::new(&[(PASSWORD, &password)]),
            password,
            mongo,
        }
    }

    /// The proxies on one side.
    pub fn proxies(&self, side: Side) -> Vec<Proxy> {
        let of = |server: usize| match side {
            Side::Kafka => self.cluster.proxy(server).clone(),
            Side::Mongodb => self.mongo.proxy(server).expect("a proxy").clone(),
        };
        (0..SERVERS).map(of).collect()
    }

    /// A database of the run's own that the service's user may write.
    pub async fn database(&self, name: &str) -> Database {
        let admin = self.admin().await;
        let roles = [doc! { "role": "readWrite", "db": name }];
        let grant = doc! { "updateUser": USER, "roles": roles.to_vec() };
        admin
            .database(USER_DATABASE)
            .run_command(grant)
            .await
            .expect("a role");
        admin.database(name)
    }

    /// A client who may do everything, and gives up soon while the set has no primary.
    pub async fn admin(&self) -> Client {
        let uri = format!("{}&serverSelectionTimeoutMS=5000", self.mongo.admin_uri());
        Client::with_uri_str(uri).await.expect("a client")
    }

    /// Gives the service's user another password. `announced`: the workers can read it before; else
    /// their logins are refused for a while.
    pub async fn rotate(&mut self, password: String, announced: bool) {
        if announced {
            let both = [
                (PASSWORD, self.password.as_str()),
                (PASSWORD_NEXT, &password),
            ];
            self.credentials.publish(&both);
        }
        let change = doc! { "updateUser": USER, "pwd": &password };
        let admin = self.admin().await;
        admin
            .database(USER_DATABASE)
            .run_command(change)
            .await
            .expect("changed");
        self.password = password;
    }

    /// Lets the workers read the password as it is now.
    pub fn publish(&mut self) {
        self.credentials.publish(&[(PASSWORD, &self.password)]);
    }

    /// The failCommand fail point of every member, on or off. How many commands it has met since
    /// the members began, over all of them.
    pub async fn fail_point(&self, mode: impl Into<bson::Bson>, data: bson::Document) -> i64 {
        let command =
            doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        let mut met = 0;
        for member in 0..SERVERS {
            let client = self.mongo.direct(member).await.expect("a client");
            let admin = client.database("admin");
            let count = AtomicI64::new(0);
            // One that rolls back lets nobody in for a moment.
            until("a fail point is set", || async {
                let reply = admin.run_command(command.clone()).await;
                reply.is_ok_and(|reply| {
                    count.store(number(reply.get("count")), Relaxed);
                    true
                })
            })
            .await;
            met += count.into_inner();
        }
        met
    }

    /// The primary's index, asked without the proxies.
    pub async fn primary(&mut self) -> usize {
        self.mongo.primary().await.expect("a primary")
    }
}

/// The time that a session lasts without a heartbeat.
pub const SESSION: Duration = Duration::from_secs(3);
/// What `max.poll.interval.ms` is set to.
pub const POLL_INTERVAL: Duration = Duration::from_secs(6);
