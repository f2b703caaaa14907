//! The users of MongoDB and the Secrets with their passwords: provisioned, rotated, looked after.
//!
//! ```text
//! config/users.toml → what is found → next step → effect → what is found → … → proven by a login
//! ```
//!
//! The [`table`] says who may do what. [`plan`] is the middle, and pure: what is true → the next step. At one edge are the
//! [`users`] in MongoDB, and the [`proof`] that a login may do what it should; at the other the [`secrets`], in
//! Kubernetes or a directory, whose contents follow from the table too. [`mod@reconcile`] goes from [`mod@look`] to step to look; the [`sidecar`] does so for as long
//! as the pod lives, and publishes to the service.

pub mod config;
mod failure;
pub mod plan;
pub mod table;

// MongoDB.
pub mod proof;
pub mod users;

// Secrets.
pub mod secrets;

// From what is found to what should be.
pub mod look;
pub mod reconcile;

// The sidecar.
pub mod sidecar;

pub use self::failure::Failure;
