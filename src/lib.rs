//! `workflows-sink` consumes workflow entities from Kafka and upserts them into MongoDB, each
//! record applied exactly once and in order.
//!
//! # The way of a record
//!
//! ```text
//! kafka: queue → lane: a task → record: decode, batch, fold → writer: transaction → MongoDB
//! BorrowedMessage → Record → Accepted → Batch → Plan → Settled → offset stored in Kafka
//! ```
//!
//! The rooms below are in that order.
//!
//! 1. [`kafka`] has the one thread that polls, and a queue for each partition.
//! 2. A [`lane`] drives one partition: it makes a claim on the partition's checkpoint, reads its
//!    queue, and hands batches to the writer.
//! 3. [`record`] is pure: a record is decoded to raw BSON by the kinds of the mapping, gathered in
//!    a batch, and folded into writes.
//! 4. [`writer`] runs the transaction: the guard on the checkpoint, the writes as raw commands, the
//!    dead letters. Small batches of several lanes share one. Only it can make a `Settled`.
//! 5. [`checkpoint`] says who may write a partition, and from which offset.
//! 6. [`database`] has the client, who may log in, and what an error of the server means.
//!
//! Around them: [`service`] puts it together and ends it; [`commands`] is what else can be typed,
//! which [`cli`] describes; [`config`] is read before anything else; [`telemetry`] says how it
//! goes.
//!
//! Beside it, [`admin`] provisions and rotates the credentials that all of this logs in with.
//!
//! No room imports one above it: `docs/architecture.md` has the order, and a test holds it.

// The Kafka edge.
pub mod kafka;

// One partition.
pub mod lane;

// Decoding, gathering, folding: pure.
pub mod record;

// The MongoDB edge: one transaction, who may write it, and the client.
pub mod writer;

pub mod checkpoint;

pub mod database;

// The process.
pub mod backoff;
pub mod cli;
pub mod commands;
pub mod config;
pub mod service;
pub mod signals;
pub mod telemetry;

// The users and Secrets that it needs.
pub mod admin;
