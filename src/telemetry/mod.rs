//! What the process says of itself: metrics, health, the log, its version.

pub mod causes;
pub mod code;
mod cut;
pub mod health;
mod http;
pub mod logging;
pub mod metrics;
pub mod probes;
pub mod rejected;
pub mod reminder;
pub mod verbose;
pub mod version;
