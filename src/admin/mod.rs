//! The users of MongoDB and the Secrets with their passwords: provisioned, rotated, kept in order.
//!
//! ```text
//! config/users.toml → what is found → next step → effect → what is found → … → proven by a login
//! ```
//!
//! The [`table`] says who may do what. [`plan`] is the middle, and pure: what is true → the next
//! step. At one edge are the [`users`] in MongoDB, and the [`proof`] that a login may do what it
//! should; at the other the [`secrets`], in Kubernetes or a directory, whose contents follow from
//! the table too. [`mod@reconcile`] alternates [`mod@look`] and step; the [`sidecar`] does so for
//! as long as the pod lives, and publishes to the service.

pub mod cause;
pub mod config;
mod failure;
pub mod plan;
pub mod settings;
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

use std::{fmt::Display, time::Duration};

pub use self::failure::Failure;

/// How long MongoDB or the API server is looked for, and a connection made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long one answer of either may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// The items as messages show them, with commas between.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = (items.into_iter()).map(|item| item.to_string()).collect();
    texts.join(", ")
}
