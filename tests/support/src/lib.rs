//! The service as a process, in scenes on real servers: what the tests of all binaries share.

pub mod alerts;
pub mod cgroup;
pub mod credentials;
pub mod datastore;
pub mod entities;
pub mod fail_point;
pub mod history;
pub mod http;
pub mod load;
pub mod locked;
pub mod look;
pub mod operator;
pub mod scene;
pub mod sieve;
pub mod wait;
pub mod wire;
pub mod worker;
