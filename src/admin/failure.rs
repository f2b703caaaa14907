//! Why a step failed, as far as it decides what comes next. No message holds a secret.

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Passes by itself: retry.
    #[error("{0}")]
    Transient(String),
    /// Somebody else changed the Secret meanwhile: look at it again.
    #[error("the Secret was changed by somebody else meanwhile")]
    Conflict,
    /// Needs a person: it lasts until somebody changes what the message names.
    #[error("{0}")]
    Permanent(String),
}

impl Failure {
    /// The same failure, with the task before its message.
    pub fn while_doing(self, task: &str) -> Failure {
        match self {
            Failure::Transient(why) => Failure::Transient(format!("{task}: {why}")),
            Failure::Conflict => Failure::Conflict,
            Failure::Permanent(why) => Failure::Permanent(format!("{task}: {why}")),
        }
    }

    /// The value of the metrics' label `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Failure::Transient(_) => "away",
            Failure::Conflict => "moved",
            Failure::Permanent(_) => "wrong",
        }
    }
}
