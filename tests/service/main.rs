//! The service as its users meet it: a process, a real broker, a real replica set.

mod checkpoints;
mod commands;
mod drain;
mod first_start;
mod freeze;
mod halts;
mod kill;
mod lineage;
mod memory;
mod modes;
mod names;
mod observability;
mod offsets;
mod outage;
mod poison;
mod roles;
mod rotation;
mod security;
mod shutdown;
mod startup;
mod stuck;
mod together;
mod transactions;
mod truncated;
mod wire;
mod workers;
