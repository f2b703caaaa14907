//! The tool as a person runs it, on a real broker and a real replica set.

mod accounts;
mod bench;
mod broken;
mod ends;
mod ids;
mod keys;
mod later;
mod objects;
mod present;
mod references;
mod rights;
mod story;
mod transactions;
mod walk;
