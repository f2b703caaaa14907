//! What a group of workers drains, as a formula and as a simulation: `docs/capacity.md`.
//!
//! Both are pure: constants that were measured go in, figures come out, and the same figures each
//! time.

mod cores;
mod estimates;
mod rules;
mod runs;
mod scale;

pub mod model;
pub mod page;
pub mod simulation;
