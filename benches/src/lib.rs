//! What `make bench` shares with the benches of the pure parts.

pub mod pure;
