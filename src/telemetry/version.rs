//! What this build is: for `--version`, the metric `build_info` and the driver's handshake.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The source revision: `WORKFLOWS_SINK_REVISION` at build time, else git's commit, else `unknown`.
pub const REVISION: &str = env!("WORKFLOWS_SINK_REVISION");

/// Both, as `--version` prints them.
pub const VERSION_AND_REVISION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("WORKFLOWS_SINK_REVISION"),
    ")"
);
