//! Exactly once, in one transaction: the rules of the checkpoint and of the writer, held against a
//! real MongoDB whose answers are lost, late or refusals.

mod claims;
mod dead_letters;
mod failover;
mod fences;
mod group;
mod kind_changes;
mod lost_answers;
mod many_names;
mod refused_writes;
mod slow_batches;
mod support;
mod takeover;
mod transaction;
mod transient_errors;
mod write_modes;
