//! What `make bench` shares with the benches of the pure parts, and what follows from its figures.

pub mod capacity;
pub mod pure;
