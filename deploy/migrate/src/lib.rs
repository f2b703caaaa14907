//! `datastore-migrate` moves what the old datastore has to where the platform has it now: entities,
//! accounts, and the names of objects.
//!
//! # The way of an entity
//!
//! ```text
//! datastore_export: file → convert: by mapping and remap → contract: by the service → topic
//! record or line → Entity → Converted → Accepted → record
//! ```
//!
//! 1. [`export`] gives the entities of files, one after the other.
//! 2. [`mapping`] says what becomes of each kind, [`watch`] which of its lines match nothing, and [`remap`] has the new ids, which never
//!    change. [`ids`] adds to them.
//! 3. [`convert`] is pure: an entity becomes the contract's [`json`]. [`contract`] asks the
//!    service's own decoder what it would store. [`resolve`] finds what a reference names, and
//!    [`references`] are followed to their targets.
//! 4. [`entities`] moves what a topic ([`present`], [`sender`]) or the [`database`] lacks, and
//!    [`accounts`] users and their keys.
//! 5. [`verify`] holds all of it against MongoDB, and [`verification`] is its report; [`objects`] plans
//!    copies, and [`comparison`] holds two buckets against each other; [`delete_old`] says what can go,
//!    once both have said yes. [`state`] remembers that they did.
//!
//! Nothing is kept in memory of an entity but its ids and hashes: some 220 bytes for the remap
//! file, and some 70 for what a topic has.

pub mod accounts;
pub(crate) mod api_keys;
pub mod brokers;
pub mod cli;
pub mod comparison;
pub mod contract;
pub mod convert;
pub mod database;
pub mod delete_old;
pub mod entities;
pub mod example;
pub mod export;
pub(crate) mod files;
pub mod id;
pub mod ids;
pub mod json;
pub(crate) mod keyring;
pub(crate) mod listing;
pub mod mapping;
pub mod objects;
pub mod present;
pub mod progress;
pub mod references;
pub mod rejection;
pub mod remap;
pub mod report;
pub mod resolve;
pub mod sender;
pub mod state;
pub mod verification;
pub mod verify;
pub mod watch;
