//! `workflows-sink` consumes workflow entities from Kafka and upserts them into MongoDB, each record
//! applied exactly once and in order.
//!
//! # The way of a record
//!
//! ```text
//! partition queue → lane of that partition (a task)                                    MongoDB
//! BorrowedMessage → Record → decode → Batch → fold → transaction → Settled → offset stored
//! ```
//!
//! The modules stand in that order. A record is described in [`record`]; [`mapping`] says which of its
//! fields mean something, and [`entity`] decodes it. [`batch`] gathers records and [`fold`] makes
//! writes of them. All of these are pure.
//!
//! At the Kafka edge, [`consumer`] has the one thread that polls and a queue for each partition. A
//! [`lane`] drives one partition: it makes a [`claim`] on the partition's [`checkpoint`], reads its
//! queue, and hands batches to the writer.
//!
//! At the MongoDB edge, [`writer`] runs the transaction: the guard on the checkpoint, the writes as
//! raw [`command`]s, the [`dead_letter`]s; small batches of several lanes share one. [`reply`] and [`verdict`] say what an answer means.
//!
//! [`service`] puts it together and ends it; [`config`] is read before anything else.
//!
//! Beside it, [`admin`] provisions and rotates the credentials that all of this logs in with.

pub mod config;

pub mod record;
// Decoding and folding: pure.
pub mod batch;
mod document;
pub mod entity;
pub mod fold;
mod json;
pub mod mapping;

// Kafka.
pub mod consumer;
pub mod fetch;
pub mod preflight;
pub mod statistics;
pub mod topic_id;
pub mod topics;

// One partition.
pub mod budget;
pub mod checkpoint;
pub mod claim;
pub mod lane;

// MongoDB.
pub mod backoff;
pub mod command;
pub mod database;
pub mod dead_letter;
pub mod outage;
pub mod reply;
pub mod verdict;
pub mod writer;

// The users and Secrets that it needs.
pub mod admin;

// The process.
pub mod allocator;
pub mod build;
pub mod cli;
pub mod commands;
pub mod health;
pub mod logging;
pub mod metrics;
pub mod service;
pub mod startup;
